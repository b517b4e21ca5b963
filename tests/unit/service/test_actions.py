"""What people ask means the same through the engine and straight on the store, and a key gives one run for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.states import RunState
from conductor.service.asks import PauseAsk, RunAsk, TriggerAsk, Verb
from conductor.service.views import RunLine
from tests.unit.service.projects import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


def test_a_run_asked_for_without_a_service_is_recorded_and_waits_for_one(home: Home) -> None:
    answer = asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p", actor="ana")))
    assert (answer.state, answer.is_new, answer.is_served) == ("queued", True, False)
    view = home.reader().run(answer.run_id, now=home.clock.now())
    assert (view.run.actor, view.params["day"]) == ("ana", "monday")


def test_the_same_key_gives_the_same_run_and_no_key_a_new_one(home: Home) -> None:
    actions = home.actions()
    ask = TriggerAsk(pipeline="p", key="build-7")
    first, second = asyncio.run(actions.trigger(ask)), asyncio.run(actions.trigger(ask))
    assert first.run_id == second.run_id
    assert (first.is_new, second.is_new) == (True, False)
    others = {asyncio.run(actions.trigger(TriggerAsk(pipeline="p"))).run_id for _ in range(2)}
    assert len(others | {first.run_id}) == 3


def test_a_key_gives_its_run_also_after_that_has_ended(home: Home) -> None:
    async def twice() -> tuple[str, str, str, bool]:
        engine = home.engine()
        await engine.start()
        actions = home.engine_actions(engine)
        ask = TriggerAsk(pipeline="p", key="k")
        first = asyncio.create_task(actions.trigger(ask))
        await home.drive(engine, first)
        second = await actions.trigger(ask)
        await engine.stop()
        return first.result().run_id, second.run_id, second.state, second.is_new

    first, second, state, is_new = asyncio.run(twice())
    assert (first, state, is_new) == (second, "succeeded", False)
    assert len(home.vendor.starts) == 2


def test_parameters_are_read_by_their_types(home: Home) -> None:
    answer = asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p", texts={"n": "7", "day": "7"})))
    assert home.reader().run(answer.run_id, now=home.clock.now()).params == {"day": "7", "n": 7}
    with pytest.raises(ConflictError, match="seven"):
        asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p", texts={"n": "seven"})))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-05", "2026-01-05T00:00:00+00:00"),
        ("2026-01-05T06:00", "2026-01-05T06:00:00+00:00"),
        ("2026-01-05T06:00+02:00", "2026-01-05T04:00:00+00:00"),
    ],
)
def test_a_date_is_the_instant_that_the_run_is_about(home: Home, text: str, instant: str) -> None:
    answer = asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p", date=text)))
    at = home.reader().run(answer.run_id, now=home.clock.now()).logical_at
    assert at is not None
    assert at.isoformat() == instant


def test_a_wrong_date_says_how_to_write_one(home: Home) -> None:
    with pytest.raises(ConflictError, match="2026-01-05"):
        asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p", date="tomorrow")))


def test_an_unknown_pipeline_gets_the_nearest_name(tmp_path: Path) -> None:
    home = Home(tmp_path)
    try:
        with pytest.raises(NotFoundError, match="did you mean p"):
            asyncio.run(home.actions().trigger(TriggerAsk(pipeline="pp")))
    finally:
        home.close()


def test_a_run_is_cancelled_without_a_service(home: Home) -> None:
    actions = home.actions()
    run_id = asyncio.run(actions.trigger(TriggerAsk(pipeline="p"))).run_id
    answer = asyncio.run(actions.on_run(RunAsk(run_id=run_id, verb=Verb.CANCEL, actor="ana", reason="not now")))
    assert answer.state == "cancelled"
    with pytest.raises(ConflictError, match="has ended"):
        asyncio.run(actions.on_run(RunAsk(run_id=run_id, verb=Verb.CANCEL)))


@pytest.mark.parametrize("verb", [Verb.SKIP, Verb.RERUN, Verb.MARK_FAILED, Verb.MARK_SUCCEEDED])
def test_what_needs_a_node_says_so(home: Home, verb: Verb) -> None:
    run_id = asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p"))).run_id
    with pytest.raises(ConflictError, match="needs a node"):
        asyncio.run(home.actions().on_run(RunAsk(run_id=run_id, verb=verb, reason="x")))


def test_asking_anything_of_a_run_that_is_not_there_changes_nothing(home: Home) -> None:
    with pytest.raises(NotFoundError):
        asyncio.run(home.actions().on_run(RunAsk(run_id="feed", verb=Verb.RETRY)))


def test_a_pause_without_a_service_reaches_the_pipeline_and_its_runs(home: Home) -> None:
    actions = home.actions()
    run_id = asyncio.run(actions.trigger(TriggerAsk(pipeline="p"))).run_id
    asyncio.run(actions.on_pipeline(PauseAsk(pipeline="p", is_paused=True)))
    reader = home.reader()
    assert [one.is_paused for one in reader.pipelines(now=home.clock.now())] == [True]
    assert reader.run(run_id, now=home.clock.now()).is_paused
    with pytest.raises(ConflictError, match="already"):
        asyncio.run(actions.on_pipeline(PauseAsk(pipeline="p", is_paused=True)))
    asyncio.run(actions.on_pipeline(PauseAsk(pipeline="p", is_paused=False)))
    assert not reader.run(run_id, now=home.clock.now()).is_paused


def test_what_was_recorded_without_a_service_is_run_by_the_next(home: Home) -> None:
    run_id = asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p"))).run_id

    async def serve() -> None:
        engine = home.engine()
        await engine.start()
        await home.drive(engine)
        await engine.stop()

    asyncio.run(serve())
    assert home.reader().run(run_id, now=home.clock.now()).run.state is RunState.SUCCEEDED


def test_runs_are_found_by_beginning_pipeline_and_last(home: Home) -> None:
    actions, reader = home.actions(), home.reader()
    older = asyncio.run(actions.trigger(TriggerAsk(pipeline="p"))).run_id
    home.clock.advance(60)
    newer = asyncio.run(actions.trigger(TriggerAsk(pipeline="p"))).run_id
    assert {reader.row("last").id, reader.row("p").id, reader.row(newer[:8]).id} == {newer}
    assert reader.row(older).id == older
    listed = [one.id for one in reader.runs(now=home.clock.now()).items if isinstance(one, RunLine)]
    assert listed == [newer, older]
    with pytest.raises(NotFoundError, match="runs list"):
        reader.row("zzz")


def test_a_beginning_that_several_runs_share_is_refused(home: Home) -> None:
    ids = [asyncio.run(home.actions().trigger(TriggerAsk(pipeline="p"))).run_id for _ in range(17)]
    shared = next(one[0] for one in ids if sum(other.startswith(one[0]) for other in ids) > 1)
    with pytest.raises(ConflictError, match="several runs begin with"):
        home.reader().row(shared)


def test_the_journal_says_who_asked(home: Home) -> None:
    actions = home.actions()
    run_id = asyncio.run(actions.trigger(TriggerAsk(pipeline="p", actor="ana"))).run_id
    asyncio.run(actions.on_run(RunAsk(run_id=run_id, verb=Verb.CANCEL, actor="ben", reason="late")))
    lines = home.reader().journal_lines(run_id)
    assert (lines[0].after, lines[0].detail["actor"]) == ("queued", "ana")
    assert (lines[-1].after, lines[-1].detail["actor"]) == ("cancelled", "ben")
    assert home.reader().journal_lines(run_id, after=lines[-1].id) == []
