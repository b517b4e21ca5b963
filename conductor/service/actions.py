"""Carries out what people ask: through the running engine, or straight on the store when nothing runs. Same meaning.

Straight on the store means: recorded by the same pure `step`, under the store's writer lock, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from conductor.core.errors import NotFoundError
from conductor.core.keys import run_id
from conductor.core.step import step
from conductor.engine.engine import Engine
from conductor.engine.pipelines import NewRun, Pipelines
from conductor.sdk.clock import Clock
from conductor.service.asks import Done, PauseAsk, RunAsk, TriggerAsk, done, event_of, new_run_of, plan_named
from conductor.service.plans import Plans
from conductor.store import Batch, Store

__all__ = ["Actions", "EngineActions", "Nonce", "StoreActions"]

Nonce = Callable[[], str]
"""Gives a text that no other call has given."""


class Actions(Protocol):
    """Who carries asks out. Every method raises `RequestError` for what makes no sense; nothing changed then."""

    async def trigger(self, ask: TriggerAsk) -> Done:
        """Record a run; returns once it is committed. The same key gives the same run."""
        ...

    async def on_run(self, ask: RunAsk) -> Done:
        """Change a run; returns once it is committed."""
        ...

    async def on_pipeline(self, ask: PauseAsk) -> Done:
        """Pause or resume a pipeline; returns once it is committed."""
        ...


class EngineActions:
    """Through the engine of this process."""

    def __init__(self, *, engine: Engine, plans: Plans, reads: Store, nonce: Nonce) -> None:
        self._engine = engine
        self._plans = plans
        self._reads = reads
        self._nonce = nonce

    async def trigger(self, ask: TriggerAsk) -> Done:
        """Record a run; returns once it is committed."""
        new = new_run_of(ask, plan_named(self._plans.current, ask.pipeline), nonce=self._nonce())
        # The engine knows the runs that have not ended; one of the same key that has is found here.
        known = _find(self._reads, new) if ask.key else None
        if known is not None:
            return known
        return done(await self._engine.trigger(new), is_new=True)

    async def on_run(self, ask: RunAsk) -> Done:
        """Change a run; returns once it is committed."""
        event = event_of(ask)
        if not any(row.id == ask.run_id for row in self._reads.find_runs(ask.run_id)):
            raise _no_run(ask.run_id)
        return done(await self._engine.command(ask.run_id, event))

    async def on_pipeline(self, ask: PauseAsk) -> Done:
        """Pause or resume a pipeline; returns once it is committed."""
        await self._engine.pause_pipeline(ask.pipeline, is_paused=ask.is_paused, actor=ask.actor)
        return _paused(ask, is_served=True)


class StoreActions:
    """Straight on the store, for a command line while no service runs. The store must be open for writing."""

    def __init__(self, *, store: Store, plans: Plans, clock: Clock, nonce: Nonce) -> None:
        self._store = store
        self._plans = plans
        self._clock = clock
        self._nonce = nonce

    async def trigger(self, ask: TriggerAsk) -> Done:
        """Record a run; the next service begins it."""
        plan = plan_named(self._plans.current, ask.pipeline)
        new = new_run_of(ask, plan, nonce=self._nonce())
        known = _find(self._store, new) if ask.key else None
        if known is not None:
            return replace(known, is_served=False)
        made = self._pipelines().create(new, now=self._clock.now(), epoch=self._store.epoch)
        batch = Batch()
        run = batch.add(None, made)
        self._store.commit(batch)
        return done(run, is_new=True, is_served=False)

    async def on_run(self, ask: RunAsk) -> Done:
        """Change a run; what must be said to vendors is said by the next service."""
        event = event_of(ask)
        if not any(row.id == ask.run_id for row in self._store.find_runs(ask.run_id)):
            raise _no_run(ask.run_id)
        self._store.adopt(ask.run_id)
        run = self._store.load(ask.run_id, self._plans.load)
        if run is None:
            raise _no_run(ask.run_id)
        batch = Batch()
        after = batch.add(run, step(run, event, self._clock.now()))
        self._store.commit(batch)
        return done(after, is_served=False)

    async def on_pipeline(self, ask: PauseAsk) -> Done:
        """Pause or resume a pipeline and its runs."""
        now = self._clock.now()
        pipelines = self._pipelines()
        pipelines.start(now)
        missed = pipelines.set_paused(ask.pipeline, is_paused=ask.is_paused, now=now)
        batch = Batch(paused={ask.pipeline: ask.is_paused})
        if missed is not None:
            batch.cursors[missed.pipeline] = missed.cursor_at
            if missed.dropped:
                batch.drops.append((missed.pipeline, missed.cursor_at, missed.dropped, missed.why))
        self._store.take_over()
        runs = {run.id: run for run in self._store.load_active(self._plans.find)}
        for one, event in pipelines.pause_events(ask.pipeline, runs.values(), is_paused=ask.is_paused, actor=ask.actor):
            batch.add(runs[one], step(runs[one], event, now))
        self._store.commit(batch)
        return _paused(ask, is_served=False)

    def _pipelines(self) -> Pipelines:
        rows = self._store.register(self._plans.current.values(), now=self._clock.now())
        return Pipelines(
            plans=self._plans.current, rows=rows, load_version=self._plans.load, install=self._store.install
        )


def _find(store: Store, new: NewRun) -> Done | None:
    wanted = run_id(install=store.install, pipeline=new.pipeline, identity=new.identity)
    found = [row for row in store.find_runs(wanted) if row.id == wanted]
    if not found:
        return None
    return Done(run_id=wanted, pipeline=found[0].pipeline, state=found[0].state.value)


def _no_run(wanted: str) -> NotFoundError:
    return NotFoundError(f"there is no run {wanted}: see `conductor runs list`")


def _paused(ask: PauseAsk, *, is_served: bool) -> Done:
    state = "paused" if ask.is_paused else "active"
    return Done(run_id="", pipeline=ask.pipeline, state=state, is_served=is_served)
