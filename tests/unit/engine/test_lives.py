"""Stopping, crashing and beginning again: nothing is sent twice, nothing is forgotten, nobody else is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from conductor.core.errors import ConflictError
from conductor.core.plan import Plan, Rendered
from conductor.core.run import Trigger
from conductor.core.states import AttemptState
from conductor.core.vendor import Capabilities
from conductor.engine.engine import EngineSettings
from conductor.engine.pipelines import NewRun
from conductor.store import Store
from tests.simulation.clock import SimClock
from tests.simulation.vendors import BLIND, KEYED, SENSOR, TAGGED, WINDOWED, FakeVendor, Sin
from tests.simulation.world import Commit, Crashed, World, node, pipeline

MakeWorld = Callable[..., World]


def test_stopping_waits_for_starts_on_the_wire_and_leaves_nothing_in_doubt(make_world: MakeWorld) -> None:
    world = make_world(pipeline(*(node(f"n{i}", KEYED) for i in range(10))), settings=EngineSettings(stop_grace_s=60.0))
    vendor = world.vendors["vendor"]
    vendor.plan.latency_s = lambda call: 3.0
    run_id = world.trigger()
    world.stop()
    world.boot()
    states = {one.attempt.state for one in world.run(run_id).nodes.values() if one.attempt}
    assert states == {AttemptState.RUNNING}
    world.until_done()
    assert vendor.calls["start"] == 10
    assert vendor.calls["find"] == 0


def test_stopping_gives_up_on_a_start_that_hangs_and_the_next_life_looks_it_up(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", TAGGED)), vendors=(FakeVendor("vendor", TAGGED, SimClock()),))
    vendor = world.vendors["vendor"]
    vendor.will("start", Sin.HANG)
    run_id = world.trigger()
    world.stop()
    world.boot()
    assert world.attempt(run_id, "a").state is AttemptState.AMBIGUOUS
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert len(vendor.ledger) == 1


def test_stopping_after_a_failed_commit_sends_what_it_permits_and_waits_for_it(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", TAGGED)), vendors=(FakeVendor("vendor", TAGGED, SimClock()),))
    vendor = world.vendors["vendor"]
    vendor.plan.latency_s = lambda call: 0.02
    world._settings = EngineSettings(stop_grace_s=60.0)
    fates = iter([Commit.UNAVAILABLE] * 3)
    world.crash().boot()
    world.fate = lambda: next(fates, Commit.FINE)
    assert world.life is not None
    task = world.life.turns.start(world.engine.trigger(NewRun(pipeline="p", trigger=Trigger.MANUAL, identity="m")))
    world.life.turns.until_quiet()
    world.tick()
    world.stop()
    run_id = task.result().id
    world.boot()
    assert world.attempt(run_id, "a").state is AttemptState.RUNNING
    assert vendor.calls["find"] == 0


def test_stopping_starts_nothing_more(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED), node("b", KEYED, ["a"])))
    vendor = world.vendors["vendor"]
    run_id = world.trigger()
    world.pass_time(9)
    vendor.finish("a")
    world.stop()
    assert len(vendor.ledger) == 1
    world.boot().until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}


@pytest.mark.parametrize("caps", [KEYED, TAGGED, WINDOWED, BLIND, SENSOR])
@pytest.mark.parametrize("call", ["start", "answer"])
def test_a_crash_with_a_start_on_the_wire_starts_nothing_twice(
    make_world: MakeWorld, caps: Capabilities, call: str
) -> None:
    vendor = FakeVendor("vendor", caps, SimClock())
    world = make_world(pipeline(node("a", caps, scope="t"), node("b", caps, ["a"], scope="t")), vendors=(vendor,))
    armed = [True]

    def die(kind: str) -> None:
        if kind == call and armed:
            armed.clear()
            raise Crashed

    vendor.on_call = die
    with pytest.raises(Crashed):
        world.trigger(identity="m")
    world.crash().boot()
    run_id = world.store.runs()[0].id
    if caps is KEYED or caps is SENSOR or (call == "answer" and caps is not BLIND):
        world.until_done()
        assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
    else:
        world.pass_time(3600)
        assert world.states(run_id) == {"a": "held", "b": "waiting"}
    assert len([job for job in vendor.ledger if job.node == "a"]) <= 1


def test_a_second_process_on_the_same_file_is_refused(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    with pytest.raises(ConflictError, match="in use by another Conductor"):
        Store.open(f"sqlite:///{world.database}")


def test_a_run_goes_on_with_the_version_it_began_with(make_world: MakeWorld) -> None:
    old = pipeline(node("a", KEYED), node("b", KEYED, ["a"]))
    new = pipeline(node("a", KEYED), node("c", KEYED, ["a"]), version="1" * 12)
    world = make_world(old)
    first = world.trigger()
    world.ask(world.engine.replace_plans({"p": new}))
    second = world.trigger()
    world.plans = {"p": new}
    world.crash().boot().until_done()
    assert world.states(first) == {"a": "succeeded", "b": "succeeded"}
    assert world.states(second) == {"a": "succeeded", "c": "succeeded"}


def test_one_runs_bug_is_shown_and_stops_no_other(make_world: MakeWorld) -> None:
    class Tripping:
        constant: Rendered | None = None

        def render(self, context: object) -> Rendered:
            raise ZeroDivisionError

    bad: Plan = pipeline(node("a", KEYED), node("b", KEYED, ["a"], settings=Tripping()), name="bad")
    world = make_world(bad, pipeline(node("a", KEYED), name="good"))
    broken, fine = world.trigger("bad"), world.trigger("good")
    world.until(lambda: fine not in world.engine.runs)
    assert world.run(fine).state == "succeeded"
    assert "ZeroDivisionError" in world.engine.broken[broken]
    assert world.rest() > 0.5
    world.crash().boot()
    world.pass_time(300)
    assert list(world.engine.broken) == [broken]
    assert len(world.vendors["vendor"].ledger) == 2


@pytest.mark.slow
def test_ten_thousand_runs_are_taken_over_without_asking_anybody(make_world: MakeWorld) -> None:
    world = make_world(*(pipeline(node("a", KEYED), node("b", KEYED, ["a"]), name=f"p{i}") for i in range(10)))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 10_000.0
    assert world.life is not None
    for i in range(10_000):
        new = NewRun(pipeline=f"p{i % 10}", trigger=Trigger.MANUAL, identity=f"m{i}")
        _ = world.life.turns.start(world.engine.trigger(new))
    world.until(lambda: len(vendor.ledger) == 10_000)
    world.crash()
    vendor.calls.clear()
    began = time.process_time()
    world.boot()
    world.rest()
    took_s = time.process_time() - began
    assert not vendor.calls
    assert len(world.engine.runs) == 10_000
    assert took_s < 5.0
