"""`fivetran.sync` against its sandbox: the traps that the vendor's users fell into."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from conductor.core.keys import attempt_key
from conductor.sdk import (
    Absent,
    AuthError,
    BusyError,
    Context,
    Effect,
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
from integrations.fivetran import plugin
from integrations.fivetran.config import FivetranConnection, SyncSettings
from integrations.fivetran.integration import Fivetran, build
from integrations.fivetran.sandbox import FivetranSandbox
from integrations.fivetran.sandbox_account import Ending

T = TypeVar("T")
LIST, DETAIL, SYNC = (
    "GET /v1/connections",
    "GET /v1/connections/{connection_id}",
    "POST /v1/connections/{connection_id}/sync",
)
PATCH = "PATCH /v1/connections/{connection_id}"


def _run(work: Coroutine[None, None, T]) -> T:
    return asyncio.run(work)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    clock: FakeClock
    sandbox: FivetranSandbox
    fivetran: Fivetran
    context: Context

    def request(self, connection_id: str = "c1", *, attempt_no: int = 1, **settings: object) -> Request:
        return Request(
            key=attempt_key(run="run", node="sync", attempt_no=attempt_no),
            operation="sync",
            settings=SyncSettings.model_validate({"connection_id": connection_id, **settings}).model_dump(mode="json"),
        )

    async def prepared(self, request: Request) -> Request:
        baseline = await self.fivetran.prepare(request)
        return replace(request, baseline=baseline, permit_at=self.clock.now())

    async def started(self, connection_id: str = "c1") -> ExternalRef:
        return await self.fivetran.start(await self.prepared(self.request(connection_id)))

    async def followed(self, ref: ExternalRef, *, every_s: float = 15.0, polls: int = 40) -> Observation:
        seen: Observation | None = None
        for _ in range(polls):
            self.clock.advance(every_s)
            seen = (await self.fivetran.poll([ref])).get(ref.id)
            if seen is not None and seen.state.is_final:
                return seen
            ref = ref if seen is None or seen.ref is None else seen.ref
        raise AssertionError(f"no end after {polls} polls: {seen}")


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock = FakeClock()
    sandbox = FivetranSandbox(clock)
    sandbox.add_connection("c1", schema="pg_sales")
    context = context_for(sandbox.app, clock=clock, state_dir=tmp_path)
    connection = FivetranConnection.model_validate(sandbox.connection("http://fivetran.test"))
    return World(clock=clock, sandbox=sandbox, fivetran=build(context, connection), context=context)


def test_a_sync_that_ends_by_itself_is_followed_to_its_outputs(world: World) -> None:
    world.sandbox.history_lag_s = 0.0
    seen = _run(_start_and_follow(world))
    assert seen.state is ExternalState.SUCCEEDED
    assert seen.outputs == {
        "connection_id": "c1",
        "schema": "pg_sales",
        "succeeded_at": "2026-01-05T06:00:22+00:00",
        "started_at": "2026-01-05T06:00:02+00:00",
    }


async def _start_and_follow(world: World, *, force: bool = False, unpause: bool = False) -> Observation:
    request = await world.prepared(world.request(force=force, unpause=unpause))
    return await world.followed(await world.fivetran.start(request))


def test_without_a_sync_history_the_start_is_unknown_and_the_success_is_not(world: World) -> None:
    world.sandbox.history_enabled = False
    seen = _run(_start_and_follow(world))
    assert (seen.state, seen.outputs["started_at"]) == (ExternalState.SUCCEEDED, None)


def test_the_sandbox_loads_before_anybody_can_see_the_success(tmp_path: Path) -> None:
    clock, loaded = FakeClock(), list[str]()
    sandbox = FivetranSandbox(clock, on_sync=loaded.append, sync_duration_s=5.0)
    sandbox.add_connection("c1").script.extend([Ending.FAILURE, Ending.SUCCESS])
    context = context_for(sandbox.app, clock=clock, state_dir=tmp_path)
    fivetran = build(context, FivetranConnection.model_validate(sandbox.connection("http://x.test")))
    world = World(clock=clock, sandbox=sandbox, fivetran=fivetran, context=context)
    assert _run(_start_and_follow(world)).state is ExternalState.FAILED
    assert loaded == []
    assert _run(_start_and_follow(world)).state is ExternalState.SUCCEEDED
    assert loaded == ["c1"]


def test_a_running_sync_is_in_the_way_and_a_start_against_it_sends_nothing(world: World) -> None:
    world.sandbox.run_scheduled_sync("c1")
    request = _run(world.prepared(world.request()))
    assert request.baseline is not None
    assert request.baseline.is_busy
    with pytest.raises(BusyError) as caught:
        _run(world.fivetran.start(request))
    assert caught.value.running == request.baseline.running
    assert SYNC not in world.sandbox.requests


def test_the_running_sync_can_be_followed_to_its_end_and_then_the_connection_is_free(world: World) -> None:
    world.sandbox.run_scheduled_sync("c1")
    baseline = _run(world.fivetran.prepare(world.request()))
    assert baseline.running is not None
    assert _run(world.followed(baseline.running)).state is ExternalState.SUCCEEDED
    assert not _run(world.fivetran.prepare(world.request())).is_busy


def test_force_replaces_the_running_sync_and_follows_the_new_one(world: World) -> None:
    world.sandbox.run_scheduled_sync("c1")
    seen = _run(_start_and_follow(world, force=True))
    assert seen.state is ExternalState.SUCCEEDED
    assert [sync.ending for sync in world.sandbox.account.connections["c1"].syncs] == [Ending.CANCELLED, Ending.SUCCESS]


def test_a_second_trigger_during_a_sync_is_answered_alike_and_starts_nothing(world: World) -> None:
    async def play() -> None:
        request = await world.prepared(world.request())
        first = await world.fivetran.start(request)
        assert (await world.fivetran.start(request)).id == first.id

    _run(play())
    assert len(world.sandbox.ledger) == 1


def test_a_stale_failure_does_not_fail_the_next_success(world: World) -> None:
    world.sandbox.account.connections["c1"].script.extend([Ending.FAILURE])
    assert _run(_start_and_follow(world)).state is ExternalState.FAILED
    assert _run(_start_and_follow(world)).state is ExternalState.SUCCEEDED
    assert world.sandbox.account.connections["c1"].failed_at is not None


def test_a_rescheduled_sync_is_followed_until_the_automatic_schedule_resumes_it(world: World) -> None:
    world.sandbox.account.connections["c1"].script.append(Ending.RESCHEDULED)
    ref = _run(world.started())
    seen = _run(world.followed(ref, every_s=120.0))
    assert seen.state is ExternalState.SUCCEEDED
    assert len(world.sandbox.ledger) == 1


def test_a_rescheduled_sync_on_a_manual_schedule_fails_and_a_new_attempt_gets_through(world: World) -> None:
    connection = world.sandbox.account.connections["c1"]
    connection.schedule_type = "manual"
    connection.script.append(Ending.RESCHEDULED)
    seen = _run(_start_and_follow(world))
    assert (seen.state, seen.word) == (ExternalState.FAILED, "rescheduled")
    assert _run(_start_and_follow(world)).state is ExternalState.SUCCEEDED


@pytest.mark.parametrize("has_history", [True, False])
def test_a_sync_cancelled_in_the_dashboard_vanishes(world: World, has_history: bool) -> None:
    world.sandbox.history_enabled = has_history

    async def play() -> Observation:
        ref = await world.started()
        world.clock.advance(10)
        seen = (await world.fivetran.poll([ref]))[ref.id]
        assert seen.ref is not None
        world.sandbox.cancel_in_dashboard("c1")
        return await world.followed(seen.ref)

    assert _run(play()).state is ExternalState.VANISHED


def test_a_sync_that_came_and_went_between_two_polls_is_told_from_the_history(world: World) -> None:
    world.sandbox.account.connections["c1"].script.append(Ending.CANCELLED)
    seen = _run(world.followed(_run(world.started()), every_s=30.0))
    assert seen.state is ExternalState.VANISHED
    assert world.clock.monotonic() < 600


def test_a_connection_that_breaks_fails_the_run_with_the_task(world: World) -> None:
    world.sandbox.account.connections["c1"].script.append(Ending.FAILURE_WITH_TASK)
    ref = _run(world.started())
    seen = _run(world.followed(ref))
    assert seen.error is not None
    assert "refused the credentials" in seen.error.message
    assert any("reconnect" in line for line in _run(world.fivetran.logs(ref)).lines)
    with pytest.raises(RejectedError, match="broken"):
        _run(world.fivetran.prepare(world.request(attempt_no=2)))


def test_a_paused_connection_is_an_error_and_stays_paused(world: World) -> None:
    world.sandbox.account.connections["c1"].is_paused = True
    with pytest.raises(RejectedError, match="unpause: true"):
        _run(world.fivetran.prepare(world.request()))
    assert PATCH not in world.sandbox.requests


def test_unpause_resumes_and_a_sync_that_this_sets_off_is_not_taken_for_ours(world: World) -> None:
    connection = world.sandbox.account.connections["c1"]
    connection.is_paused = True
    baseline = _run(world.fivetran.prepare(world.request(unpause=True)))
    assert not connection.is_paused
    assert baseline.is_busy


def test_unpause_on_a_manual_schedule_leaves_the_connection_free(world: World) -> None:
    connection = world.sandbox.account.connections["c1"]
    connection.is_paused, connection.schedule_type = True, "manual"
    assert _run(_start_and_follow(world, unpause=True)).state is ExternalState.SUCCEEDED


def test_an_unknown_connection_is_rejected_with_a_way_out(world: World) -> None:
    with pytest.raises(RejectedError, match="correct `connection_id`"):
        _run(world.fivetran.prepare(world.request("nowhere")))


def test_a_deleted_connection_vanishes_and_does_not_blind_the_others(world: World) -> None:
    world.sandbox.add_connection("c2")

    async def play() -> list[Observation]:
        refs = [await world.started("c1"), await world.started("c2")]
        del world.sandbox.account.connections["c2"]
        world.clock.advance(60)
        seen = await world.fivetran.poll(refs)
        return [seen[ref.id] for ref in refs]

    states = [seen.state for seen in _run(play())]
    assert states == [ExternalState.SUCCEEDED, ExternalState.VANISHED]


def test_a_thousand_syncs_are_polled_by_one_request(world: World) -> None:
    for no in range(999):
        world.sandbox.add_connection(f"n{no}")

    async def play() -> int:
        refs = [await world.started(name) for name in ("c1", "n0", "n1", "n2")]
        refs += [ExternalRef(id=f"n{no}:x", data={**refs[0].data, "connection_id": f"n{no}"}) for no in range(3, 999)]
        world.sandbox.requests.clear()
        return len(await world.fivetran.poll(refs))

    assert _run(play()) == 1000
    assert world.sandbox.requests == {LIST: 1}


def test_a_longer_listing_is_paged_by_cursor_and_only_as_far_as_needed(world: World) -> None:
    for no in range(2500):
        world.sandbox.add_connection(f"n{no}")

    async def play(names: tuple[str, ...]) -> int:
        refs = [await world.started(name) for name in names]
        world.sandbox.requests.clear()
        return len(await world.fivetran.poll(refs))

    assert _run(play(("c1", "n0", "n1", "n1500"))) == 4
    assert world.sandbox.requests == {LIST: 2}
    assert _run(play(("n2", "n3", "n4", "n2499"))) == 4
    assert world.sandbox.requests == {LIST: 3}


def test_up_to_three_syncs_are_read_one_by_one(world: World) -> None:
    async def play() -> None:
        for name in ("c2", "c3"):
            world.sandbox.add_connection(name)
        refs = [await world.started(name) for name in ("c1", "c2", "c3")]
        world.sandbox.requests.clear()
        await world.fivetran.poll(refs)

    _run(play())
    assert world.sandbox.requests == {DETAIL: 3}


def test_a_connection_missing_from_the_listing_is_asked_for_by_id(world: World) -> None:
    async def play() -> dict[str, ExternalState]:
        for name in ("c2", "c3", "c4"):
            world.sandbox.add_connection(name)
        refs = [await world.started(name) for name in ("c1", "c2", "c3", "c4")]
        del world.sandbox.account.connections["c4"]
        seen = await world.fivetran.poll(refs)
        return {ref.id[:2]: seen[ref.id].state for ref in refs}

    states = _run(play())
    assert states.pop("c4") is ExternalState.VANISHED
    assert set(states.values()) == {ExternalState.QUEUED}


def test_a_cursor_that_comes_twice_does_not_loop_for_ever(world: World) -> None:
    async def play() -> None:
        refs = [await world.started("c1")]
        refs += [ExternalRef(id=f"n{no}:x", data={**refs[0].data, "connection_id": f"n{no}"}) for no in range(4)]
        body = b'{"code": "Success", "data": {"items": [], "next_cursor": "again"}}'
        world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/v1/connections$", body=body, times=-1))
        await world.fivetran.poll(refs)

    with pytest.raises(UnreadableError, match="twice"):
        _run(play())


def test_one_damaged_ref_does_not_blind_the_others(world: World) -> None:
    async def play() -> set[str]:
        ref = await world.started()
        return set(await world.fivetran.poll([ExternalRef(id="damaged", data={"x": 1}), ref])) ^ {ref.id}

    assert _run(play()) == set()
    with pytest.raises(UnreadableError):
        _run(world.fivetran.poll([ExternalRef(id="damaged")]))


@pytest.mark.parametrize("has_history", [True, False])
def test_a_lost_answer_is_found_again_and_keeps_its_id(world: World, has_history: bool) -> None:
    world.sandbox.history_enabled = has_history

    async def play() -> tuple[str, ExternalState]:
        request = await world.prepared(world.request())
        world.sandbox.faults.add(Fault(effect=Effect.LOSE_ANSWER, path="/sync$"))
        with pytest.raises(IntegrationError):
            await world.fivetran.start(request)
        assert isinstance(await world.fivetran.find(request, request.baseline), Absent)
        world.clock.advance(30)
        answer = await world.fivetran.find(request, request.baseline)
        assert isinstance(answer, Found)
        return answer.ref.id, (await world.followed(answer.ref)).state

    assert _run(play()) == (f"c1:{world.request().key}", ExternalState.SUCCEEDED)
    assert len(world.sandbox.ledger) == 1


def test_two_syncs_since_the_permit_cannot_be_told_apart(world: World) -> None:
    async def play() -> object:
        request = await world.prepared(world.request())
        for _ in range(2):
            world.sandbox.run_scheduled_sync("c1")
            world.clock.advance(40)
            await world.fivetran.prepare(world.request())
        return await world.fivetran.find(request, request.baseline)

    assert isinstance(_run(play()), FindUnknown)


def test_without_a_baseline_nothing_can_be_found(world: World) -> None:
    assert isinstance(_run(world.fivetran.find(world.request(), None)), FindUnknown)


def test_a_history_that_fails_never_makes_a_start_absent(world: World) -> None:
    async def play() -> object:
        request = await world.prepared(world.request())
        world.sandbox.faults.add(Fault(effect=Effect.ERROR, path="sync-history", status=500, times=-1))
        return await world.fivetran.find(request, request.baseline)

    assert isinstance(_run(play()), FindUnknown)


def test_a_start_without_a_baseline_sends_nothing(world: World) -> None:
    with pytest.raises(RejectedError, match="baseline"):
        _run(world.fivetran.start(world.request()))
    assert world.sandbox.requests == {}


def test_an_unknown_state_before_the_start_stops_it(world: World) -> None:
    world.sandbox.account.connections["c1"].word = "zorbing"
    with pytest.raises(UnreadableError, match="zorbing"):
        _run(world.fivetran.prepare(world.request()))


def test_the_account_limit_is_answered_with_a_wait(world: World) -> None:
    world.sandbox.requests_per_hour = 1
    with pytest.raises(RefusedError) as caught:
        _run(_prepare_twice(world))
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 3000


async def _prepare_twice(world: World) -> None:
    await world.fivetran.prepare(world.request())
    await world.fivetran.prepare(world.request())


def test_wrong_credentials_are_an_auth_error_and_check_says_what_to_do(world: World) -> None:
    settings = {**world.sandbox.connection("http://x.test"), "api_secret": "wrong-secret"}
    fivetran = build(world.context, FivetranConnection.model_validate(settings))
    with pytest.raises(AuthError):
        _run(fivetran.prepare(world.request()))
    health = _run(fivetran.check())
    assert not health.is_ok
    assert "check the API key" in health.message


def test_check_is_not_content_with_a_key_that_sees_nothing(world: World) -> None:
    assert _run(world.fivetran.check()).is_ok
    world.sandbox.account.connections.clear()
    assert not _run(world.fivetran.check()).is_ok


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Accept": "application/json"}, "406"),
        ({"Accept": "application/json;version=2", "Content-Type": "text/x"}, "415"),
    ],
)
def test_the_sandbox_insists_on_its_headers(world: World, headers: dict[str, str], status: str) -> None:
    with pytest.raises(RejectedError) as caught:
        _run(world.fivetran._http.act("POST", "/v1/connections/c1/sync", headers=headers))
    assert caught.value.code == status
    assert world.sandbox.ledger == []


def test_the_plugin_says_what_it_can_promise() -> None:
    operation = plugin.operations["sync"]
    settings = SyncSettings(connection_id="c1").model_dump(mode="json")
    capabilities = operation.capabilities(settings)
    assert (capabilities.needs_baseline, capabilities.is_exclusive, capabilities.batch_size) == (True, True, 1000)
    assert operation.scope(settings) == "c1"
    assert settings["force"] is False
    assert settings["unpause"] is False


@pytest.mark.parametrize("connection_id", ["", "a/b", "../x", "a b", "a?x=1"])
def test_an_id_that_would_change_the_path_is_refused(connection_id: str) -> None:
    with pytest.raises(ValueError, match="connection_id"):
        SyncSettings(connection_id=connection_id)
