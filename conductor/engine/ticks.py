"""One tick's work as a value, and what it must know from the store before it changes anything.

Everything is read first: a store that does not answer then costs nothing but time, for nothing was taken yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from conductor.core.events import AttemptEvent
from conductor.core.run import Run
from conductor.engine.answers import Owner, claimed_ref
from conductor.engine.desk import Going
from conductor.engine.pipelines import Fired, Pipelines
from conductor.store import Batch, Store

__all__ = ["Answer", "Command", "Known", "Questions", "Tick", "questions"]

Answer = tuple[str, AttemptEvent]
"""(run, what came back for it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store says of what this tick is about.

    Attributes:
        owners: (connection, external id) → the attempt that it belongs to; the tick adds those that it gives away.
        recorded: Ids of runs that exist, of those that commands and slots are about and that are not active.
        runs: The same as runs, where a command needs one and its version loads.
    """

    owners: dict[tuple[str, str], Owner] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()
    runs: Mapping[str, Run] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Command:
    """Something a person asked for; `reply` gets the run once it is committed, or the reason why not.

    Attributes:
        act: Does it within a tick.
        reply: What the person waits for.
        run_id: The run that it is about, or that it makes; None for none.
        result: What to reply.
    """

    act: Callable[[Tick, datetime], Run | None]
    reply: asyncio.Future[Run | None]
    run_id: str | None = None
    result: Run | None = None

    def fail(self, error: BaseException) -> None:
        """Tell the person, unless they were answered or left."""
        if not self.reply.done():
            self.reply.set_exception(error)


@dataclass(slots=True, kw_only=True)
class Tick:
    """One tick's work, kept when its commit fails: it is committed before anything else is looked at.

    Attributes:
        commands: What people asked for.
        answers: What came back from vendors.
        fired: What schedules brought.
        known: What the store says of all that.
        batch: What is to be committed.
        going: What goes on the wire after the commit.
    """

    commands: list[Command]
    answers: list[Answer]
    fired: list[Fired]
    known: Known = field(default_factory=Known)
    batch: Batch = field(default_factory=Batch)
    going: list[Going] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """What a tick must ask the store.

    Attributes:
        claims: (connection, external id) that answers would tie to their attempts.
        commanded: Runs that commands are about and that are not active.
        slots: Runs that schedules would make.
    """

    claims: list[tuple[str, str]]
    commanded: list[str]
    slots: list[str]

    def __bool__(self) -> bool:
        return bool(self.claims or self.commanded or self.slots)

    def ask(self, store: Store, pipelines: Pipelines) -> Known:
        """What the store says. An ended run that a command is about becomes this process's own.

        Raises:
            StoreUnavailableError: The store does not answer; ask again.
        """
        recorded = store.known(self.commanded + self.slots) if self.commanded or self.slots else frozenset()
        runs = {}
        for run_id in self.commanded:
            if run_id in recorded:
                store.adopt(run_id)
                found = store.load(run_id, pipelines.plan_of)
                if found is not None:
                    runs[run_id] = found
        return Known(owners=store.taken(self.claims) if self.claims else {}, recorded=recorded, runs=runs)


def questions(tick: Tick, active: Mapping[str, Run], pipelines: Pipelines) -> Questions:
    """What must be asked before the tick's work is done."""
    return Questions(
        claims=[
            (active[run_id].plan.nodes[event.node].connection, ref.id)
            for run_id, event in tick.answers
            if (ref := claimed_ref(event)) is not None and run_id in active
        ],
        commanded=sorted({one.run_id for one in tick.commands if one.run_id is not None} - active.keys()),
        slots=sorted({pipelines.run_id_of(new) for fired in tick.fired for new in fired.runs} - active.keys()),
    )
