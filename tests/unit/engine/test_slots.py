"""Pools, connections, exclusive objects, priorities: measured at the vendor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conductor.core.events import CancelRun
from conductor.core.plan import ConcurrencyPolicy
from conductor.core.run import Trigger
from conductor.core.vendor import Capabilities, Correlation, Delivery
from conductor.engine.engine import EngineSettings
from conductor.engine.pipelines import NewRun
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, WINDOWED, FakeVendor, Job, Sin
from tests.simulation.world import World, node, pipeline

MakeWorld = Callable[..., World]
SCOPED = Capabilities(correlation=Correlation.KEY, delivery=Delivery.EFFECTIVELY_ONCE, is_exclusive=True, batch_size=9)


def _most(world: World, group: Callable[[Job], object]) -> dict[object, int]:
    """How many of our jobs ran at once, at most, by group."""
    most: dict[object, int] = {}

    def measure(_: Job) -> None:
        counts: dict[object, int] = {}
        for vendor in world.vendors.values():
            for job in vendor.active():
                counts[group(job)] = counts.get(group(job), 0) + 1
        for key, count in counts.items():
            most[key] = max(most.get(key, 0), count)

    for vendor in world.vendors.values():
        vendor.on_accept = measure
    return most


def test_a_connection_never_runs_more_than_its_limit(make_world: MakeWorld) -> None:
    world = make_world(pipeline(*(node(f"n{i}", KEYED) for i in range(20))), connection_limits={"vendor": 3})
    most = _most(world, lambda job: job.connection)
    world.trigger()
    world.trigger()
    world.until_done()
    assert most == {"vendor": 3}
    assert len(world.vendors["vendor"].ledger) == 40


def test_a_pool_is_shared_by_connections_and_runs(make_world: MakeWorld) -> None:
    clock = SimClock()
    vendors = tuple(FakeVendor(name, KEYED, clock) for name in ("x", "y"))
    plan = pipeline(*(node(f"n{i}", KEYED, on="xy"[i % 2], pools=("db",)) for i in range(8)))
    world = make_world(plan, vendors=vendors, pools={"db": 2})
    most = _most(world, lambda _: "db")
    world.trigger()
    world.trigger()
    world.until_done()
    assert most == {"db": 2}


def test_starts_on_one_exclusive_object_never_overlap(make_world: MakeWorld) -> None:
    plan = pipeline(*(node(f"n{i}", SCOPED, scope="table" if i % 2 else "other") for i in range(8)))
    world = make_world(plan, vendors=(FakeVendor("vendor", SCOPED, SimClock()),))
    most = _most(world, lambda job: job.scope)
    world.trigger()
    world.until_done()
    assert most == {"table": 1, "other": 1}


def test_a_start_in_doubt_keeps_its_slot_over_a_crash(make_world: MakeWorld) -> None:
    plan = pipeline(*(node(f"n{i}", KEYED, pools=("one",)) for i in range(3)))
    world = make_world(plan, pools={"one": 1})
    vendor = world.vendors["vendor"]
    most = _most(world, lambda _: "one")
    vendor.lag_s = 30.0
    vendor.will("start", Sin.HANG)
    world.trigger()
    world.crash().boot()
    world.until_done()
    assert most == {"one": 1}
    assert len(vendor.ledger) == 3


def test_many_that_wait_for_a_full_pool_hold_nobody_else_back(make_world: MakeWorld) -> None:
    waiting = [node(f"w{i}", KEYED, pools=("one",), priority=5) for i in range(10)]
    plan = pipeline(*waiting, node("free", KEYED))
    world = make_world(plan, pools={"one": 1}, settings=EngineSettings(sends_at_once=4))
    world.vendors["vendor"].plan.duration_s = lambda _: 1000.0
    run_id = world.trigger()
    world.pass_time(5)
    assert world.states(run_id)["free"] == "running"


def test_no_more_than_so_many_sends_are_on_the_wire(make_world: MakeWorld) -> None:
    world = make_world(pipeline(*(node(f"n{i}", KEYED) for i in range(20))), settings=EngineSettings(sends_at_once=4))
    vendor = world.vendors["vendor"]
    vendor.plan.latency_s = lambda call: 5.0 if call == "start" else 0.0
    world.trigger()
    world.pass_time(1)
    assert vendor.calls["start"] == 4
    world.until_done()
    assert len(vendor.ledger) == 20


def test_higher_priority_goes_first_and_ties_go_by_age(make_world: MakeWorld) -> None:
    low, high = pipeline(node("a", KEYED), name="low"), pipeline(node("b", KEYED), name="high", priority=5)
    world = make_world(low, high, connection_limits={"vendor": 1})
    order = [world.trigger("low"), world.trigger("low"), world.trigger("high"), world.trigger("low")]
    world.until_done()
    started = [job.run_id for job in world.vendors["vendor"].ledger]
    assert started == [order[0], order[2], order[1], order[3]]


@pytest.mark.parametrize(
    ("policy", "states"),
    [
        (ConcurrencyPolicy.QUEUE, ["succeeded", "succeeded", "succeeded"]),
        (ConcurrencyPolicy.SKIP, ["succeeded", "cancelled", "cancelled"]),
        (ConcurrencyPolicy.CANCEL_OLDER, ["cancelled", "cancelled", "succeeded"]),
    ],
)
def test_a_pipeline_never_has_more_runs_than_allowed(
    make_world: MakeWorld, policy: ConcurrencyPolicy, states: list[str]
) -> None:
    world = make_world(pipeline(node("a", KEYED), concurrency=1, concurrency_policy=policy))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 300.0
    most = _most(world, lambda _: "run")
    runs = []
    for _ in range(3):
        runs.append(world.trigger())
        world.pass_time(5)
    world.until_done()
    assert [world.run(one).state.value for one in runs] == states
    assert most == {"run": 1}


def test_a_run_that_is_cancelled_while_queued_makes_room_for_the_next(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED), concurrency=1))
    first, second, third = (world.trigger() for _ in range(3))
    world.command(second, CancelRun())
    world.until_done()
    assert [job.run_id for job in world.vendors["vendor"].ledger] == [first, third]


def test_refused_credentials_stop_their_connection_alone_until_a_check_succeeds(make_world: MakeWorld) -> None:
    clock = SimClock()
    bad, good = FakeVendor("bad", KEYED, clock), FakeVendor("good", KEYED, clock)
    bad.is_healthy = False
    bad.will("start", Sin.AUTH)
    plans = [pipeline(node("a", KEYED, on=name), name=name) for name in ("bad", "good")]
    world = make_world(*plans, vendors=(bad, good), settings=EngineSettings(stopped_patience_s=10_000.0))
    refused = world.trigger("bad")
    waiting, other = world.trigger("bad"), world.trigger("good")
    world.pass_time(200)
    assert [world.run(one).state.value for one in (refused, waiting, other)] == ["failed", "running", "succeeded"]
    assert bad.calls["start"] == 1
    assert bad.calls["check"] == 3
    assert "token" in (world.engine.blocker(waiting, "a") or "")
    bad.is_healthy = True
    world.until_done()
    assert world.run(waiting).state.value == "succeeded"


def test_looks_that_fail_do_not_put_off_the_check_of_their_connection(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED), node("b", KEYED, ["a"])))
    vendor = world.vendors["vendor"]
    vendor.is_healthy = False
    vendor.plan.sin = lambda call: Sin.AUTH if call == "poll" else Sin.NONE
    run_id = world.trigger()
    world.pass_time(600)
    assert vendor.calls["check"] >= 8
    assert world.states(run_id)["a"] == "running"


def test_an_exclusive_object_is_busy_until_its_run_is_known_to_be_over(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", WINDOWED, scope="t")), vendors=(FakeVendor("vendor", WINDOWED, SimClock()),))
    vendor = world.vendors["vendor"]
    vendor.will("start", Sin.LOSE_ANSWER)
    vendor.lag_s = 60.0
    most = _most(world, lambda job: job.scope)
    first, second = world.trigger(), world.trigger()
    world.until_done()
    assert most == {"t": 1}
    assert [job.run_id for job in vendor.ledger] == [first, second]
    assert world.attempt(first, "a").adopted == "inferred"


def test_two_newer_runs_at_once_replace_one_that_ends_at_once(make_world: MakeWorld) -> None:
    plan = pipeline(node("a", KEYED, pools=("one",)), concurrency=1, concurrency_policy=ConcurrencyPolicy.CANCEL_OLDER)
    world = make_world(plan, pipeline(node("b", KEYED, pools=("one",)), name="other"), pools={"one": 1})
    world.vendors["vendor"].plan.duration_s = lambda _: 100.0
    world.trigger("other")
    first = world.trigger()
    assert world.life is not None
    asked = [
        world.life.turns.start(world.engine.trigger(NewRun(pipeline="p", trigger=Trigger.CI, identity=f"ci:{i}")))
        for i in range(2)
    ]
    world.until_done()
    newer = [task.result().id for task in asked]
    assert world.run(first).state == "cancelled"
    assert sorted(world.run(one).state.value for one in newer) == ["cancelled", "succeeded"]
