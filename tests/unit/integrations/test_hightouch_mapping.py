"""Hightouch's words, numbers and error bodies become ours; pure functions only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from conductor.sdk import (
    Absent,
    ErrorClass,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Found,
    Observation,
    UnreadableError,
)
from integrations.hightouch import overview
from integrations.hightouch.config import Connection, SyncOutputs, SyncSettings
from integrations.hightouch.integration import scope_of
from integrations.hightouch.mapping import STATES, failure_class, is_active, observe, pick, state_of
from integrations.hightouch.payload import Page, Rows, SyncRun, error_words, normal_id, parse_run_page, parse_sync_page

PERMIT_AT = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


def seen_of(run: SyncRun) -> Observation:
    return observe(run, sync_id="1001", link=None, redact=lambda text: text)


def run_at(run_id: int, offset_s: float) -> SyncRun:
    return SyncRun(id=str(run_id), status="queued", created_at=PERMIT_AT + timedelta(seconds=offset_s))


def picked(*runs: SyncRun, newest_before: int = 100) -> FindAnswer:
    return pick(runs, newest_before=newest_before, permit_at=PERMIT_AT, make_ref=lambda run: ExternalRef(id=run.id))


@pytest.mark.parametrize("value", ["1234567890", 1234567890, 1234567890.0, " 1234567890 ", "01234567890"])
def test_an_id_is_the_same_text_from_every_spelling(value: object) -> None:
    assert normal_id(value) == "1234567890"


@pytest.mark.parametrize("value", [None, True, "", "abc", -1, 0, 1.5, "1e9", "٣", {}, [1], 10**30, "9" * 5000, 1e300])
def test_what_is_no_id_is_not_made_into_one(value: object) -> None:
    assert normal_id(value) is None


@pytest.mark.parametrize(("word", "state"), STATES.items())
def test_a_known_word_means_its_state_in_any_case(word: str, state: ExternalState) -> None:
    assert state_of(word) is state
    assert state_of(word.upper()) is state


def test_an_unknown_word_stays_unrecognised_and_is_kept() -> None:
    seen = seen_of(SyncRun(id="1", status="Zorbing", finished_at=PERMIT_AT))
    assert (seen.state, seen.word, seen.ended_at, seen.outputs) == (ExternalState.UNRECOGNISED, "Zorbing", None, {})


def test_a_warning_carries_the_rejected_rows_and_the_vendors_words() -> None:
    run = SyncRun(
        id="7",
        status="warning",
        error="3 rows were rejected: invalid e-mail",
        query_size=20,
        successful=Rows(added=10, changed=5, removed=2),
        failed=Rows(added=2, changed=1, removed=0),
    )
    seen = seen_of(run)
    assert seen.state is ExternalState.WARNED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.DATA
    assert seen.error.message == "3 rows were rejected: invalid e-mail"
    assert seen.error.detail == "3 rows rejected: 2 added, 1 changed, 0 removed"
    outputs = SyncOutputs.model_validate(dict(seen.outputs))
    assert (outputs.run_id, outputs.query_size, outputs.rows_synced, outputs.rows_rejected) == ("7", 20, 17, 3)
    assert (outputs.rejected_added, outputs.rejected_changed, outputs.rejected_removed) == (2, 1, 0)


def test_a_warning_without_words_is_told_by_its_counts() -> None:
    seen = seen_of(SyncRun(id="7", status="warning", failed=Rows(added=4)))
    assert seen.error is not None
    assert seen.error.message == "4 rows rejected: 4 added, 0 changed, 0 removed"


def test_a_success_that_counts_rejected_rows_is_not_green() -> None:
    assert seen_of(SyncRun(id="7", status="success", failed=Rows(added=1))).state is ExternalState.WARNED
    assert seen_of(SyncRun(id="7", status="success", failed=Rows(added=0))).state is ExternalState.SUCCEEDED


def test_numbers_that_were_not_given_are_null_and_not_zero() -> None:
    outputs = SyncOutputs.model_validate(dict(seen_of(SyncRun(id="7", status="success")).outputs))
    assert outputs.rows_synced is None
    assert outputs.rows_rejected is None


def test_an_interrupted_run_failed_and_may_work_later() -> None:
    seen = seen_of(SyncRun(id="7", status="interrupted"))
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.TRANSIENT
    assert seen.error.message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("429 Too Many Requests from Salesforce", ErrorClass.QUOTA),
        ("Invalid credentials for the source", ErrorClass.AUTH),
        ("The request timed out", ErrorClass.TRANSIENT),
        ('relation "mart.contacts" does not exist', ErrorClass.DATA),
        ("something odd", ErrorClass.UNKNOWN),
        ("", ErrorClass.UNKNOWN),
    ],
)
def test_a_failure_is_classed_by_the_vendors_words(words: str, expected: ErrorClass) -> None:
    assert failure_class(words) is expected


def test_the_marker_changes_with_progress_only() -> None:
    first = SyncRun(id="7", status="processing", completion_ratio=0.2, successful=Rows(added=1))
    more = SyncRun(id="7", status="processing", completion_ratio=0.2, successful=Rows(added=2))
    assert seen_of(first).marker == seen_of(first).marker != seen_of(more).marker


def test_an_unknown_word_occupies_the_sync_until_the_run_has_ended() -> None:
    assert is_active(SyncRun(id="7", status="zorbing"))
    assert not is_active(SyncRun(id="7", status="zorbing", finished_at=PERMIT_AT))
    assert not is_active(SyncRun(id="7", status="warning"))


def test_a_run_object_is_read_leniently() -> None:
    row = {
        "id": 5,
        "status": "processing",
        "createdAt": "2026-01-05T06:00:00.000Z",
        "startedAt": "rubbish",
        "finishedAt": None,
        "completionRatio": 7,
        "querySize": "12",
        "error": {"message": "slow"},
        "plannedRows": {"addedCount": 3, "changedCount": None, "removedCount": -1},
        "somethingNew": [1],
    }
    page = parse_run_page({"data": [row], "hasMore": False})
    assert page.runs == (
        SyncRun(
            id="5",
            status="processing",
            created_at=PERMIT_AT,
            completion_ratio=1.0,
            query_size=12,
            error="slow",
            planned=Rows(added=3),
        ),
    )


@pytest.mark.parametrize("body", [None, [], {}, {"data": None}, {"data": {}}, "text", 7])
def test_an_answer_without_a_list_is_unreadable(body: object) -> None:
    with pytest.raises(UnreadableError):
        parse_run_page(body)
    with pytest.raises(UnreadableError):
        parse_sync_page(body)


def test_rows_without_id_or_status_are_counted_as_unreadable() -> None:
    page = parse_run_page({"data": [None, {"id": 1}, {"status": "queued"}, {"id": 2, "status": "queued"}]})
    assert (len(page.runs), page.length, page.unreadable, page.is_last) == (1, 4, 3, False)


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (
            'HTTP 422: {"message": "Validation failed", "details": {"sync": "is disabled"}}',
            "422",
            'Validation failed: {"sync": "is disabled"}',
        ),
        ('HTTP 429: {"error": "Too many requests"}', "429", "Too many requests"),
        ("HTTP 401: Unauthorized", "401", "Unauthorized"),
        ('HTTP 500: "Internal error"', "500", "Internal error"),
        ('HTTP 400: {"error": {"message": "bad"}}', "400", "bad"),
        ('HTTP 422: {"message": "cut o', "422", '{"message": "cut o'),
        ("HTTP 404", "404", ""),
        ("the answer was lost", "", "the answer was lost"),
    ],
)
def test_error_bodies_are_read_in_all_shapes(text: str, status: str, words: str) -> None:
    assert error_words(text) == (status, words)


def test_the_order_of_a_list_is_read_off_the_answer() -> None:
    def page(*ids: int) -> Page:
        runs = tuple(SyncRun(id=str(run_id), status="success") for run_id in ids)
        return Page(runs=runs, length=len(runs), unreadable=0, is_last=False)

    assert page(9, 8, 5).is_newest_first
    assert page(9, 8, 5).reaches(5)
    assert not page(9, 8, 5).reaches(4)
    assert not page(5, 8, 9).is_newest_first
    assert not page(5, 8, 9).reaches(9)
    assert not page(9).is_newest_first


def test_the_only_run_of_the_right_age_is_ours_by_inference() -> None:
    answer = picked(run_at(102, 2), run_at(100, -300))
    assert isinstance(answer, Found)
    assert (answer.ref.id, answer.is_inferred) == ("102", True)


def test_two_runs_of_the_right_age_are_nobodys() -> None:
    assert isinstance(picked(run_at(103, 9), run_at(102, 2)), FindUnknown)


def test_no_newer_run_is_absent() -> None:
    assert isinstance(picked(run_at(100, -300)), Absent)
    assert isinstance(picked(), Absent)


def test_a_run_from_between_baseline_and_permit_is_not_ours() -> None:
    assert isinstance(picked(run_at(101, -90)), Absent)


def test_a_run_created_by_a_slow_vendor_clock_is_still_ours() -> None:
    assert isinstance(picked(run_at(101, -30)), Found)


def test_a_run_from_an_hour_later_is_neither_ours_nor_proof_of_absence() -> None:
    assert isinstance(picked(run_at(105, 3600)), FindUnknown)


def test_a_scheduled_run_from_an_hour_later_does_not_hide_ours() -> None:
    answer = picked(run_at(105, 3600), run_at(102, 2))
    assert isinstance(answer, Found)
    assert answer.ref.id == "102"


def test_a_newer_run_without_a_readable_time_makes_the_answer_unknown() -> None:
    assert isinstance(picked(SyncRun(id="102", status="queued")), FindUnknown)


@pytest.mark.parametrize("value", [1001, "1001", " 1001 "])
def test_a_sync_is_named_by_number_or_text_alike(value: object) -> None:
    settings = SyncSettings.model_validate({"sync_id": value}).model_dump(mode="json")
    assert settings["sync_id"] == "1001"
    assert scope_of(settings) == "sync:1001"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sync_id": 1, "sync_slug": "a"},
        {"sync_id": "contacts"},
        {"sync_id": True},
        {"sync_id": 0},
        {"sync_slug": ""},
    ],
)
def test_settings_name_exactly_one_sync(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SyncSettings.model_validate(settings)


def test_a_slug_is_a_scope_of_its_own() -> None:
    assert scope_of(SyncSettings(sync_slug="contacts").model_dump(mode="json")) == "slug:contacts"


def test_the_address_loses_its_slash_and_the_key_is_not_printed() -> None:
    connection = Connection.model_validate({"api_key": "hush-hush", "base_url": "https://api.hightouch.io/api/v1/"})
    assert connection.base_url == "https://api.hightouch.io/api/v1"
    assert "hush-hush" not in repr(connection)


def test_the_overview_confirms_only_the_same_active_word_and_only_for_a_while() -> None:
    ref = ExternalRef(id="7", data={"sync_id": "1001"})
    seen = seen_of(SyncRun(id="7", status="processing", completion_ratio=0.5, started_at=PERMIT_AT))
    kept = overview.remember(ref, seen, now=PERMIT_AT)
    again = overview.unchanged(kept, "processing", now=PERMIT_AT + timedelta(seconds=60))
    assert again == seen
    assert overview.unchanged(kept, "reporting", now=PERMIT_AT + timedelta(seconds=60)) is None
    assert overview.unchanged(kept, None, now=PERMIT_AT + timedelta(seconds=60)) is None
    assert overview.unchanged(kept, "processing", now=PERMIT_AT + timedelta(seconds=overview.RELOOK_S)) is None
    assert overview.unchanged(ref, "processing", now=PERMIT_AT) is None


def test_the_overview_remembers_no_final_state() -> None:
    ref = ExternalRef(id="7", data={"sync_id": "1001"})
    assert overview.remember(ref, seen_of(SyncRun(id="7", status="success")), now=PERMIT_AT) == ref
