"""One seeded universe: a project, vendors with sins, crashes, people and clocks, all drawn from one number.

The vendors' ledgers are the oracle. What must hold is checked after every tick (`oracle`) and once more at the end.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from conductor.core.errors import RequestError, StoreUnavailableError
from conductor.core.events import CancelNode, CancelRun, Event, Mark, MarkNode, Pause, RerunFrom, Resume, RetryFailed
from conductor.core.plan import ConcurrencyPolicy, Limits, NodePlan, OnFailure, Plan, RetryPolicy, ScheduleSpec
from conductor.core.states import NodeState
from conductor.core.vendor import Capabilities, Correlation, Delivery, ExternalState, IfRunning, Request
from conductor.engine.engine import EngineSettings
from tests.simulation.clock import SimClock
from tests.simulation.oracle import Oracle
from tests.simulation.vendors import BLIND, KEYED, SENSOR, TAGGED, WINDOWED, FakeVendor, Sin
from tests.simulation.world import Commit, Crashed, World, node, pipeline

__all__ = ["Universe", "journal_of"]

_CLASSES = {"key": KEYED, "tag": TAGGED, "window": WINDOWED, "none": BLIND, "sensor": SENSOR}
_SINS: dict[str, tuple[Sin, ...]] = {
    "start": (
        Sin.LOSE_REQUEST,
        Sin.LOSE_ANSWER,
        Sin.LOSE_ANSWER,
        Sin.ERROR_AFTER,
        Sin.RAISE_AFTER,
        Sin.REFUSE,
        Sin.REJECT,
        Sin.AUTH,
        Sin.BUSY,
        Sin.CANCELLED,
    ),
    "poll": (Sin.FAIL, Sin.RAISE, Sin.REFUSE, Sin.CANCELLED, Sin.AUTH),
    "find": (Sin.FAIL, Sin.RAISE, Sin.CANCELLED),
    "prepare": (Sin.FAIL, Sin.RAISE, Sin.REFUSE),
    "cancel": (Sin.FAIL,),
    "check": (Sin.FAIL, Sin.RAISE),
}
_LATEST_FAULT_S = 600.0
_QUIET_S = 90_000.0


@dataclass(slots=True, kw_only=True)
class Universe:
    """What a seed makes. `run` lives it and returns the world, whose store holds what came of it.

    Attributes:
        seed: The number.
        hits: How often each kind of fault was played.
    """

    seed: int
    folder: Path
    template: Path
    hits: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(init=False)
    world: World = field(init=False)
    oracle: Oracle = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        clock = SimClock()
        vendors = [self._vendor(name, caps, clock) for name, caps in _CLASSES.items()]
        plans = [self._plan(f"p{i}") for i in range(self.chance.randint(1, 3))]
        limits = {vendor.connection: self.chance.randint(1, 4) for vendor in vendors if self._is(0.5)}
        pools = {"pool": self.chance.randint(1, 3)}
        self.world = World(
            self.folder,
            *plans,
            vendors=vendors,
            clock=clock,
            connection_limits=limits,
            pools=pools,
            settings=EngineSettings(sends_at_once=self.chance.choice((2, 64)), stop_grace_s=0.0),
            template=self.template,
        )
        self.oracle = Oracle(world=self.world, limits=limits, pools=pools)

    def _is(self, likelihood: float) -> bool:
        return self.chance.random() < likelihood

    # --- what is drawn -----------------------------------------------------------------------------------------------

    def _vendor(self, name: str, caps: Capabilities, clock: SimClock) -> FakeVendor:
        chance, vendor = self.chance, FakeVendor(name, caps, clock)
        badness = chance.choice((0.0, 0.1, 0.3))
        out_from_s = chance.uniform(0.0, 400.0) if self._is(0.4) else _QUIET_S
        out_to_s = out_from_s + chance.choice((30.0, 180.0))

        def sin(call: str) -> Sin:
            if call in {"poll", "find", "prepare"} and out_from_s <= clock.monotonic() < out_to_s:
                self.hits[f"{call} in an outage"] += 1
                return Sin.FAIL
            if clock.monotonic() > _LATEST_FAULT_S or call not in _SINS or chance.random() >= badness:
                return Sin.NONE
            found = chance.choice(_SINS[call])
            if found is Sin.HANG and call != "start":
                found = Sin.FAIL
            self.hits[f"{call} {found}"] += 1
            return found

        def duration_s(request: Request) -> float:
            return chance.choice((0.0, 1.0, 5.0, 30.0, 120.0))

        def outcome(request: Request) -> ExternalState:
            is_bad = clock.monotonic() < _LATEST_FAULT_S and chance.random() < badness / 2
            bad = (ExternalState.FAILED, ExternalState.WARNED, ExternalState.CANCELLED)
            return chance.choice(bad) if is_bad else ExternalState.SUCCEEDED

        def latency_s(call: str) -> float:
            return chance.choice((0.0, 0.0, 0.1, 1.0, 8.0))

        vendor.plan.sin, vendor.plan.duration_s, vendor.plan.outcome = sin, duration_s, outcome
        vendor.plan.latency_s = latency_s
        vendor.plan.strange_s = lambda _: 20.0 if chance.random() < badness / 4 else 0.0
        vendor.plan.vanishes = lambda _: chance.random() < badness / 20
        vendor.plan.obeys_cancel = lambda _: chance.random() > badness / 2
        # Never above the settle window: that is what a vendor's capabilities promise.
        vendor.lag_s = chance.choice((0.0, 0.0, 5.0, 60.0))
        vendor.retry_after_s = chance.choice((None, 1.0, 30.0))
        vendor.on_call = self._on_call
        return vendor

    def _plan(self, name: str) -> Plan:
        chance = self.chance
        nodes: list[NodePlan] = []
        for i in range(chance.randint(1, 6)):
            kind = chance.choice(tuple(_CLASSES))
            after = [one.id for one in nodes if chance.random() < 0.4]
            nodes.append(self._node(f"n{i}", kind, after))
        return pipeline(
            *nodes,
            name=name,
            schedule=ScheduleSpec(cron=chance.choice(("*/3 * * * *", "*/10 * * * *")), catchup=self._is(0.3))
            if self._is(0.3)
            else None,
            concurrency=chance.choice((None, None, 1, 2)),
            concurrency_policy=chance.choice(tuple(ConcurrencyPolicy)),
            run_timeout_s=chance.choice((None, None, None, 300.0)),
            priority=chance.randint(0, 2),
        )

    def _node(self, name: str, kind: str, after: list[str]) -> NodePlan:
        chance, caps = self.chance, _CLASSES[kind]
        delivery = caps.delivery
        if caps.correlation is not Correlation.KEY and not caps.sends_nothing:
            delivery = chance.choice((delivery, delivery, Delivery.AT_MOST_ONCE, Delivery.AT_LEAST_ONCE))
        if caps.correlation is Correlation.NONE and delivery is Delivery.PREFER_LOOKUP:
            delivery = Delivery.AT_MOST_ONCE
        return node(
            name,
            caps,
            after,
            on=kind,
            scope=chance.choice(("s", "t")) if caps.is_exclusive else "",
            delivery=delivery,
            if_running=chance.choice((IfRunning.WAIT, IfRunning.WAIT, IfRunning.ADOPT, IfRunning.FAIL)),
            pools=("pool",) if self._is(0.3) else (),
            priority=chance.randint(0, 1),
            retries=RetryPolicy(attempts=chance.choice((0, 0, 1, 3)), delay_s=5.0),
            limits=replace(Limits(), total_s=chance.choice((86_400.0, 86_400.0, 100.0))),
            on_failure=chance.choice((OnFailure.FAIL, OnFailure.FAIL, OnFailure.CONTINUE)),
        )

    def _on_call(self, call: str) -> None:
        if self._may_fault() and self._is(0.004):
            self.hits["crash on the wire"] += 1
            raise Crashed

    def _may_fault(self) -> bool:
        return self.world.clock.monotonic() < _LATEST_FAULT_S

    def _fate(self) -> Commit:
        if not self._may_fault() or not self._is(0.03):
            return Commit.FINE
        fate = self.chance.choice((Commit.UNAVAILABLE, Commit.LOST, Commit.CRASH_BEFORE, Commit.CRASH_AFTER))
        self.hits[f"commit {fate}"] += 1
        return fate

    # --- the life of it ----------------------------------------------------------------------------------------------

    def run(self) -> World:
        """Live it to its end. Raises AssertionError when something that must hold does not."""
        world = self.world
        world.fate = self._fate
        world.after_tick = self.oracle.after_tick
        self._survive(lambda: None)
        for _ in range(self.chance.randint(3, 7)):
            self._survive(self._something)
            self._survive(lambda: _pass(world, self.chance.choice((0.0, 1.0, 10.0, 60.0, 150.0))))
        # The faults are over: whatever is left must come to its end, or to somebody's desk.
        self._survive(lambda: _pass(world, max(_LATEST_FAULT_S + 1 - world.clock.monotonic(), 0.0)))
        self._survive(self._resume_all)
        world.plans = {name: replace(plan, schedule=None) for name, plan in world.plans.items()}
        self._survive(lambda: world.ask(world.engine.replace_plans(world.plans)))
        self._survive(lambda: world.until(self._needs_a_person, within_s=_QUIET_S))
        while world.engine.runs:
            self._decide()
            self._survive(lambda: world.until(self._needs_a_person, within_s=_QUIET_S))
        self.oracle.at_the_end()
        return world

    def _survive(self, act: Callable[[], object]) -> None:
        """Do something; a process that dies meanwhile is followed by another."""
        for _ in range(50):
            try:
                if self.world.life is None:
                    self.world.boot()
                act()
            except Crashed:
                self._die()
            except StoreUnavailableError:
                # Only a beginning may fail so; whoever lives waits, and any other error of the store is a finding.
                assert self.world.life is None
                self._die()
            else:
                return
        raise AssertionError("it dies and dies")

    def _die(self) -> None:
        if self.world.life is not None:
            self.world.crash()
        else:
            self.world.abandon_boot()
        if self._is(0.5):
            self.world.clock.advance(self.chance.choice((1.0, 60.0, 200.0)))

    def _held(self) -> list[tuple[str, str]]:
        return [
            (run.id, one.id)
            for run in self.world.engine.runs.values()
            for one in run.nodes.values()
            if one.state is NodeState.HELD
        ]

    def _needs_a_person(self) -> bool:
        return not self.world.engine.runs or bool(self._held())

    def _decide(self) -> None:
        """Whoever waits may wait for what a held start keeps: a person says how those ended, and it goes on."""
        for run_id, name in self._held():
            self.hits["held"] += 1
            self.oracle.decided.add((run_id, name))
            self._try(lambda: self.world.command(run_id, MarkNode(node=name, state=Mark.FAILED, reason="gone")))  # noqa: B023

    def _something(self) -> None:
        """A person does something, or a process is replaced, or a clock is set."""
        world, chance = self.world, self.chance
        dice = chance.random()
        runs = sorted(run.id for run in world.store.runs(limit=200))
        if dice < 0.45 or not runs:
            name = chance.choice(sorted(world.plans))
            world.trigger(name, identity=chance.choice((None, f"ci:{chance.randint(1, 3)}")))
        elif dice < 0.75:
            self._command(chance.choice(runs))
        elif dice < 0.80:
            self._try(lambda: world.ask(world.engine.pause_pipeline("p0", is_paused=self._is(0.5))))
        elif dice < 0.87:
            world.stop()
        elif dice < 0.95:
            raise Crashed
        else:
            world.clock.jump(chance.choice((-3600.0, -60.0, 60.0, 3600.0)))
            self.oracle.has_jumped = True

    def _command(self, run_id: str) -> None:
        chance = self.chance
        names = sorted(self.world.run(run_id).nodes)
        name = chance.choice(names)
        event: Event = chance.choice(
            (
                CancelRun(),
                CancelNode(node=name),
                RetryFailed(),
                RerunFrom(node=name),
                MarkNode(node=name, state=chance.choice(tuple(Mark)), reason="so it is"),
                Pause(),
                Resume(),
            )
        )
        if isinstance(event, MarkNode):
            # Before it is known: a crash may take the answer and leave the deed.
            self.oracle.decided.add((run_id, name))
        self._try(lambda: self.world.command(run_id, event))

    @staticmethod
    def _try(act: Callable[[], object]) -> bool:
        try:
            act()
        except RequestError:
            return False
        return True

    def _resume_all(self) -> None:
        world = self.world
        for name in sorted(world.plans):
            self._try(lambda name=name: world.ask(world.engine.pause_pipeline(name, is_paused=False)))  # type: ignore[misc]
        for run_id in sorted(world.engine.runs):
            if run_id in world.engine.runs and world.engine.runs[run_id].is_paused:
                self._try(lambda run_id=run_id: world.command(run_id, Resume()))  # type: ignore[misc]


def _pass(world: World, seconds: float) -> None:
    world.pass_time(seconds)


def journal_of(world: World) -> list[str]:
    """Everything that happened, as text."""
    return [repr(row) for row in world.journal()]
