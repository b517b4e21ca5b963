"""The engine: `tick` is the whole of it, `run` is a loop around `tick` that waits.

One tick: take commands and answers, fire due schedules, step, commit once, perform what is owed. Nothing leaves before
its commit; what comes back is an event for the next tick.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog

from conductor.core.errors import (
    ConductorError,
    ConflictError,
    ErrorClass,
    ErrorInfo,
    InvalidTransitionError,
    NotFoundError,
    RequestError,
    StoreError,
    StoreUnavailableError,
)
from conductor.core.events import AttemptEvent, Barred, Event, Observed, Permitted, Recovered, Wake
from conductor.core.owed import Start
from conductor.core.plan import Plan
from conductor.core.run import Run
from conductor.core.states import AttemptState
from conductor.core.step import Step, step
from conductor.core.vendor import ExternalState
from conductor.engine.answers import claimed_ref, disowned
from conductor.engine.capacity import Capacity
from conductor.engine.connections import Connections
from conductor.engine.desk import Desk, Going
from conductor.engine.history import History
from conductor.engine.outside import Outside
from conductor.engine.perform import Performer
from conductor.engine.pipelines import Fired, NewRun, Pipelines
from conductor.sdk.clock import Clock
from conductor.store import Batch, Store

__all__ = ["Engine", "EngineSettings"]

_T = TypeVar("_T")
_HELD_BACK_S = 0.2
_log = structlog.get_logger("conductor.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine behaves.

    Attributes:
        sends_at_once: Starts and baselines on the wire at once, per connection.
        longest_wait_s: The loop looks around at least this often.
        commit_retry_s: How long to wait after a failed commit.
        stopped_patience_s: How long starts wait for a stopped connection before their attempts end.
        stop_grace_s: How long a stop waits for starts on the wire.
    """

    sends_at_once: int = 64
    longest_wait_s: float = 30.0
    commit_retry_s: float = 0.5
    stopped_patience_s: float = 300.0
    stop_grace_s: float = 35.0


@dataclass(slots=True, kw_only=True)
class _Command:
    """Something a person asked for; `reply` gets the run once it is committed, or the reason why not."""

    act: Callable[[Batch, datetime], Run | None]
    reply: asyncio.Future[Run | None]
    result: Run | None = None


@dataclass(slots=True, kw_only=True)
class _Tick:
    """One tick's work, kept when its commit fails: it is committed before anything else is looked at."""

    batch: Batch
    commands: list[_Command]
    going: list[Going]


class Engine:
    """Runs every pipeline of one project on one store."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        connections: Connections,
        performer: Performer,
        pipelines: Pipelines,
        capacity: Capacity,
        settings: EngineSettings | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._connections = connections
        self._pipelines = pipelines
        self._settings = settings or EngineSettings()
        self._executor = executor
        self._history = History(store.durations)
        self._runs: dict[str, Run] = {}
        self._desk = Desk(
            capacity=capacity,
            connections=connections,
            history=self._history,
            clock=clock,
            sends_at_once=self._settings.sends_at_once,
        )
        self._outside = Outside(
            performer=performer,
            connections=connections,
            desk=self._desk,
            clock=clock,
            runs=self._runs,
            wake_up=self.wake_up,
        )
        self._commands: deque[_Command] = deque()
        self._stuck: _Tick | None = None
        self._last: _Tick | None = None
        self._signal = asyncio.Event()
        self._is_stopping = False
        self.ticks = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over every run that has not ended: no vendor is called; what was being sent becomes ambiguous."""
        await self._in_store(self._store.take_over)
        now = self._clock.now()
        batch = Batch()
        for run in await self._in_store(lambda: self._store.load_active(self._pipelines.plan_of)):
            self._attach(run)
            self._apply(batch, run.id, Recovered(), now)
        await self._in_store(lambda: self._store.commit(batch))
        self._settle_commit(batch)
        self._desk.hold_all(self._runs.values())
        self._pipelines.start(now)

    async def run(self, *, until: Callable[[], bool] | None = None) -> None:
        """Tick until `stop` is called or `until` says so.

        Raises:
            StoreError: Going on is not safe; whoever waits for a reply gets the same error.
        """
        try:
            while not self._is_stopping:
                wait_s = await self.tick(self._clock.now())
                if until is not None and until():
                    return
                if wait_s > 0:
                    await self._wait(wait_s)
        except StoreError as error:
            for command in (*self._commands, *(self._last.commands if self._last else ())):
                if not command.reply.done():
                    command.reply.set_exception(error)
            raise

    async def stop(self) -> None:
        """Stop so that nothing is left ambiguous: no new starts, answers on the wire are awaited and committed."""
        self._is_stopping = True
        self.wake_up()
        await self._outside.drain(self._settings.stop_grace_s)
        await self.tick(self._clock.now())
        await self._outside.close()

    def wake_up(self) -> None:
        """End the loop's wait."""
        self._signal.set()

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._signal.wait()
        except TimeoutError:
            pass
        self._signal.clear()

    # --- what people ask for ----------------------------------------------------------------------------------------

    async def trigger(self, new: NewRun) -> Run:
        """Record a run; returns once it is committed. The same identity gives the same run, ended or not.

        Raises:
            RequestError: The pipeline does not exist or the parameters do not fit.
        """
        run_id = self._pipelines.run_id_of(new)
        if run_id not in self._runs:
            known = await self._in_store(lambda: self._store.load(run_id, self._pipelines.plan_of))
            if known is not None:
                return known

        def act(batch: Batch, now: datetime) -> Run:
            made = self._pipelines.create(new, now=now, epoch=self._store.epoch)
            if made.run.id in self._runs:
                return self._runs[made.run.id]
            return self._take_new(batch, made)

        run = await self._submit(act)
        assert run is not None
        return run

    async def command(self, run_id: str, event: Event) -> Run:
        """Apply what a person asks of a run; returns the run once it is committed.

        Raises:
            NotFoundError: There is no such run.
            RequestError: It makes no sense in the run's state; nothing changed.
        """
        if run_id not in self._runs:
            await self._in_store(lambda: self._store.adopt(run_id))
            loaded = await self._in_store(lambda: self._store.load(run_id, self._pipelines.plan_of))
            if loaded is None:
                raise NotFoundError(f"there is no run {run_id}: see `conductor runs list`")
            if run_id not in self._runs:
                self._attach(loaded)

        def act(batch: Batch, now: datetime) -> Run:
            if run_id not in self._runs:
                raise ConflictError(f"run {run_id} has just ended: ask again")
            try:
                self._apply(batch, run_id, event, now)
            except RequestError:
                self._drop_if_ended(run_id)
                raise
            return self._runs[run_id]

        run = await self._submit(act)
        assert run is not None
        return run

    async def pause_pipeline(self, name: str, *, is_paused: bool, actor: str = "") -> None:
        """Pause or resume a pipeline: its schedule and further starts of its runs. What runs is followed.

        Raises:
            NotFoundError: There is no such pipeline.
        """

        def act(batch: Batch, now: datetime) -> None:
            missed = self._pipelines.set_paused(name, is_paused=is_paused, now=now)
            batch.paused[name] = is_paused
            if missed is not None:
                self._take_fired(batch, missed)
            for run_id, event in self._pipelines.pause_events(
                name, self._runs.values(), is_paused=is_paused, actor=actor
            ):
                self._apply(batch, run_id, event, now)

        await self._submit(act)

    async def replace_plans(self, plans: Mapping[str, Plan]) -> None:
        """Use these definitions for runs to come; runs keep the version that they began with."""
        now = self._clock.now()
        rows = await self._in_store(lambda: self._store.register(plans.values(), now=now))
        self._pipelines.replace(plans, rows, now)
        self.wake_up()

    async def _submit(self, act: Callable[[Batch, datetime], Run | None]) -> Run | None:
        reply: asyncio.Future[Run | None] = asyncio.get_running_loop().create_future()
        self._commands.append(_Command(act=act, reply=reply))
        self.wake_up()
        return await reply

    # --- what others may look at ------------------------------------------------------------------------------------

    @property
    def runs(self) -> Mapping[str, Run]:
        """The runs that have not ended, as committed."""
        return self._runs

    @property
    def connections(self) -> Connections:
        """The connections in use."""
        return self._connections

    @property
    def is_idle(self) -> bool:
        """Nothing is asked for, nothing is on the wire, and no answer waits."""
        return self._outside.is_quiet and not self._commands and not self._desk.is_dirty

    def blocker(self, run_id: str, node: str) -> str | None:
        """What a queued node of an active run waits for, in words."""
        return self._desk.blocker(self._runs[run_id], node)

    # --- the tick ---------------------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> float:
        """Do everything that can be done at `now`. Returns the seconds until the next tick is needed, 0 for at once.

        Raises:
            StoreError: The store is broken or was taken over: the process must stop. Nothing was performed.
        """
        self.ticks += 1
        tick = self._last = self._stuck or await self._work(now)
        if tick.batch and not await self._commit(tick):
            return self._settings.commit_retry_s
        self._settle_commit(tick.batch)
        for command in tick.commands:
            if not command.reply.done():
                command.reply.set_result(command.result)
        self._outside.perform(tick.going)
        if not self._is_stopping:
            self._outside.look()
        return self._wait_s()

    async def _work(self, now: datetime) -> _Tick:
        """Everything up to the commit."""
        batch = Batch()
        commands = list(self._commands)
        self._commands.clear()
        for command in commands:
            self._run_command(command, batch, now)
        await self._take_answers(batch, now)
        await self._take_time(batch, now)
        self._desk.look(self._runs, now)
        self._bar(batch, now)
        return _Tick(batch=batch, commands=commands, going=self._permit(batch, now))

    def _run_command(self, command: _Command, batch: Batch, now: datetime) -> None:
        if command.reply.cancelled():
            return
        try:
            command.result = command.act(batch, now)
        except ConductorError as error:
            command.reply.set_exception(error)

    async def _take_answers(self, batch: Batch, now: datetime) -> None:
        answers = list(self._outside.answers)
        self._outside.answers.clear()
        asked = [
            (self._runs[run_id].plan.nodes[event.node].connection, ref.id)
            for run_id, event in answers
            if (ref := claimed_ref(event)) is not None and run_id in self._runs
        ]
        taken = await self._in_store(lambda: self._store.taken(asked)) if asked else {}
        for run_id, event in answers:
            run = self._runs.get(run_id)
            if run is None:
                continue
            ref = claimed_ref(event)
            if ref is not None:
                mine = (run_id, event.node, event.attempt_no)
                owner = taken.setdefault((run.plan.nodes[event.node].connection, ref.id), mine)
                event = event if owner == mine else disowned(event, owner)  # noqa: PLW2901 - the same answer, judged
            self._note_duration(batch, run, event, now)
            self._apply(batch, run_id, event, now)

    def _note_duration(self, batch: Batch, run: Run, event: AttemptEvent, now: datetime) -> None:
        if not isinstance(event, Observed) or event.observation.state is not ExternalState.SUCCEEDED:
            return
        attempt = run.nodes[event.node].attempt
        if attempt is not None and attempt.running_at is not None and attempt.state is AttemptState.RUNNING:
            seconds = (now - attempt.running_at).total_seconds()
            batch.durations.append((run.plan.name, event.node, seconds))
            self._history.note(run.plan.name, event.node, seconds)

    async def _take_time(self, batch: Batch, now: datetime) -> None:
        for run_id in self._desk.wakes.due(now):
            if run_id in self._runs:
                self._apply(batch, run_id, Wake(), now)
                self._desk.touch(run_id, None)
        if self._is_stopping:
            return
        due = list(self._pipelines.due(now))
        slots = [self._pipelines.run_id_of(new) for fired in due for new in fired.runs]
        known = await self._in_store(lambda: self._store.known(slots)) if slots else frozenset()
        for fired in due:
            self._take_fired(batch, fired)
            for new in fired.runs:
                made = self._pipelines.create(new, now=now, epoch=self._store.epoch)
                if made.run.id not in self._runs and made.run.id not in known:
                    self._take_new(batch, made)
        for run_id, event in self._pipelines.begin(self._runs):
            self._apply(batch, run_id, event, now)

    @staticmethod
    def _take_fired(batch: Batch, fired: Fired) -> None:
        batch.cursors[fired.pipeline] = fired.cursor_at
        if fired.dropped:
            batch.drops.append((fired.pipeline, fired.cursor_at, fired.dropped, fired.why))

    def _take_new(self, batch: Batch, made: Step) -> Run:
        run = batch.add(None, made)
        self._runs[run.id] = run
        self._pipelines.note(run)
        return run

    def _apply(self, batch: Batch, run_id: str, event: Event, now: datetime) -> bool:
        """Step one run; False when the event met a state that has no arrow for it, which changes nothing."""
        before = self._runs[run_id]
        try:
            made = step(before, event, now)
        except InvalidTransitionError as error:
            _log.error("an event was left out: this is a bug in Conductor", run=run_id, error=str(error))
            return False
        if made.run is before:
            return True
        change = batch.runs.get(run_id)
        after = batch.add(before if change is None else change.before, made)
        self._runs[run_id] = after
        self._desk.touch(run_id, made.changed if after.is_paused is before.is_paused else None)
        self._pipelines.note(after)
        return True

    def _bar(self, batch: Batch, now: datetime) -> None:
        """End starts whose connection nobody has mended in time: nothing was sent, and the node says why."""
        for (run_id, node), why in self._desk.barred(self._settings.stopped_patience_s):
            attempt = self._runs[run_id].nodes[node].attempt
            assert attempt is not None
            error = ErrorInfo(error_class=ErrorClass.AUTH, message=why)
            self._apply(batch, run_id, Barred(node=node, attempt_no=attempt.no, error=error), now)

    def _permit(self, batch: Batch, now: datetime) -> list[Going]:
        """Whoever gets slots is permitted in this very commit."""
        if self._is_stopping:
            return []
        going: list[Going] = []
        for key, effect in self._desk.admit():
            permit = Permitted(node=key[1], attempt_no=effect.attempt_no)
            if not isinstance(effect, Start) or self._apply(batch, key[0], permit, now):
                going.append((key, effect))
        self._desk.look(self._runs, now)
        return going

    # --- commit -----------------------------------------------------------------------------------------------------

    async def _commit(self, tick: _Tick) -> bool:
        is_retry = self._stuck is not None
        try:
            await self._in_store(lambda: self._store.commit(tick.batch, is_retry=is_retry))
        except StoreUnavailableError as error:
            _log.warning("commit failed, nothing was performed", error=str(error))
            self._stuck = tick
            return False
        self._stuck = None
        return True

    def _settle_commit(self, batch: Batch) -> None:
        for run_id, change in batch.runs.items():
            for transition in change.transitions:
                _log.info(
                    "transition",
                    run=run_id,
                    subject=transition.subject.value,
                    node=transition.node,
                    attempt=transition.attempt_no,
                    before=transition.before,
                    after=transition.after,
                    cause=transition.cause.value,
                )
            self._drop_if_ended(run_id)

    def _attach(self, run: Run) -> None:
        self._runs[run.id] = run
        self._pipelines.note(run)
        self._desk.touch(run.id, None)

    def _drop_if_ended(self, run_id: str) -> None:
        run = self._runs[run_id]
        if not run.state.is_final:
            return
        del self._runs[run_id]
        self._pipelines.note(run)
        self._desk.forget(run)

    async def _in_store(self, act: Callable[[], _T]) -> _T:
        if self._executor is None:
            return act()
        return await asyncio.get_running_loop().run_in_executor(self._executor, act)

    def _wait_s(self) -> float:
        if self._outside.answers or self._commands or self._desk.is_dirty:
            return 0.0
        now, now_s = self._clock.now(), self._clock.monotonic()
        waits = [self._settings.longest_wait_s]
        instants = (self._desk.wakes.next_at(), self._pipelines.next_at())
        waits.extend((at - now).total_seconds() for at in instants if at is not None)
        look_s = self._desk.follower.next_due_s()
        if look_s is not None:
            waits.append(look_s - now_s)
        recheck_s = self._connections.recheck_in_s()
        if recheck_s is not None:
            waits.append(recheck_s)
        if self._desk.is_held_back:
            waits.append(_HELD_BACK_S)
        return max(min(waits), 0.0)
