"""Fivetran's mapping as tables: readings, memory and time in; our state out. No HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from conductor.core.keys import attempt_key
from conductor.sdk import (
    Absent,
    ErrorClass,
    ExternalRef,
    ExternalState,
    FindUnknown,
    Found,
    RejectedError,
    Request,
    UnreadableError,
)
from integrations.fivetran.config import SyncOutputs, SyncSettings
from integrations.fivetran.mapping import begun_after, judge, recognise, refuse_unready
from integrations.fivetran.payloads import (
    Notice,
    Reading,
    as_stamp,
    is_accepted,
    read_connection,
    read_page,
    read_starts,
)
from integrations.fivetran.trace import Trace, baseline_of, ref_of_request, with_trace

T0 = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
RECONNECT = Notice(code="reconnect", message="Reconnect", details="password expired")
BEFORE = Reading(
    connection_id="abc_def",
    schema_name="pg_sales",
    schedule_type="auto",
    is_paused=False,
    setup_state="connected",
    sync_state="scheduled",
    succeeded_at=T0 - timedelta(hours=6),
    failed_at=T0 - timedelta(hours=3),
    rescheduled_for=None,
)


def _at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def _ref(before: Reading = BEFORE, *, force: bool = False, **memory: object) -> ExternalRef:
    settings = SyncSettings(connection_id="abc_def", force=force).model_dump(mode="json")
    request = Request(
        key=attempt_key(run="r", node="sync", attempt_no=1), operation="sync", settings=settings, permit_at=T0
    )
    ref = ref_of_request(request, baseline_of(before, read_at=T0, force=force), triggered_at=T0)
    return with_trace(ref, replace(Trace.of(ref.data), **memory))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("succeeded_s", "failed_s", "state", "ended_s"),
    [
        (90.0, None, ExternalState.SUCCEEDED, 90.0),
        (None, 90.0, ExternalState.FAILED, 90.0),
        (90.0, 30.0, ExternalState.SUCCEEDED, 90.0),
        (30.0, 90.0, ExternalState.FAILED, 90.0),
        (90.0, 90.0, ExternalState.FAILED, 90.0),
    ],
)
def test_each_stamp_is_compared_with_its_own_baseline_and_the_later_one_wins(
    succeeded_s: float | None, failed_s: float | None, state: ExternalState, ended_s: float
) -> None:
    reading = replace(
        BEFORE,
        succeeded_at=BEFORE.succeeded_at if succeeded_s is None else _at(succeeded_s),
        failed_at=BEFORE.failed_at if failed_s is None else _at(failed_s),
    )
    seen = judge(_ref(), reading, _at(100))
    assert (seen.state, seen.ended_at) == (state, _at(ended_s))


def test_a_first_sync_is_seen_because_null_to_a_value_is_a_change() -> None:
    never = replace(BEFORE, succeeded_at=None, failed_at=None)
    assert judge(_ref(never), never, _at(5)).state is ExternalState.QUEUED
    assert judge(_ref(never), replace(never, succeeded_at=_at(60)), _at(61)).state is ExternalState.SUCCEEDED


def test_a_failure_newer_than_the_last_success_is_not_hidden_by_a_common_baseline() -> None:
    before = replace(BEFORE, succeeded_at=T0 - timedelta(minutes=1), failed_at=T0 - timedelta(days=30))
    assert judge(_ref(before), replace(before, failed_at=_at(50)), _at(60)).state is ExternalState.FAILED


def test_an_old_failure_does_not_fail_a_later_success() -> None:
    seen = judge(_ref(), replace(BEFORE, succeeded_at=_at(50)), _at(60))
    assert seen.state is ExternalState.SUCCEEDED
    assert SyncOutputs.model_validate(dict(seen.outputs)).schema_name == "pg_sales"


@pytest.mark.parametrize("stamp", [None, T0 - timedelta(hours=7), T0 - timedelta(hours=6)])
def test_a_stamp_that_disappears_or_goes_back_ends_nothing(stamp: datetime | None) -> None:
    assert not judge(_ref(), replace(BEFORE, succeeded_at=stamp), _at(60)).state.is_final


def test_a_stamp_from_long_before_the_trigger_is_not_our_end() -> None:
    forgotten = replace(BEFORE, succeeded_at=None)
    assert not judge(_ref(forgotten), BEFORE, _at(60)).state.is_final


def test_a_sync_that_ended_just_before_the_trigger_is_not_ours_while_another_runs() -> None:
    reading = replace(BEFORE, failed_at=_at(-2), sync_state="syncing")
    assert judge(_ref(), reading, _at(10)).state is ExternalState.RUNNING


def test_a_forced_start_does_not_take_the_end_of_the_sync_that_it_replaced() -> None:
    ref = _ref(replace(BEFORE, sync_state="syncing"), force=True)
    ended = replace(BEFORE, succeeded_at=_at(1), sync_state="syncing")
    assert judge(ref, ended, _at(2)).state is ExternalState.RUNNING
    assert not judge(ref, replace(BEFORE, succeeded_at=_at(-1)), _at(2)).state.is_final
    assert judge(ref, replace(BEFORE, succeeded_at=_at(90)), _at(91)).state is ExternalState.SUCCEEDED


def test_scheduled_right_after_the_trigger_never_means_finished() -> None:
    assert judge(_ref(), BEFORE, _at(1)).state is ExternalState.QUEUED


def test_a_sync_that_stops_without_a_stamp_vanishes_after_some_polls_and_is_never_a_success() -> None:
    ref, states = _ref(saw_syncing=True), list[ExternalState]()
    seen = judge(ref, replace(BEFORE, sync_state="syncing"), _at(90))
    for second in (0, 15, 30, 45, 60, 75):
        seen = judge(ref, BEFORE, _at(100 + second))
        states.append(seen.state)
        ref = seen.ref or ref
    assert states == [ExternalState.RUNNING] * 4 + [ExternalState.VANISHED] * 2
    assert seen.error is not None
    assert "cancelled" in seen.error.message


def test_many_quick_polls_do_not_make_a_sync_vanish_at_once() -> None:
    ref = _ref(saw_syncing=True)
    seen = judge(ref, replace(BEFORE, sync_state="syncing"), _at(90))
    for poll in range(20):
        seen = judge(ref, BEFORE, _at(100 + poll))
        ref = seen.ref or ref
    assert seen.state is ExternalState.RUNNING


def test_a_sync_that_goes_on_after_a_pause_in_syncing_is_followed_again() -> None:
    ref = _ref(saw_syncing=True, idle_polls=3, idle_since=_at(10))
    seen = judge(ref, replace(BEFORE, sync_state="syncing"), _at(60))
    assert seen.ref is not None
    assert Trace.of(seen.ref.data).idle_polls == 0


def test_a_trigger_that_shows_nothing_ends_at_the_start_limit() -> None:
    ref = _ref(idle_polls=10, idle_since=_at(0))
    assert judge(ref, BEFORE, _at(3599)).state is ExternalState.QUEUED
    assert judge(ref, BEFORE, _at(3600)).state is ExternalState.VANISHED


def test_rescheduled_is_followed_on_an_automatic_schedule() -> None:
    reading = replace(BEFORE, sync_state="rescheduled", rescheduled_for=_at(86_400))
    seen = judge(_ref(saw_syncing=True), reading, _at(60))
    assert (seen.state, seen.word) == (ExternalState.QUEUED, "rescheduled")
    assert "2026-01-06" in (seen.message or "")


def test_rescheduled_fails_on_a_manual_schedule_so_that_a_retry_triggers_again() -> None:
    reading = replace(BEFORE, sync_state="rescheduled", rescheduled_for=_at(3600), schedule_type="manual")
    seen = judge(_ref(saw_syncing=True), reading, _at(60))
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.QUOTA
    assert "2026-01-05T07:00" in seen.error.message


def test_a_connection_that_was_put_off_before_the_trigger_is_not_put_off_again_by_it() -> None:
    before = replace(BEFORE, sync_state="rescheduled", rescheduled_for=_at(3600), schedule_type="manual")
    assert judge(_ref(before), before, _at(2)).state is ExternalState.QUEUED
    later = replace(before, rescheduled_for=_at(7200))
    assert judge(_ref(before), later, _at(60)).state is ExternalState.FAILED
    assert judge(_ref(before, saw_syncing=True), before, _at(60)).state is ExternalState.FAILED


@pytest.mark.parametrize(
    ("tasks", "error_class"), [((RECONNECT,), ErrorClass.AUTH), ((), ErrorClass.CONFIG)], ids=["reconnect", "no words"]
)
def test_a_connection_that_breaks_during_the_run_fails_it(tasks: tuple[Notice, ...], error_class: ErrorClass) -> None:
    reading = replace(BEFORE, setup_state="broken", tasks=tasks)
    seen = judge(_ref(), reading, _at(60))
    assert seen.error is not None
    assert (seen.state, seen.error.error_class) == (ExternalState.FAILED, error_class)


def test_a_broken_connection_that_still_syncs_is_followed() -> None:
    reading = replace(BEFORE, setup_state="broken", sync_state="syncing")
    assert judge(_ref(), reading, _at(60)).state is ExternalState.RUNNING


def test_a_failure_carries_the_words_of_the_tasks() -> None:
    reading = replace(BEFORE, failed_at=_at(50), setup_state="broken", tasks=(RECONNECT,))
    error = judge(_ref(), reading, _at(60)).error
    assert error is not None
    assert "password expired" in error.message
    assert error.code == "reconnect"


@pytest.mark.parametrize("word", ["zorbing", "SYNCING", "done", "success", "completed"])
def test_an_undocumented_sync_state_is_unrecognised(word: str) -> None:
    seen = judge(_ref(), replace(BEFORE, sync_state=word), _at(60))
    assert (seen.state, seen.word) == (ExternalState.UNRECOGNISED, word)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"setup_state": "incomplete"}, "incomplete"),
        ({"setup_state": "broken", "tasks": (RECONNECT,)}, "broken"),
        ({"is_paused": True}, "paused"),
        ({"sync_state": "paused"}, "paused"),
        ({"is_paused": True, "sync_state": "syncing"}, "paused"),
    ],
)
def test_connections_that_cannot_sync_are_told_apart(change: dict[str, object], code: str) -> None:
    with pytest.raises(RejectedError) as caught:
        refuse_unready(replace(BEFORE, **change), unpause=False)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert "fivetran.com/dashboard" in str(caught.value)


def test_the_id_is_the_same_whenever_it_is_derived_and_survives_json() -> None:
    assert _ref().id == _ref().id == f"abc_def:{attempt_key(run='r', node='sync', attempt_no=1)}"
    trace = replace(Trace.of(_ref().data), started_at=_at(3), idle_since=_at(4), saw_syncing=True)
    assert Trace.of(trace.data()) == trace


def test_a_foreign_sync_is_in_the_way_and_can_be_followed_unless_it_is_to_be_replaced() -> None:
    busy = replace(BEFORE, sync_state="syncing")
    baseline = baseline_of(busy, read_at=T0, force=False)
    assert baseline.is_busy
    assert baseline.running is not None
    again = baseline_of(busy, read_at=_at(60), force=False)
    assert again.running is not None
    assert again.running.id == baseline.running.id
    assert judge(baseline.running, replace(BEFORE, succeeded_at=_at(9)), _at(10)).state is ExternalState.SUCCEEDED
    assert not baseline_of(busy, read_at=T0, force=True).is_busy


@pytest.mark.parametrize(
    ("reading", "starts", "expected"),
    [
        (BEFORE, (_at(2),), Found),
        (BEFORE, (_at(2), _at(40)), FindUnknown),
        (replace(BEFORE, sync_state="syncing"), (), Found),
        (replace(BEFORE, sync_state="syncing"), None, Found),
        (replace(BEFORE, failed_at=_at(30)), None, Found),
        (replace(BEFORE, sync_state="rescheduled", rescheduled_for=_at(900)), None, Found),
        (BEFORE, (), Absent),
        (BEFORE, None, Absent),
        (replace(BEFORE, sync_state="zorbing"), (), FindUnknown),
        (replace(BEFORE, is_paused=True, sync_state="paused"), (), FindUnknown),
    ],
)
def test_a_lost_start_is_recognised_by_history_state_or_stamp(
    reading: Reading, starts: tuple[datetime, ...] | None, expected: type
) -> None:
    answer = recognise(_ref(), reading, starts=starts)
    assert isinstance(answer, expected), answer
    assert not isinstance(answer, Found) or answer.is_inferred


def test_an_unreadable_history_is_never_an_absence() -> None:
    assert isinstance(recognise(_ref(), BEFORE, starts=None, is_blind=True), FindUnknown)


def test_after_a_forced_start_over_a_running_sync_only_the_history_proves_anything() -> None:
    ref = _ref(replace(BEFORE, sync_state="syncing"), force=True)
    assert isinstance(recognise(ref, replace(BEFORE, sync_state="syncing"), starts=()), FindUnknown)
    assert isinstance(recognise(ref, replace(BEFORE, sync_state="syncing"), starts=(_at(1),)), Found)


def test_only_syncs_from_after_the_permit_and_the_baseline_stamps_are_candidates() -> None:
    trace = Trace.of(_ref(replace(BEFORE, failed_at=_at(-20))).data)
    starts = (_at(-90), _at(-30), _at(-20), _at(-10), _at(3), _at(999))
    assert begun_after(trace, starts, since=T0, until=_at(300)) == (_at(-10), _at(3))


def test_stamps_are_utc_with_or_without_a_zone() -> None:
    assert as_stamp("2026-01-05T06:00:00.000000Z", field="x") == T0
    assert as_stamp("2026-01-05T06:00:00", field="x") == T0
    assert as_stamp("2026-01-05T08:00:00+02:00", field="x") == T0
    wrongs: tuple[object, ...] = ("yesterday", "", 12, True, [], "2026-13-01T00:00:00Z")
    for wrong in wrongs:
        with pytest.raises(UnreadableError):
            as_stamp(wrong, field="succeeded_at")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {},
        {"id": "a", "status": None},
        {"id": "a", "status": {"setup_state": "connected"}},
        {"id": "a", "status": {"setup_state": "connected", "sync_state": 3}},
        {"id": "a", "status": {"setup_state": "connected", "sync_state": "scheduled"}, "failed_at": 17},
    ],
)
def test_a_connection_of_the_wrong_shape_is_unreadable(data: object) -> None:
    with pytest.raises(UnreadableError):
        read_connection(data)


def test_an_unreadable_connection_keeps_its_configuration_to_itself() -> None:
    with pytest.raises(UnreadableError) as caught:
        read_connection({"id": "a", "config": {"password": "hunter22"}})
    assert "hunter22" not in caught.value.raw


def test_what_is_added_or_left_out_does_not_hurt() -> None:
    status = {"setup_state": "connected", "sync_state": "scheduled", "tasks": [None, {"code": 5}], "new": {}}
    reading = read_connection({"id": "a", "status": status, "unheard_of": [1]})
    assert (reading.succeeded_at, reading.tasks) == (None, (Notice(code="5", message="", details=""),))


@pytest.mark.parametrize(
    "body", [{}, {"data": None}, {"data": {"items": {}}}, {"data": {"items": [], "next_cursor": 5}}]
)
def test_a_list_of_the_wrong_shape_is_unreadable(body: dict[str, object]) -> None:
    with pytest.raises(UnreadableError):
        read_page(body)


@pytest.mark.parametrize("name", ["sync_start", "started_at", "start_time", "startTime"])
def test_the_start_in_a_history_item_is_found_whatever_its_field_is_called(name: str) -> None:
    items: list[dict[str, object]] = [
        {"status": "started", name: "2026-01-05T06:00:00Z"},
        {name: None},
        {"restart_count": 3},
    ]
    assert read_starts(items) == (T0,)


@pytest.mark.parametrize(
    "body", [{}, {"code": "success"}, {"code": None}, {"code": "NotFound"}, {"message": "Success"}]
)
def test_only_the_documented_answer_says_that_a_trigger_was_taken(body: dict[str, object]) -> None:
    assert not is_accepted(body)
    assert is_accepted({"code": "Success", "message": "x"})
