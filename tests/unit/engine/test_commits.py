"""The database between a decision and its effect: nothing is performed before its commit, nothing is lost after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from conductor.core.errors import StaleVersionError, StoreError, StoreUnavailableError
from conductor.core.events import Pause
from conductor.core.plan import ScheduleSpec
from conductor.core.run import Trigger
from conductor.core.vendor import Capabilities
from conductor.engine.pipelines import NewRun
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, TAGGED, WINDOWED, FakeVendor
from tests.simulation.world import Commit, Crashed, World, node, pipeline

MakeWorld = Callable[..., World]


def _then(world: World, *fates: Commit) -> None:
    left: Iterator[Commit] = iter(fates)
    world.fate = lambda: next(left, Commit.FINE)


@pytest.mark.parametrize("fate", [Commit.UNAVAILABLE, Commit.LOST])
def test_what_could_not_be_committed_is_not_performed_until_it_is(make_world: MakeWorld, fate: Commit) -> None:
    world = make_world(pipeline(node("a", KEYED), node("b", KEYED, ["a"])))
    vendor = world.vendors["vendor"]
    _then(world, *[fate] * 5)
    assert world.life is not None
    task = world.life.turns.start(world.engine.trigger(NewRun(pipeline="p", trigger=Trigger.MANUAL, identity="m")))
    world.life.turns.until_quiet()
    for _ in range(5):
        world.tick()
        assert not vendor.calls
        assert not task.done()
    world.until_done()
    assert world.states(task.result().id) == {"a": "succeeded", "b": "succeeded"}
    assert len(vendor.ledger) == 2
    seqs = [row.transition.seq for row in world.journal()]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("fate", [Commit.UNAVAILABLE, Commit.LOST])
def test_every_single_commit_may_fail_once(make_world: MakeWorld, fate: Commit) -> None:
    plan = pipeline(node("a", WINDOWED, scope="t"), node("b", WINDOWED, ["a"], scope="t"))
    fates: list[Commit] = []

    def next_fate() -> Commit:
        fates.append(fate if not fates or fates[-1] is Commit.FINE else Commit.FINE)
        return fates[-1]

    world = make_world(plan, vendors=(FakeVendor("vendor", WINDOWED, SimClock()),))
    world.fate = next_fate
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
    assert len(world.vendors["vendor"].ledger) == 2


@pytest.mark.parametrize("fate", [Commit.CRASH_BEFORE, Commit.CRASH_AFTER])
@pytest.mark.parametrize("caps", [KEYED, TAGGED, WINDOWED])
def test_a_crash_at_each_commit_starts_everything_once(make_world: MakeWorld, fate: Commit, caps: Capabilities) -> None:
    plan = pipeline(node("a", caps, scope="t"), node("b", caps, ["a"], scope="t"))
    for at in range(1, 40):
        vendor = FakeVendor("vendor", caps, SimClock())
        world = make_world(plan, vendors=(vendor,))
        run_id = world.trigger()
        _then(world, *[Commit.FINE] * (at - 1), fate)
        try:
            world.until_done()
        except Crashed:
            world.crash()
            world.fate = lambda: Commit.FINE
            world.boot().pass_time(2000)
        else:
            assert at > 4
            return
        started = [job.node for job in vendor.ledger]
        if "held" in world.states(run_id).values():
            # The permit was committed and nothing was sent: without a key nobody can know that.
            assert caps is not KEYED
            assert started == ["a"] * world.states(run_id)["a"].startswith("s"), at
        else:
            assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}, at
            assert started == ["a", "b"], at
        world.crash()
        world.database.unlink()
    raise AssertionError("the run never ended without a crash")


def test_another_owner_of_the_database_stops_the_engine_and_tells_who_waits(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    run_id = world.trigger()
    _then(world, Commit.STALE)
    assert world.life is not None
    engine, turns = world.engine, world.life.turns
    waiting = turns.start(engine.command(run_id, Pause()))
    with pytest.raises(StaleVersionError):
        turns.run(engine.run())
    assert isinstance(waiting.exception(), StaleVersionError)
    with pytest.raises(StaleVersionError):
        turns.run(engine.command(run_id, Pause()))


def test_any_other_failure_tells_who_waits_too(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    run_id = world.trigger()

    def trip() -> Commit:
        raise ZeroDivisionError

    world.fate = trip
    assert world.life is not None
    waiting = world.life.turns.start(world.engine.command(run_id, Pause()))
    with pytest.raises(ZeroDivisionError):
        world.life.turns.run(world.engine.run())
    assert isinstance(waiting.exception(), StoreError)


def test_a_store_that_does_not_answer_questions_costs_time_only(make_world: MakeWorld) -> None:
    plan = pipeline(node("a", TAGGED), schedule=ScheduleSpec(cron="*/5 * * * *", catchup=True))
    world = make_world(plan, vendors=(FakeVendor("vendor", TAGGED, SimClock()),))
    store = world.store
    asked = {"taken": 0, "known": 0, "durations": 0}

    def sometimes(name: str) -> Callable[..., object]:
        real = getattr(store, name)

        def act(*args: object, **more: object) -> object:
            asked[name] += 1
            if asked[name] % 3:
                raise StoreUnavailableError("the database is restarting; trying again")
            return real(*args, **more)

        return act

    for name in asked:
        setattr(store, name, sometimes(name))
    world.pass_time(1501)
    world.until_done(within_s=100)
    assert len(world.vendors["vendor"].ledger) == 5
    assert all(count >= 3 for count in asked.values())
    assert {run.state.value for run in store.runs()} == {"succeeded"}
