"""A store with runs in it, for tests of reading and of actions: a tiny plan, a clock that stands, a fake vendor."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from conductor.core.admit import Limits
from conductor.core.plan import Plan
from conductor.core.vendor import (
    Absent,
    Baseline,
    ExternalRef,
    ExternalState,
    FindAnswer,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Request,
)
from conductor.engine.capacity import Capacity
from conductor.engine.connections import Connections
from conductor.engine.engine import Engine
from conductor.engine.perform import Performer
from conductor.engine.pipelines import Pipelines
from conductor.sdk.redact import Redactor
from conductor.sdk.testing import FakeClock
from conductor.service.actions import EngineActions, StoreActions
from conductor.service.asks import Done
from conductor.service.plans import Plans
from conductor.service.reading import Reader
from conductor.store import Store
from tests.unit.core.worlds import T0, node, plan

__all__ = ["FakeVendor", "Home", "example"]


class FakeVendor:
    """Takes every start and ends it as it is told."""

    def __init__(self, state: ExternalState = ExternalState.SUCCEEDED) -> None:
        self.state = state
        self.starts: list[str] = []

    async def prepare(self, request: Request) -> Baseline:
        return Baseline()

    async def start(self, request: Request) -> ExternalRef:
        self.starts.append(request.key)
        return ExternalRef(id=request.key)

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        return {ref.id: Observation(state=self.state) for ref in refs}

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        return Absent()

    async def cancel(self, ref: ExternalRef) -> None:
        return None

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        return LogExcerpt(lines=("one", "two", "three"))

    async def check(self) -> Health:
        return Health(is_ok=True, message="fine")


def example(name: str = "p") -> Plan:
    """Two nodes in a row, with a parameter."""
    made = plan(
        node("a"),
        node("b", after=["a"]),
        params={"day": "monday", "n": 1},
        param_types={"day": "string", "n": "integer"},
    )
    return replace(made, name=name, definition={"name": name, "version": 1})


class Home:
    """A database in a folder, and everything that people may do with it."""

    def __init__(self, folder: Path, *plans: Plan) -> None:
        self.url = f"sqlite:///{folder / 'conductor.db'}"
        self.folder = folder
        self.clock = FakeClock(start=T0)
        self.plans = {one.name: one for one in plans or (example(),)}
        self.numbers = itertools.count(1)
        self.vendor = FakeVendor()
        self.store = Store.open(self.url)
        self.reads = Store.open(self.url, is_read_only=True)

    def nonce(self) -> str:
        return str(next(self.numbers))

    def known(self, store: Store) -> Plans:
        compile_plan: Callable[[Mapping[str, Json]], Plan] = lambda body: self.plans[str(body["name"])]  # noqa: E731
        return Plans(current=self.plans, stored=store.definition, compile_plan=compile_plan)

    def reader(self) -> Reader:
        return Reader(store=self.reads, plans=self.known(self.reads), limits=Limits())

    def actions(self) -> StoreActions:
        return StoreActions(store=self.store, plans=self.known(self.store), clock=self.clock, nonce=self.nonce)

    def engine(self) -> Engine:
        redact = Redactor()
        rows = self.store.register(self.plans.values(), now=self.clock.now())
        connections = Connections(
            build=lambda name, context: self.vendor,
            clock=self.clock,
            redact=redact,
            state_dir=self.folder,
            project_dir=self.folder,
        )
        return Engine(
            store=self.store,
            clock=self.clock,
            connections=connections,
            performer=Performer(connections, redact),
            pipelines=Pipelines(
                plans=self.plans, rows=rows, load_version=self.known(self.store).load, install=self.store.install
            ),
            capacity=Capacity(connections={}, pools={}),
        )

    async def drive(self, engine: Engine, *asked: asyncio.Task[Done]) -> None:
        """Tick, five seconds apart, until everything asked is answered and no run is active."""
        async with asyncio.timeout(10):
            while engine.runs or not all(task.done() for task in asked):
                self.clock.advance(5)
                await engine.tick(self.clock.now())
                await asyncio.wait({asyncio.create_task(self.clock.sleep(0))})

    def engine_actions(self, engine: Engine) -> EngineActions:
        return EngineActions(engine=engine, plans=self.known(self.reads), reads=self.reads, nonce=self.nonce)

    def close(self) -> None:
        self.reads.close()
        self.store.close()
