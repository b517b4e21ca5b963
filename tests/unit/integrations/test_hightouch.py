"""The integration keeps its promises against the sandbox's lags, foreign runs, refusals and odd answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from conductor.sdk import (
    Absent,
    AmbiguousError,
    AuthError,
    Effect,
    ErrorClass,
    ExternalRef,
    ExternalState,
    Fault,
    FindUnknown,
    Found,
    IntegrationError,
    Observation,
    RefusedError,
    RejectedError,
    Request,
    UnreadableError,
)
from conductor.sdk.testing import FakeClock, context_for
from integrations.hightouch import plugin
from integrations.hightouch.config import SyncSettings
from integrations.hightouch.integration import CAPABILITIES, Hightouch
from integrations.hightouch.sandbox import ErrorShape, HightouchSandbox

T = TypeVar("T")
RUNS = "GET /syncs/{id}/runs"


def run(coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run(coroutine)


class World:
    """A clock, a sandbox and the integration on both."""

    def __init__(self, tmp_path: Path, *, run_s: float | None = None, workspace: str | None = None) -> None:
        self.clock = FakeClock()
        self.sandbox = HightouchSandbox(self.clock, run_s=run_s)
        settings = {**self.sandbox.connection("http://hightouch.test"), "workspace": workspace}
        built = plugin.build(
            context_for(self.sandbox.app, clock=self.clock, state_dir=tmp_path),
            plugin.connection.model_validate(settings),
        )
        assert isinstance(built, Hightouch)
        self.integration = built

    def prepared(self, *, settings: SyncSettings | None = None) -> Request:
        request = Request(
            key="cnd-n-1",
            operation="sync",
            settings=(settings or SyncSettings(sync_id=1001)).model_dump(mode="json"),
        )
        baseline = run(self.integration.prepare(request))
        return replace(request, baseline=baseline, permit_at=self.clock.now())

    def started(self, *, sync_id: int = 1001) -> ExternalRef:
        return run(self.integration.start(self.prepared(settings=SyncSettings(sync_id=sync_id))))

    def lost(self) -> Request:
        """A start that the vendor accepted and whose answer was lost."""
        request = self.prepared()
        self.sandbox.faults.add(Fault(effect=Effect.LOSE_ANSWER, path="trigger"))
        with pytest.raises(AmbiguousError):
            run(self.integration.start(request))
        return request

    def find(self, request: Request) -> Found | Absent | FindUnknown:
        return run(self.integration.find(request, request.baseline))

    def poll(self, *refs: ExternalRef) -> dict[str, Observation]:
        return dict(run(self.integration.poll(refs)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_text_id_of_the_trigger_and_the_number_of_the_run_are_one_ref(world: World) -> None:
    ref = world.started()
    assert world.sandbox.ledger[0].run == ref.id
    world.sandbox.advance("1001", ExternalState.SUCCEEDED)
    seen = world.poll(ref)[ref.id]
    assert seen.state is ExternalState.SUCCEEDED
    assert seen.outputs["run_id"] == ref.id


def test_a_slug_is_triggered_by_slug_and_polled_by_number(world: World) -> None:
    request = world.prepared(settings=SyncSettings(sync_slug="audiences-to-ads"))
    ref = run(world.integration.start(request))
    assert ref.data["sync_id"] == "1002"
    assert world.sandbox.ledger[0].scope == "1002"
    assert world.sandbox.requests["POST /syncs/trigger"] == 1


def test_a_slug_is_found_where_the_vendor_ignores_the_filter(world: World) -> None:
    world.sandbox.slug_filter_works = False
    for number in range(2001, 2151):
        world.sandbox.add_sync(number, f"other-{number}")
    world.sandbox.add_sync(3001, "last-one")
    request = world.prepared(settings=SyncSettings(sync_slug="last-one"))
    assert request.baseline is not None
    assert request.baseline.data["sync_id"] == "3001"


def test_an_unknown_slug_is_rejected_before_anything_is_sent(world: World) -> None:
    with pytest.raises(RejectedError, match="no sync with this slug; correct sync_slug"):
        world.prepared(settings=SyncSettings(sync_slug="nowhere"))


def test_a_start_without_a_baseline_sends_nothing(world: World) -> None:
    request = Request(key="k", operation="sync", settings=SyncSettings(sync_id=1001).model_dump(mode="json"))
    with pytest.raises(RejectedError):
        run(world.integration.start(request))
    assert not world.sandbox.requests


def test_full_resync_reaches_the_vendor(world: World) -> None:
    request = world.prepared(settings=SyncSettings(sync_id=1001, full_resync=True))
    run(world.integration.start(request))
    assert [made.is_full for made in world.sandbox._syncs[1001].runs] == [True]


def test_a_busy_sync_is_seen_before_the_start_and_names_the_run_in_the_way(world: World) -> None:
    foreign = world.sandbox.inject("1001", state=ExternalState.RUNNING)
    baseline = world.prepared().baseline
    assert baseline is not None
    assert baseline.is_busy
    assert baseline.running is not None
    assert baseline.running.id == foreign
    assert world.poll(baseline.running)[foreign].state is ExternalState.RUNNING


def test_an_idle_sync_is_not_busy_whatever_its_last_run_said(world: World) -> None:
    world.sandbox.inject("1001", state=ExternalState.WARNED)
    baseline = world.prepared().baseline
    assert baseline is not None
    assert not baseline.is_busy
    assert baseline.running is None


@pytest.mark.parametrize("is_newest_first", [True, False])
@pytest.mark.parametrize("has_more_is_sent", [True, False])
def test_the_baseline_and_the_look_up_reach_the_newest_run_in_every_revision(
    tmp_path: Path, *, is_newest_first: bool, has_more_is_sent: bool
) -> None:
    world = World(tmp_path)
    world.sandbox.is_newest_first, world.sandbox.has_more_is_sent = is_newest_first, has_more_is_sent
    last = [world.sandbox.inject("1001", state=ExternalState.SUCCEEDED, age_s=5000) for _ in range(250)][-1]
    request = world.lost()
    assert request.baseline is not None
    assert request.baseline.data["newest_run_id"] == last
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.is_inferred
    assert answer.ref.id == world.sandbox.ledger[0].run


def test_newest_first_a_long_history_costs_one_request(world: World) -> None:
    for _ in range(250):
        world.sandbox.inject("1001", state=ExternalState.SUCCEEDED, age_s=5000)
    request = world.lost()
    world.find(request)
    assert world.sandbox.requests[RUNS] == 2


def test_a_lost_start_with_a_foreign_run_beside_it_is_unknown(world: World) -> None:
    request = world.lost()
    world.sandbox.inject("1001")
    assert isinstance(world.find(request), FindUnknown)


def test_a_lost_start_is_found_among_runs_that_came_much_later(world: World) -> None:
    request = world.lost()
    world.clock.advance(7200)
    world.sandbox.inject("1001")
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.ref.id == world.sandbox.ledger[0].run


def test_an_invisible_run_is_absent_first_and_found_later(world: World) -> None:
    world.sandbox.hidden_s = 60
    request = world.lost()
    assert isinstance(world.find(request), Absent)
    world.clock.advance(61)
    assert isinstance(world.find(request), Found)


def test_the_baseline_counts_even_runs_that_ended_before_the_permit(world: World) -> None:
    world.sandbox.inject("1001", state=ExternalState.SUCCEEDED)
    request = world.prepared()
    world.sandbox.faults.add(Fault(effect=Effect.LOSE_REQUEST, path="trigger"))
    with pytest.raises(AmbiguousError):
        run(world.integration.start(request))
    assert isinstance(world.find(request), Absent)


def test_runs_that_arrive_while_paging_hide_nothing(world: World) -> None:
    request = world.lost()
    for _ in range(150):
        world.sandbox.inject("1001", state=ExternalState.SUCCEEDED, age_s=-5000)
    arrived: list[str] = []

    def one_more(sync_id: str) -> None:
        if len(arrived) < 3:
            arrived.append(world.sandbox.inject(sync_id, age_s=-5000))

    world.sandbox.after_page = one_more
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.ref.id == world.sandbox.ledger[0].run


def test_a_list_that_cannot_be_read_whole_is_unknown_and_never_absent(world: World) -> None:
    request = world.lost()
    same_page = b'{"data": [{"id": 9, "status": "success"}], "hasMore": true}'
    for body in (b"{}", b'{"data": [null]}', b'{"data": [{"id": 1}], "hasMore": false}', same_page):
        world.sandbox.faults.add(Fault(effect=Effect.BODY, path="runs", body=body, times=3))
        assert isinstance(world.find(request), FindUnknown)
        world.sandbox.faults.clear()


def test_find_without_a_baseline_is_unknown(world: World) -> None:
    request = replace(world.lost(), baseline=None)
    assert isinstance(world.find(request), FindUnknown)


def test_an_answer_that_names_an_older_run_is_ambiguous(world: World) -> None:
    old = world.sandbox.inject("1001", state=ExternalState.SUCCEEDED)
    request = world.prepared()
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="trigger", body=b'{"id": "%s"}' % old.encode()))
    with pytest.raises(AmbiguousError, match="not newer"):
        run(world.integration.start(request))


def test_a_second_trigger_is_queued_and_not_refused(world: World) -> None:
    first, second = world.started(), world.started()
    assert first.id != second.id
    world.sandbox.advance("1001", ExternalState.QUEUED)
    assert world.poll(second)[second.id].state is ExternalState.QUEUED


@pytest.mark.parametrize("shape", list(ErrorShape))
def test_a_disabled_sync_is_rejected_in_the_vendors_words(world: World, shape: ErrorShape) -> None:
    world.sandbox.error_shape = shape
    world.sandbox.disable("1001")
    with pytest.raises(RejectedError) as caught:
        world.started()
    text = str(caught.value)
    assert text.startswith("test: trigger of sync 1001 failed: HTTP 422: ")
    assert "sync is disabled" in text
    assert text.endswith("; mend the sync in Hightouch, then retry")
    assert caught.value.code == "422"
    assert not world.sandbox.ledger


def test_a_sync_that_does_not_exist_is_rejected(world: World) -> None:
    with pytest.raises(RejectedError, match="check the sync's number"):
        world.started(sync_id=4711)


def test_a_wrong_key_is_an_auth_error_everywhere(tmp_path: Path) -> None:
    world = World(tmp_path)
    connection = {**world.sandbox.connection("http://hightouch.test"), "api_key": "wrong-key"}
    context = context_for(world.sandbox.app, clock=world.clock, state_dir=tmp_path)
    stranger = plugin.build(context, plugin.connection.model_validate(connection))
    with pytest.raises(AuthError, match="check the API key"):
        run(stranger.poll([ExternalRef(id="1", data={"sync_id": "1001"})]))
    health = run(stranger.check())
    assert not health.is_ok
    assert "wrong-key" not in health.message


def test_too_many_requests_without_a_header_is_a_refusal_without_a_wait(world: World) -> None:
    request = world.prepared()
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, status=429, path="trigger", body=b'{"error": "slow down"}'))
    with pytest.raises(RefusedError, match="slow down") as caught:
        run(world.integration.start(request))
    assert caught.value.retry_after_s is None
    assert caught.value.error_class is ErrorClass.QUOTA


def test_six_hundred_polls_never_pass_the_vendors_limit(world: World) -> None:
    ref = world.started()
    world.sandbox.advance("1001", ExternalState.RUNNING)
    for _ in range(600):
        assert world.poll(ref)[ref.id].state is ExternalState.RUNNING
    assert world.sandbox.requests[RUNS] == 601


def test_a_fresh_run_that_is_not_listed_is_not_seen_and_not_lost(world: World) -> None:
    world.sandbox.hidden_polls = 2
    ref = world.started()
    assert world.poll(ref) == {}
    assert world.poll(ref) == {}
    assert world.poll(ref)[ref.id].state is ExternalState.QUEUED


def test_a_run_that_stays_unlisted_past_the_grace_has_vanished(world: World) -> None:
    ref = world.started()
    world.sandbox.forget("1001")
    world.clock.advance(CAPABILITIES.not_found_grace_s - 1)
    assert world.poll(ref) == {}
    world.clock.advance(2)
    seen = world.poll(ref)[ref.id]
    assert seen.state is ExternalState.VANISHED
    assert seen.error is not None


def test_one_empty_answer_about_an_old_run_decides_nothing(world: World) -> None:
    ref = world.started()
    world.sandbox.advance("1001", ExternalState.RUNNING)
    world.clock.advance(3600)
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="runs", body=b'{"data": [], "hasMore": false}'))
    assert world.poll(ref)[ref.id].state is ExternalState.RUNNING


def test_a_deleted_sync_takes_its_run_with_it_after_the_grace(world: World) -> None:
    ref = world.started()
    world.sandbox.delete_sync("1001")
    assert world.poll(ref) == {}
    world.clock.advance(CAPABILITIES.not_found_grace_s)
    assert world.poll(ref)[ref.id].state is ExternalState.VANISHED


def test_a_wrong_address_makes_no_run_vanish(world: World) -> None:
    ref = world.started()
    world.clock.advance(3600)
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, status=404, times=-1))
    with pytest.raises(IntegrationError):
        world.poll(ref)


def test_a_row_without_a_status_decides_nothing(world: World) -> None:
    ref = world.started()
    world.clock.advance(3600)
    body = b'{"data": [{"id": %s}], "hasMore": false}' % ref.id.encode()
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="runs", body=body))
    with pytest.raises(UnreadableError):
        world.poll(ref)


def test_many_runs_of_one_sync_cost_one_request(world: World) -> None:
    refs = [world.started() for _ in range(5)]
    before = world.sandbox.requests[RUNS]
    assert world.poll(*refs).keys() == {ref.id for ref in refs}
    assert world.sandbox.requests[RUNS] == before + 1


def test_a_run_that_fell_off_the_first_page_is_asked_for_by_itself(world: World) -> None:
    old = world.started()
    world.sandbox.advance("1001", ExternalState.SUCCEEDED)
    for _ in range(150):
        world.sandbox.inject("1001", state=ExternalState.SUCCEEDED)
    new = world.started()
    seen = world.poll(old, new)
    assert (seen[old.id].state, seen[new.id].state) == (ExternalState.SUCCEEDED, ExternalState.QUEUED)


def test_one_unreadable_sync_does_not_blind_the_others(world: World) -> None:
    first, second = world.started(sync_id=1001), world.started(sync_id=1002)
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, path="syncs/1001/runs", status=500, times=-1))
    assert world.poll(first, second).keys() == {second.id}
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, path="syncs/1002/runs", status=500, times=-1))
    with pytest.raises(RefusedError):
        world.poll(first, second)


def test_a_ref_without_its_sync_does_not_blind_the_others(world: World) -> None:
    ref = world.started()
    assert world.poll(ExternalRef(id="5"), ref).keys() == {ref.id}
    with pytest.raises(UnreadableError):
        world.poll(ExternalRef(id="5"))


def busy_workspace(world: World, count: int) -> list[ExternalRef]:
    refs = []
    for number in range(5001, 5001 + count):
        world.sandbox.add_sync(number, f"sync-{number}")
        refs.append(world.started(sync_id=number))
        world.sandbox.advance(str(number), ExternalState.RUNNING)
    return refs


def polled(world: World, refs: list[ExternalRef]) -> tuple[dict[str, Observation], list[ExternalRef], int]:
    before = sum(world.sandbox.requests.values())
    seen = world.poll(*refs)
    next_refs = [seen[ref.id].ref or ref if ref.id in seen else ref for ref in refs]
    return seen, next_refs, sum(world.sandbox.requests.values()) - before


def test_many_syncs_that_stand_still_cost_one_request(world: World) -> None:
    refs = busy_workspace(world, 30)
    first, refs, cost = polled(world, refs)
    assert cost == 30
    again, refs, cost = polled(world, refs)
    assert cost == 1
    assert {seen.marker for seen in again.values()} == {seen.marker for seen in first.values()}
    world.sandbox.advance("5007", ExternalState.SUCCEEDED)
    seen, _, cost = polled(world, refs)
    assert cost == 2
    assert [one.state for one in seen.values()].count(ExternalState.SUCCEEDED) == 1


def test_an_overview_that_stands_still_for_ever_hides_an_end_for_two_minutes_at_most(world: World) -> None:
    refs = busy_workspace(world, 12)
    _, refs, _ = polled(world, refs)
    for number in range(5001, 5013):
        world.sandbox.sync_words[str(number)] = "processing"
        world.sandbox.advance(str(number), ExternalState.FAILED)
    seen, refs, _ = polled(world, refs)
    assert {one.state for one in seen.values()} == {ExternalState.RUNNING}
    world.clock.advance(121)
    seen, _, _ = polled(world, refs)
    assert {one.state for one in seen.values()} == {ExternalState.FAILED}


def test_an_overview_never_ends_a_run(world: World) -> None:
    refs = busy_workspace(world, 12)
    _, refs, _ = polled(world, refs)
    for number in range(5001, 5013):
        world.sandbox.sync_words[str(number)] = "success"
    seen, _, _ = polled(world, refs)
    assert {one.state for one in seen.values()} == {ExternalState.RUNNING}


def test_an_unreadable_overview_is_done_without(world: World) -> None:
    refs = busy_workspace(world, 12)
    _, refs, _ = polled(world, refs)
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="/syncs$", body=b"<html>"))
    seen, _, _ = polled(world, refs)
    assert len(seen) == 12


def test_few_syncs_carry_no_memory(world: World) -> None:
    refs = busy_workspace(world, 3)
    seen, _, _ = polled(world, refs)
    assert all(one.ref is None for one in seen.values())


def test_a_run_ends_by_itself_with_rejected_rows(tmp_path: Path) -> None:
    world = World(tmp_path, run_s=30.0)
    world.sandbox.will_end("1001", "warning", rejected=4, error="4 rows have no e-mail")
    ref = world.started()
    words = []
    for _ in range(4):
        world.clock.advance(10)
        words.append(world.poll(ref)[ref.id].word)
    assert words == ["processing", "processing", "warning", "warning"]
    seen = world.poll(ref)[ref.id]
    assert seen.state is ExternalState.WARNED
    assert seen.error is not None
    assert seen.error.message == "4 rows have no e-mail"
    assert (seen.outputs["rows_synced"], seen.outputs["rows_rejected"]) == (11, 4)


def test_logs_hold_the_counts_and_the_error(world: World) -> None:
    ref = world.started()
    world.sandbox.advance("1001", ExternalState.FAILED)
    excerpt = run(world.integration.logs(ref))
    assert excerpt.lines[0] == "status: failed"
    assert any("does not exist" in line for line in excerpt.lines)


def test_logs_of_an_unlisted_run_say_so(world: World) -> None:
    ref = world.started()
    world.sandbox.forget("1001")
    assert "does not list" in run(world.integration.logs(ref)).lines[0]


def test_cancel_says_that_it_cannot_and_what_to_do(world: World) -> None:
    with pytest.raises(RejectedError, match="cannot cancel a run; cancel it in the Hightouch app"):
        run(world.integration.cancel(world.started()))


def test_refs_link_to_the_run_when_the_workspace_is_known(tmp_path: Path) -> None:
    ref = World(tmp_path, workspace="acme").started()
    assert ref.link == f"https://app.hightouch.com/acme/syncs/1001/runs/{ref.id}"
