"""Puts an engine together round an integration that is no plugin, on a SQLite file of its own, durable as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from conductor.core.plan import Plan
from conductor.engine.capacity import Capacity
from conductor.engine.clock import SystemClock
from conductor.engine.connections import Connections
from conductor.engine.engine import Engine
from conductor.engine.perform import Performer
from conductor.engine.pipelines import Pipelines
from conductor.sdk import Context, Integration
from conductor.sdk.redact import Redactor
from conductor.store import Store

__all__ = ["engine_for"]


@asynccontextmanager
async def engine_for(
    plans: Iterable[Plan], build: Callable[[Context], Integration], folder: Path
) -> AsyncIterator[tuple[Engine, Store]]:
    """A started engine and its store; whoever gets them runs the loop.

    Args:
        plans: The project's pipelines.
        build: Makes the one integration that all of them use.
        folder: Where the database lies; one that is there already is taken over.
    """
    known = {plan.name: plan for plan in plans}
    clock, redact = SystemClock(), Redactor()
    with ThreadPoolExecutor(1) as executor, Store.open(f"sqlite:///{folder / 'conductor.db'}") as store:
        rows = store.register(known.values(), now=clock.now())
        connections = Connections(
            build=lambda _name, context: build(context),
            clock=clock,
            redact=redact,
            state_dir=folder,
            project_dir=folder,
        )
        engine = Engine(
            store=store,
            clock=clock,
            connections=connections,
            performer=Performer(connections, redact),
            pipelines=Pipelines(
                plans=known, rows=rows, load_version=lambda name, _version: known[name], install=store.install
            ),
            capacity=Capacity(connections={}, pools={}),
            executor=executor,
        )
        await engine.start()
        try:
            yield engine, store
        finally:
            await engine.stop()
