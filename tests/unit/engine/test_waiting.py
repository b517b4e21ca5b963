"""Between ticks the engine waits: it never spins while something is on the wire, and lets that come back."""

from __future__ import annotations

from collections.abc import Callable

from conductor.core.events import CancelRun
from conductor.core.run import Trigger
from conductor.core.states import AttemptState
from conductor.engine.pipelines import NewRun
from tests.simulation.clock import SimClock
from tests.simulation.vendors import BLIND, KEYED, TAGGED, FakeVendor, Sin
from tests.simulation.world import World, node, pipeline

MakeWorld = Callable[..., World]


def test_the_loop_lets_a_look_up_come_back(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", TAGGED)), vendors=(FakeVendor("vendor", TAGGED, SimClock()),))
    world.vendors["vendor"].will("start", Sin.LOSE_ANSWER)
    engine = world.engine

    def is_found() -> bool:
        attempts = [run.nodes["a"].attempt for run in engine.runs.values()]
        return any(attempt is not None and attempt.state is AttemptState.RUNNING for attempt in attempts)

    assert world.life is not None
    _ = world.life.turns.start(engine.trigger(NewRun(pipeline="p", trigger=Trigger.MANUAL, identity="m")))
    world.life.turns.run(engine.run(until=lambda: is_found() or engine.ticks > 500))
    assert is_found()
    assert engine.ticks < 20


def test_it_waits_while_a_look_up_is_on_the_wire(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", TAGGED, SimClock())
    world = make_world(pipeline(node("a", TAGGED)), vendors=(vendor,))
    vendor.plan.latency_s = lambda call: 5.0 if call == "find" else 0.0
    vendor.will("start", Sin.LOSE_ANSWER)
    world.trigger()
    assert world.rest() > 1
    assert vendor.calls["find"] == 1


def test_it_waits_while_a_cancel_is_on_the_wire(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", BLIND, SimClock())
    world = make_world(pipeline(node("a", BLIND)), vendors=(vendor,))
    vendor.plan.duration_s = lambda _: 10_000.0
    vendor.plan.latency_s = lambda call: 5.0 if call == "cancel" else 0.0
    run_id = world.trigger()
    world.pass_time(600)
    world.command(run_id, CancelRun())
    assert world.rest() > 1
    assert vendor.calls["cancel"] == 1


def test_it_waits_while_a_refused_start_has_no_slot(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", KEYED, SimClock())
    world = make_world(
        pipeline(node("a", KEYED, pools=("one",)), node("b", KEYED, pools=("one",))),
        vendors=(vendor,),
        pools={"one": 1},
    )
    vendor.plan.duration_s = lambda _: 10_000.0
    vendor.will("start", Sin.REFUSE)
    run_id = world.trigger()
    world.pass_time(900)
    assert sorted(world.states(run_id).values()) == ["queued", "running"]
    assert world.rest() > 1


def test_it_waits_while_a_closed_connection_is_checked(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", KEYED, SimClock())
    world = make_world(pipeline(node("a", KEYED)), vendors=(vendor,))
    vendor.plan.latency_s = lambda call: 5.0 if call == "check" else 0.0
    world.engine.connections.close("vendor", "the token was refused")
    run_id = world.trigger()
    world.pass_time(61)
    assert vendor.calls["check"] == 1
    assert world.rest() > 1
    world.pass_time(5)
    assert world.states(run_id) == {"a": "running"}


def test_the_loop_lets_a_check_come_back(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    engine = world.engine
    engine.connections.close("vendor", "the token was refused")
    world.trigger()
    world.clock.advance(61)
    assert world.life is not None
    world.life.turns.run(engine.run(until=lambda: not engine.connections.closed or engine.ticks > 500))
    assert not engine.connections.closed


def test_it_waits_while_one_of_two_closed_connections_is_checked(make_world: MakeWorld) -> None:
    clock = SimClock()
    vendors = tuple(FakeVendor(name, KEYED, clock) for name in ("x", "y"))
    world = make_world(pipeline(node("a", KEYED, on="x"), node("b", KEYED, on="y")), vendors=vendors)
    for vendor in vendors:
        vendor.plan.latency_s = lambda call: 5.0 if call == "check" else 0.0
    world.engine.connections.close("x", "the token was refused")
    world.pass_time(2)
    world.engine.connections.close("y", "the token was refused")
    run_id = world.trigger()
    world.pass_time(61)
    assert world.rest() > 0.5
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
