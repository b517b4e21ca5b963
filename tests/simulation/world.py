"""The real engine on the real store in virtual time: lives that end by a stop or by a crash, and vendors that stay.

A life is one event loop, one engine and one opened database. A crash drops them as they are: no `finally` of theirs
runs before the universe is over, and what was not committed is gone.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

from conductor.core.errors import StaleVersionError, StoreUnavailableError
from conductor.core.events import Event
from conductor.core.plan import NodePlan, Plan, Rendered, Template
from conductor.core.run import Attempt, Run, Trigger
from conductor.core.vendor import Capabilities, Json
from conductor.engine.capacity import Capacity
from conductor.engine.connections import Connections
from conductor.engine.engine import Engine, EngineSettings
from conductor.engine.perform import Performer
from conductor.engine.pipelines import NewRun, Pipelines
from conductor.sdk.redact import Redactor
from conductor.store import Batch, Store
from conductor.store.store import JournalRow
from tests.simulation.clock import SimClock, Turns
from tests.simulation.vendors import FakeVendor

__all__ = ["Commit", "Crashed", "Fixed", "World", "node", "pipeline"]

_MOST_TICKS_AT_ONCE = 500
_T = TypeVar("_T")


class Crashed(KeyboardInterrupt):
    """The process dies here. Of this kind, because asyncio lets it through at once, whatever else is ready."""


class Commit(StrEnum):
    """What becomes of one commit."""

    FINE = "fine"
    UNAVAILABLE = "unavailable"
    """Not written, and the engine is told so."""
    LOST = "lost"
    """Written, and the answer is lost."""
    STALE = "stale"
    """Somebody else was first."""
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"


class Fixed:
    """A `with` without expressions."""

    def __init__(self, scope: str = "", **settings: Json) -> None:
        self.constant: Rendered | None = Rendered(settings={**settings, "scope": scope}, scope=scope)

    def render(self, context: Mapping[str, Json]) -> Rendered:
        assert self.constant is not None
        return self.constant


def node(name: str, caps: Capabilities, after: Iterable[str] = (), *, on: str = "vendor", **changes: Any) -> NodePlan:
    """A node with every default taken from its capabilities."""
    settings: Template = Fixed(changes.pop("scope", ""))
    given: dict[str, Any] = {
        "settings": settings,
        "delivery": caps.delivery,
        "if_running": caps.if_running,
        "on_unknown": caps.on_unknown,
        "settle_window_s": caps.settle_window_s,
    }
    return NodePlan(
        id=name, uses=f"{on}.job", connection=on, capabilities=caps, depends_on=tuple(after), **(given | changes)
    )


def pipeline(*nodes: NodePlan, name: str = "p", version: str = "0" * 12, **changes: Any) -> Plan:
    """A pipeline of these nodes, given in topological order."""
    definition = {"version": version}
    return Plan(name=name, version=version, definition=definition, nodes={one.id: one for one in nodes}, **changes)


class _SimStore:
    """The store, with commits that go wrong when told. Everything else passes."""

    def __init__(self, store: Store, fate: Callable[[], Commit]) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, batch: Batch, *, is_retry: bool = False) -> None:
        fate = self._fate() if batch else Commit.FINE
        match fate:
            case Commit.UNAVAILABLE:
                raise StoreUnavailableError("the database is locked; trying again")
            case Commit.STALE:
                raise StaleVersionError("1 of 1 run rows were changed by another writer")
            case Commit.CRASH_BEFORE:
                raise Crashed
            case _:
                self._store.commit(batch, is_retry=is_retry)
        if fate is Commit.LOST:
            raise StoreUnavailableError("the connection broke; trying again")
        if fate is Commit.CRASH_AFTER:
            raise Crashed


@dataclass(slots=True, kw_only=True)
class Life:
    """One process."""

    turns: Turns
    store: Store
    engine: Engine
    connections: Connections


class World:
    """A project in virtual time.

    Attributes:
        clock: The only time.
        vendors: By connection.
        fate: Asked what becomes of the next commit.
        after_tick: Called after every tick whose commit went through.
        life: The process that lives now.
    """

    def __init__(
        self,
        folder: Path,
        *plans: Plan,
        vendors: Iterable[FakeVendor],
        clock: SimClock,
        connection_limits: Mapping[str, int] | None = None,
        pools: Mapping[str, int] | None = None,
        settings: EngineSettings | None = None,
        load_version: Callable[[str, str], Plan] | None = None,
        template: Path | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.vendors = {vendor.connection: vendor for vendor in vendors}
        self.plans = {plan.name: plan for plan in plans}
        self.fate: Callable[[], Commit] = lambda: Commit.FINE
        self.after_tick: Callable[[], None] = lambda: None
        self.life: Life | None = None
        self._limits = dict(connection_limits or {})
        self._pools = dict(pools or {})
        self._settings = settings or EngineSettings(stop_grace_s=0.05)
        self._load_version = load_version or self._known_version
        self._versions: dict[tuple[str, str], Plan] = {}
        self._dead: list[Turns] = []
        self._opening: Store | None = None
        self._identities = 0
        self._ticks_now = (0.0, 0)
        if template is not None:
            shutil.copy(template, self.database)

    @property
    def database(self) -> Path:
        return self.folder / "conductor.db"

    @property
    def engine(self) -> Engine:
        assert self.life is not None
        return self.life.engine

    @property
    def store(self) -> Store:
        assert self.life is not None
        return self.life.store

    def _known_version(self, name: str, version: str) -> Plan:
        return self._versions[name, version]

    # --- lives -------------------------------------------------------------------------------------------------------

    def boot(self) -> World:
        """A new process on the file."""
        assert self.life is None
        for plan in self.plans.values():
            self._versions[plan.name, plan.version] = plan
        store = self._opening = Store.open(f"sqlite:///{self.database}")
        turns = Turns()
        self._dead.append(turns)
        redact = Redactor()
        connections = Connections(
            build=lambda name, _: self.vendors[name],
            clock=self.clock,
            redact=redact,
            state_dir=self.folder,
            project_dir=self.folder,
        )
        # Asked each time, because a test may say later what becomes of a commit.
        faulty = cast("Store", _SimStore(store, self._next_fate))
        engine = Engine(
            store=faulty,
            clock=self.clock,
            connections=connections,
            performer=Performer(connections, redact),
            pipelines=Pipelines(
                plans=self.plans,
                rows=store.register(self.plans.values(), now=self.clock.now()),
                load_version=self._load_version,
                install="simulated",
            ),
            capacity=Capacity(connections=self._limits, pools=self._pools),
            settings=self._settings,
        )
        turns.run(engine.start())
        self._dead.remove(turns)
        self.life = Life(turns=turns, store=store, engine=engine, connections=connections)
        self._opening = None
        return self

    def abandon_boot(self) -> World:
        """The process died while it began."""
        self.clock.forget_sleepers()
        if self._opening is not None:
            self._opening.close()
            self._opening = None
        return self

    def crash(self) -> World:
        """The process is gone between two instructions; the system closes its files."""
        assert self.life is not None
        self.clock.forget_sleepers()
        self._dead.append(self.life.turns)
        self.life.store.close()
        self.life = None
        return self

    def stop(self) -> World:
        """The process stops as it should."""
        assert self.life is not None
        life = self.life
        task = life.turns.start(life.engine.stop())
        life.turns.until_quiet()
        while not task.done() and (sleeper_s := self.clock.next_in_s()) is not None:
            self._pass(sleeper_s)
        life.turns.run(asyncio.wait_for(task, None))
        self.clock.forget_sleepers()
        self._dead.append(life.turns)
        life.store.close()
        self.life = None
        return self

    def end(self) -> None:
        """The universe is over: what still hangs in dead processes is taken down."""
        if self.life is not None:
            self.crash()
        self.abandon_boot()
        for turns in self._dead:
            turns.bury()
        self._dead.clear()

    def _next_fate(self) -> Commit:
        return self.fate()

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> float:
        """One tick, and everything that follows from it without time passing. 0 when another is due at once."""
        assert self.life is not None
        self._count_tick()
        wait_s = self.life.turns.run(self.engine.tick(self.clock.now()))
        self.after_tick()
        self.life.turns.until_quiet()
        return 0.0 if self._has_signal() else wait_s

    def _count_tick(self) -> None:
        at, count = self._ticks_now
        now_s = self.clock.monotonic()
        self._ticks_now = (now_s, count + 1 if at == now_s else 1)
        assert self._ticks_now[1] <= _MOST_TICKS_AT_ONCE, "the engine ticks and ticks and no time passes"

    def _has_signal(self) -> bool:
        signal = self.engine._signal
        is_set = signal.is_set()
        signal.clear()
        return is_set

    def rest(self) -> float:
        """Tick until nothing more happens without time; returns the seconds until something does."""
        while (wait_s := self.tick()) <= 0:
            pass
        return wait_s

    def pass_time(self, seconds: float) -> World:
        """Let so much time pass, with everything that happens in it."""
        return self._drive(lambda: False, seconds, is_needed=False)

    def until(self, condition: Callable[[], bool], *, within_s: float = 3600.0) -> World:
        """Let time pass until `condition` holds, which must be so in `within_s` seconds."""
        return self._drive(condition, within_s, is_needed=True)

    def until_done(self, within_s: float = 86_400.0) -> World:
        """Let time pass until no run is left."""
        return self.until(lambda: not self.engine.runs and self.engine.is_idle, within_s=within_s)

    def _drive(self, condition: Callable[[], bool], seconds: float, *, is_needed: bool) -> World:
        end_s = self.clock.monotonic() + seconds
        wait_s = self.rest()
        while not condition():
            left_s = end_s - self.clock.monotonic()
            if left_s <= 1e-9:
                assert not is_needed, f"not so within {seconds} s: {self.picture()}"
                return self
            sleeper_s = self.clock.next_in_s()
            self._pass(min(wait_s, left_s, sleeper_s if sleeper_s is not None else wait_s))
            wait_s = self.rest()
        return self

    def _pass(self, seconds: float) -> None:
        assert self.life is not None
        self.clock.advance(max(seconds, 1e-6))
        self.life.turns.until_quiet()

    # --- what people do and see --------------------------------------------------------------------------------------

    def ask(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What the engine answers to a person; raises what it raises."""
        assert self.life is not None
        task = self.life.turns.start(work)
        self.life.turns.until_quiet()
        for _ in range(20):
            if task.done():
                break
            self.rest()
        assert task.done(), "no answer"
        return task.result()

    def trigger(self, name: str = "p", *, identity: str | None = None, **changes: Any) -> str:
        """Record a run; its id."""
        self._identities += 1
        new = NewRun(
            pipeline=name, trigger=Trigger.MANUAL, identity=identity or f"manual:{self._identities}", **changes
        )
        return self.ask(self.engine.trigger(new)).id

    def command(self, run_id: str, event: Event) -> Run:
        return self.ask(self.engine.command(run_id, event))

    def run(self, run_id: str) -> Run:
        """A run as it is committed."""
        found = self.store.load(run_id, lambda name, version: self._versions.get((name, version)))
        assert found is not None, run_id
        return found

    def states(self, run_id: str) -> dict[str, str]:
        return {name: one.state.value for name, one in self.run(run_id).nodes.items()}

    def attempt(self, run_id: str, node: str) -> Attempt:
        found = self.run(run_id).nodes[node].attempt
        assert found is not None
        return found

    def journal(self) -> list[JournalRow]:
        return self.store.journal(limit=1_000_000)

    def picture(self) -> dict[str, object]:
        """What goes on, for the message of a test that failed."""
        return {
            f"{run.id} {run.state}{' paused' if run.is_paused else ''}": {
                one.id: f"{one.state} {one.attempt.state if one.attempt else ''} {one.reason}".strip()
                for one in run.nodes.values()
                if not one.state.is_final
            }
            for run in self.engine.runs.values()
        }
