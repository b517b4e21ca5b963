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
from functools import partial
from typing import TypeVar

import structlog

from conductor.core.errors import (
    ConductorError,
    ConflictError,
    ErrorClass,
    ErrorInfo,
    RequestError,
    StoreError,
    StoreUnavailableError,
)
from conductor.core.events import AttemptEvent, Barred, Event, Observed, Permitted, Recovered, Wake
from conductor.core.owed import Start
from conductor.core.plan import Plan
from conductor.core.run import Run
from conductor.core.states import AttemptState, RunState
from conductor.core.vendor import ExternalState
from conductor.engine.answers import claimed_ref, disowned
from conductor.engine.book import Book
from conductor.engine.capacity import Capacity
from conductor.engine.connections import Connections
from conductor.engine.desk import Desk, Going
from conductor.engine.history import History
from conductor.engine.outside import Outside
from conductor.engine.perform import Performer
from conductor.engine.pipelines import Fired, NewRun, Pipelines
from conductor.engine.ticks import Command, Tick, questions
from conductor.sdk.clock import Clock
from conductor.store import Batch, Store

__all__ = ["Engine", "EngineSettings"]

_T = TypeVar("_T")
_HELD_BACK_S = 0.2
_ACTIVE = (RunState.QUEUED, RunState.RUNNING)
_MOST_ACTIVE = 100_000
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
        self._history = History()
        self._desk = Desk(
            capacity=capacity,
            connections=connections,
            history=self._history,
            clock=clock,
            sends_at_once=self._settings.sends_at_once,
        )
        self._book = Book(pipelines=pipelines, history=self._history, desk=self._desk)
        self._runs = self._book.runs
        self._outside = Outside(
            performer=performer,
            connections=connections,
            desk=self._desk,
            clock=clock,
            runs=self._runs,
            wake_up=self.wake_up,
        )
        self._commands: deque[Command] = deque()
        self._fired: list[Fired] = []
        self._stuck: Tick | None = None
        self._last: Tick | None = None
        self._one_at_a_time = asyncio.Lock()
        self._signal = asyncio.Event()
        self._is_stopping = False
        self._over: ConductorError | None = None
        self.ticks = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over every run that has not ended: no vendor is called; what was being sent becomes ambiguous."""
        await self._in_store(self._store.take_over)
        now = self._clock.now()
        batch = Batch()
        for run in await self._in_store(lambda: self._store.load_active(self._pipelines.plan_of)):
            self._book.attach(run)
            self._book.apply(batch, run.id, Recovered(), now)
        if self._pipelines.unloadable:
            self._book.note_unloadable(
                await self._in_store(lambda: self._store.runs(states=_ACTIVE, limit=_MOST_ACTIVE))
            )
        await self._in_store(lambda: self._store.commit(batch))
        self._book.settle(batch)
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
                else:
                    # Whatever is on the wire must come to its turn, however much there is to do here.
                    await self._clock.sleep(0)
        except Exception as error:
            self._refuse(error if isinstance(error, ConductorError) else StoreError(f"Conductor failed: {error!r}"))
            raise

    async def stop(self) -> None:
        """Stop so that nothing is left ambiguous: no new starts, answers on the wire are awaited and committed.

        Takes at most `stop_grace_s`, and the time of what is being committed. Whoever asks for something afterwards
        is refused.

        Raises:
            StoreError: The store broke meanwhile; the next process looks up what was on the wire.
        """
        self._is_stopping = True
        self.wake_up()
        ends_at_s = self._clock.monotonic() + self._settings.stop_grace_s
        try:
            # A commit that failed before may hold permits: they are sent and awaited, too.
            while True:
                left_s = max(ends_at_s - self._clock.monotonic(), 0.0)
                is_back = await self._outside.drain(left_s)
                await self.tick(self._clock.now())
                is_done = self._stuck is None and self._outside.has_all_back and not self._outside.answers
                if is_done or not is_back or left_s <= 0:
                    break
                if self._stuck is not None:
                    await self._clock.sleep(self._settings.commit_retry_s)
        finally:
            self._refuse(ConflictError("Conductor is stopping: ask again when it runs"))
            await self._outside.close()

    def _refuse(self, error: ConductorError) -> None:
        """Nothing is done for people any more; whoever waits is told."""
        self._over = error
        for command in (*self._commands, *(self._last.commands if self._last else ())):
            command.fail(error)
        self._commands.clear()

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

        def act(tick: Tick, now: datetime) -> Run:
            known = self._book.recall(run_id, tick.known)
            if known is not None:
                return known
            return self._book.add(tick.batch, self._pipelines.create(new, now=now, epoch=self._store.epoch))

        run = await self._submit(act, run_id)
        assert run is not None
        return run

    async def command(self, run_id: str, event: Event) -> Run:
        """Apply what a person asks of a run; returns the run once it is committed.

        Raises:
            NotFoundError: There is no such run.
            RequestError: It makes no sense in the run's state; nothing changed.
        """

        def act(tick: Tick, now: datetime) -> Run:
            return self._book.command(tick.batch, run_id, event, tick.known, now)

        run = await self._submit(act, run_id)
        assert run is not None
        return run

    async def pause_pipeline(self, name: str, *, is_paused: bool, actor: str = "") -> None:
        """Pause or resume a pipeline: its schedule and further starts of its runs. What runs is followed.

        Raises:
            NotFoundError: There is no such pipeline.
        """

        def act(tick: Tick, now: datetime) -> None:
            batch = tick.batch
            missed = self._pipelines.set_paused(name, is_paused=is_paused, now=now)
            batch.paused[name] = is_paused
            if missed is not None:
                self._take_fired(batch, missed)
            for run_id, event in self._pipelines.pause_events(
                name, self._runs.values(), is_paused=is_paused, actor=actor
            ):
                self._book.apply(batch, run_id, event, now)

        await self._submit(act)

    async def replace_plans(self, plans: Mapping[str, Plan]) -> None:
        """Use these definitions for runs to come; runs keep the version that they began with."""
        now = self._clock.now()
        rows = await self._in_store(lambda: self._store.register(plans.values(), now=now))
        self._pipelines.replace(plans, rows, now)
        self.wake_up()

    async def _submit(self, act: Callable[[Tick, datetime], Run | None], run_id: str | None = None) -> Run | None:
        if self._over is not None:
            raise self._over
        reply: asyncio.Future[Run | None] = asyncio.get_running_loop().create_future()
        self._commands.append(Command(act=act, reply=reply, run_id=run_id))
        self.wake_up()
        return await reply

    # --- what others may look at ------------------------------------------------------------------------------------

    @property
    def runs(self) -> Mapping[str, Run]:
        """The runs that have not ended, as committed."""
        return self._runs

    @property
    def broken(self) -> Mapping[str, str]:
        """Runs that have not ended and cannot go on → why: their version does not load, or Conductor has a bug."""
        return self._book.broken

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
        async with self._one_at_a_time:
            self.ticks += 1
            if self._stuck is None and not await self._take(now):
                return self._settings.commit_retry_s
            tick = self._last
            assert tick is not None
            if tick.batch and not await self._commit(tick):
                return self._settings.commit_retry_s
            self._book.settle(tick.batch)
            for command in tick.commands:
                if not command.reply.done():
                    command.reply.set_result(command.result)
            self._outside.perform(tick.going)
            if not self._is_stopping:
                self._outside.look()
            return self._wait_s()

    async def _take(self, now: datetime) -> bool:
        """Everything up to the commit; False when the store could not be asked, and nothing was taken."""
        if not self._is_stopping:
            self._fired.extend(self._pipelines.due(now))
        tick = Tick(commands=list(self._commands), answers=list(self._outside.answers), fired=list(self._fired))
        try:
            await self._read(tick)
        except StoreUnavailableError as error:
            _log.warning("the store does not answer, nothing was taken", error=str(error))
            return False
        for _ in tick.commands:
            self._commands.popleft()
        for _ in tick.answers:
            self._outside.answers.popleft()
        self._fired.clear()
        self._last = tick
        for command in tick.commands:
            self._run_command(command, tick, now)
        self._take_answers(tick, now)
        self._take_time(tick, now)
        self._desk.look(self._runs, now)
        self._bar(tick.batch, now)
        tick.going = self._permit(tick.batch, now)
        return True

    async def _read(self, tick: Tick) -> None:
        for pipeline in sorted(self._history.unread):
            self._history.fill(pipeline, await self._in_store(partial(self._store.durations, pipeline)))
        asked = questions(tick, self._runs, self._pipelines)
        if asked:
            tick.known = await self._in_store(lambda: asked.ask(self._store, self._pipelines))

    @staticmethod
    def _run_command(command: Command, tick: Tick, now: datetime) -> None:
        if command.reply.cancelled():
            return
        try:
            command.result = command.act(tick, now)
        except Exception as error:  # noqa: BLE001 - the outer edge: what one person asks for must not stop the others
            command.fail(error)

    def _take_answers(self, tick: Tick, now: datetime) -> None:
        for run_id, event in tick.answers:
            run = self._runs.get(run_id)
            if run is None:
                continue
            ref = claimed_ref(event)
            if ref is not None:
                mine = (run_id, event.node, event.attempt_no)
                owner = tick.known.owners.setdefault((run.plan.nodes[event.node].connection, ref.id), mine)
                event = event if owner == mine else disowned(event, owner)  # noqa: PLW2901 - the same answer, judged
            self._note_duration(tick.batch, run, event, now)
            self._book.apply(tick.batch, run_id, event, now)

    def _note_duration(self, batch: Batch, run: Run, event: AttemptEvent, now: datetime) -> None:
        if not isinstance(event, Observed) or event.observation.state is not ExternalState.SUCCEEDED:
            return
        attempt = run.nodes[event.node].attempt
        if attempt is not None and attempt.running_at is not None and attempt.state is AttemptState.RUNNING:
            seconds = (now - attempt.running_at).total_seconds()
            batch.durations.append((run.plan.name, event.node, seconds))
            self._history.note(run.plan.name, event.node, seconds)

    def _take_time(self, tick: Tick, now: datetime) -> None:
        for run_id in self._desk.wakes.due(now):
            if run_id in self._runs and self._book.apply(tick.batch, run_id, Wake(), now):
                self._desk.touch(run_id, None)
        if self._is_stopping:
            return
        for fired in tick.fired:
            self._take_fired(tick.batch, fired)
            for new in fired.runs:
                run_id = self._pipelines.run_id_of(new)
                if run_id not in self._runs and run_id not in tick.known.recorded:
                    self._take_slot(tick.batch, new, now)
        for run_id, event in self._pipelines.begin(self._runs):
            self._book.apply(tick.batch, run_id, event, now)

    def _take_slot(self, batch: Batch, new: NewRun, now: datetime) -> None:
        try:
            made = self._pipelines.create(new, now=now, epoch=self._store.epoch)
        except RequestError as error:
            _log.error("a slot was left out: its run cannot be made", pipeline=new.pipeline, error=str(error))
            batch.drops.append((new.pipeline, new.slot or now, 1, f"its run could not be made: {error}"))
        else:
            self._book.add(batch, made)

    @staticmethod
    def _take_fired(batch: Batch, fired: Fired) -> None:
        batch.cursors[fired.pipeline] = fired.cursor_at
        if fired.dropped:
            batch.drops.append((fired.pipeline, fired.cursor_at, fired.dropped, fired.why))

    def _bar(self, batch: Batch, now: datetime) -> None:
        """End starts whose connection nobody has mended in time: nothing was sent, and the node says why."""
        for (run_id, node), why in self._desk.barred(self._settings.stopped_patience_s):
            attempt = self._runs[run_id].nodes[node].attempt
            assert attempt is not None
            error = ErrorInfo(error_class=ErrorClass.AUTH, message=why)
            self._book.apply(batch, run_id, Barred(node=node, attempt_no=attempt.no, error=error), now)

    def _permit(self, batch: Batch, now: datetime) -> list[Going]:
        """Whoever gets slots is permitted in this very commit."""
        if self._is_stopping:
            return []
        going: list[Going] = []
        for key, effect in self._desk.admit():
            permit = Permitted(node=key[1], attempt_no=effect.attempt_no)
            if not isinstance(effect, Start) or self._book.apply(batch, key[0], permit, now):
                going.append((key, effect))
        self._desk.look(self._runs, now)
        return going

    # --- commit -----------------------------------------------------------------------------------------------------

    async def _commit(self, tick: Tick) -> bool:
        is_retry = self._stuck is not None
        try:
            await self._in_store(lambda: self._store.commit(tick.batch, is_retry=is_retry))
        except StoreUnavailableError as error:
            _log.warning("commit failed, nothing was performed", error=str(error))
            self._stuck = tick
            return False
        self._stuck = None
        return True

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
