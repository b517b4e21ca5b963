"""What people ask for: it is done and committed before the answer, or refused with a reason and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.events import CancelRun, Event, Mark, MarkNode, Pause, RerunFrom, Resume, RetryFailed, SkipNode
from conductor.core.run import Trigger
from conductor.core.vendor import ExternalState
from conductor.engine.pipelines import NewRun
from tests.simulation.vendors import KEYED, Sin
from tests.simulation.world import World, node, pipeline

MakeWorld = Callable[..., World]


def _two() -> Any:
    return pipeline(node("a", KEYED), node("b", KEYED, ["a"]))


def _new(identity: str) -> NewRun:
    return NewRun(pipeline="p", trigger=Trigger.MANUAL, identity=identity)


def test_the_same_identity_gives_the_same_run_while_it_runs_and_after(make_world: MakeWorld) -> None:
    world = make_world(_two())
    first = world.trigger(identity="ci:17")
    assert world.trigger(identity="ci:17") == first
    world.until_done()
    assert world.trigger(identity="ci:17") == first
    world.crash().boot()
    assert world.trigger(identity="ci:17") == first
    assert len(world.vendors["vendor"].ledger) == 2


def test_the_same_identity_twice_in_one_tick_gives_one_run(make_world: MakeWorld) -> None:
    world = make_world(_two())
    assert world.life is not None
    asked = [world.life.turns.start(world.engine.trigger(_new("ci:17"))) for _ in range(3)]
    world.rest()
    assert len({task.result().id for task in asked}) == 1
    world.until_done()
    assert len(world.store.runs()) == 1


def test_a_pipeline_that_is_not_there_is_refused(make_world: MakeWorld) -> None:
    world = make_world(_two())
    with pytest.raises(NotFoundError, match="no pipeline 'q'"):
        world.trigger("q")
    assert world.store.runs() == []


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (CancelRun(), ConflictError),
        (Pause(), ConflictError),
        (Resume(), ConflictError),
        (RetryFailed(), ConflictError),
        (RerunFrom(node="z"), NotFoundError),
        (SkipNode(node="a", reason=" "), ConflictError),
        (MarkNode(node="a", state=Mark.SUCCEEDED, reason="it is"), ConflictError),
    ],
)
def test_a_command_that_an_ended_run_cannot_take_is_refused_and_changes_nothing(
    make_world: MakeWorld, event: Event, error: type[Exception]
) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    world.until_done()
    before, journal = world.run(run_id), world.journal()
    with pytest.raises(error):
        world.command(run_id, event)
    assert not world.engine.runs
    after = world.run(run_id)
    assert (after.state, after.nodes, after.revision) == (before.state, before.nodes, before.revision)
    assert world.journal() == journal


def test_an_ended_run_can_be_run_again_from_a_node(make_world: MakeWorld) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    world.until_done()
    world.crash().boot()
    world.command(run_id, RerunFrom(node="b"))
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
    assert [(job.node, job.attempt_no) for job in world.vendors["vendor"].ledger] == [("a", 1), ("b", 1), ("b", 2)]


def test_a_failed_run_is_retried_where_it_failed(make_world: MakeWorld) -> None:
    world = make_world(_two())
    outcomes = iter([ExternalState.SUCCEEDED, ExternalState.FAILED, ExternalState.SUCCEEDED])
    world.vendors["vendor"].plan.outcome = lambda _: next(outcomes)
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "failed"}
    world.command(run_id, RetryFailed())
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}


def test_a_run_that_is_not_there_is_told_from_one_whose_version_does_not_load(make_world: MakeWorld) -> None:
    broken: set[str] = set()

    def load(name: str, version: str) -> Any:
        if version in broken:
            raise KeyError(version)
        return {"0" * 12: _two(), "1" * 12: newer}[version]

    newer = pipeline(node("c", KEYED), version="1" * 12)
    world = make_world(_two(), load_version=load)
    ended = world.trigger()
    world.until_done()
    active = world.trigger()
    world.crash()
    broken.add("0" * 12)
    world.plans = {"p": newer}
    world.boot()
    other = world.trigger()
    assert "does not load" in world.engine.broken[active]
    for run_id in (ended, active):
        with pytest.raises(ConflictError, match="does not load"):
            world.command(run_id, RerunFrom(node="a"))
    with pytest.raises(NotFoundError):
        world.command("0" * 16, Pause())
    world.until_done()
    assert world.states(other) == {"c": "succeeded"}
    with pytest.raises(ConflictError, match="does not load"):
        world.trigger(identity="manual:1")


def test_a_second_command_in_the_tick_in_which_a_run_ends_is_refused_and_the_tick_goes_on(
    make_world: MakeWorld,
) -> None:
    plan = pipeline(node("a", KEYED), concurrency=1)
    world = make_world(plan)
    first, second, third = (world.trigger() for _ in range(3))
    assert world.life is not None
    asked = [world.life.turns.start(world.engine.command(second, CancelRun())) for _ in range(2)]
    asked.append(world.life.turns.start(world.engine.command(third, Pause())))
    world.rest()
    assert asked[0].result().state == "cancelled"
    assert isinstance(asked[1].exception(), ConflictError)
    assert asked[2].result().is_paused
    world.command(third, Resume())
    world.until_done()
    assert [world.run(one).state for one in (first, third)] == ["succeeded", "succeeded"]


def test_a_command_whose_handling_trips_reaches_its_caller_and_stops_nobody(make_world: MakeWorld) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    reason: Any = None
    with pytest.raises(ConflictError, match="bug"):
        world.command(run_id, SkipNode(node="b", reason=reason))
    assert not world.engine.broken
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}


def test_somebody_who_left_is_not_served(make_world: MakeWorld) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    world.until_done()
    assert world.life is not None
    task = world.life.turns.start(world.engine.command(run_id, RerunFrom(node="a")))
    world.life.turns.until_quiet()
    task.cancel()
    world.life.turns.until_quiet()
    world.rest()
    assert not world.engine.runs
    assert world.run(run_id).state == "succeeded"


def test_a_cancelled_run_is_stopped_at_the_vendor_before_it_counts_as_cancelled(make_world: MakeWorld) -> None:
    world = make_world(_two())
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 10_000.0
    vendor.will("cancel", Sin.FAIL, Sin.FAIL)
    run_id = world.trigger()
    world.pass_time(100)
    world.command(run_id, CancelRun(actor="ann"))
    assert world.states(run_id) == {"a": "running", "b": "cancelled"}
    world.until_done()
    assert world.states(run_id) == {"a": "cancelled", "b": "cancelled"}
    assert vendor.calls["cancel"] == 3
    assert vendor.active() == []


def test_a_paused_run_starts_nothing_and_is_followed(make_world: MakeWorld) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    world.command(run_id, Pause())
    world.pass_time(500)
    assert world.states(run_id) == {"a": "succeeded", "b": "queued"}
    world.crash().boot()
    world.pass_time(500)
    assert world.states(run_id) == {"a": "succeeded", "b": "queued"}
    world.command(run_id, Resume())
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}


def test_nobody_waits_for_an_engine_that_has_stopped(make_world: MakeWorld) -> None:
    world = make_world(_two())
    run_id = world.trigger()
    assert world.life is not None
    engine, turns = world.engine, world.life.turns
    waiting = turns.start(engine.command(run_id, Pause()))
    turns.until_quiet()
    turns.run(engine.stop())
    assert waiting.result().is_paused
    with pytest.raises(ConflictError, match="stopping"):
        turns.run(engine.trigger(_new("late")))
