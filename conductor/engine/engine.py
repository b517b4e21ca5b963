"""The engine: `tick` is the whole of it, `run` is a loop around `tick` that waits.

One tick: take commands and answers, fire due schedules, step, commit once, perform what is owed. Nothing leaves before
its commit; what comes back is an event for the next tick.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from conductor.core.errors import ConductorError, ConflictError, NotFoundError, RequestError, StoreUnavailableError
from conductor.core.events import (
    Accepted,
    AttemptEvent,
    Busy,
    Event,
    Observed,
    Permitted,
    Recovered,
    Seen,
    Wake,
)
from conductor.core.owed import Cancel, Find, Poll, Prepare, Start, next_wake, owed_by
from conductor.core.plan import Plan
from conductor.core.run import Run
from conductor.core.states import AttemptState
from conductor.core.step import Step, step
from conductor.core.vendor import ExternalState
from conductor.engine.capacity import Capacity, Key
from conductor.engine.connections import Connections
from conductor.engine.follow import Followed, Follower, Group
from conductor.engine.history import History
from conductor.engine.perform import Performer, is_news
from conductor.engine.pipelines import Fired, NewRun, Pipelines
from conductor.engine.wakes import Wakes
from conductor.sdk.clock import Clock
from conductor.store import Batch, Store

__all__ = ["Engine", "EngineSettings"]

_T = TypeVar("_T")

_log = structlog.get_logger("conductor.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the engine behaves.

    Attributes:
        sends_at_once: Starts and baselines on the wire at once, per connection.
        longest_wait_s: The loop looks around at least this often.
        commit_retry_s: How long to wait after a failed commit.
        stop_grace_s: How long a stop waits for starts on the wire.
    """

    sends_at_once: int = 64
    longest_wait_s: float = 30.0
    commit_retry_s: float = 0.5
    stop_grace_s: float = 35.0


@dataclass(slots=True, kw_only=True)
class _Command:
    """Something a person asked for; `reply` gets the run once it is committed, or the reason why not."""

    act: Callable[[Batch, datetime], Run | None]
    reply: asyncio.Future[Run | None]
    result: Run | None = None


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
        self._performer = performer
        self._pipelines = pipelines
        self._capacity = capacity
        self._settings = settings or EngineSettings()
        self._executor = executor
        self._history = History(store.durations)
        self._follower = Follower()
        self._wakes = Wakes()
        self._runs: dict[str, Run] = {}
        self._dirty: dict[str, set[str] | None] = {}
        self._preparing: set[Key] = set()
        self._answers: deque[tuple[str, AttemptEvent]] = deque()
        self._commands: deque[_Command] = deque()
        self._inflight: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._sending: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: list[tuple[str, Find | Cancel]] = []
        self._stuck: tuple[Batch, list[_Command], list[tuple[Key, Prepare | Start]]] | None = None
        self._signal = asyncio.Event()
        self._is_stopping = False
        self.is_idle = False
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
        for run in self._runs.values():
            for node in run.nodes.values():
                if node.attempt is not None and node.attempt.holds_slot:
                    self._capacity.hold((run.id, node.id), run.plan.nodes[node.id], node.attempt)
        self._pipelines.start(now)

    async def run(self, *, until: Callable[[], bool] | None = None) -> None:
        """Tick until `stop` is called or `until` says so. Re-raises what makes going on unsafe."""
        while not self._is_stopping:
            wait_s = await self.tick(self._clock.now())
            if until is not None and until():
                return
            if wait_s > 0:
                await self._wait(wait_s)

    async def stop(self) -> None:
        """Stop so that nothing is left ambiguous: no new starts, answers on the wire are awaited and committed."""
        self._is_stopping = True
        sends = [task for (_, _, kind), task in self._inflight.items() if kind in {"start", "prepare", "cancel"}]
        if sends:
            await asyncio.wait(sends, timeout=self._settings.stop_grace_s)
        await self.tick(self._clock.now())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        await self._connections.aclose()

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
        """Record a run; returns once it is committed.

        Raises:
            RequestError: The pipeline does not exist or the parameters do not fit.
        """

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

    def blocker(self, run_id: str, node: str) -> str | None:
        """What a queued node waits for, in words."""
        closed = self._connections.closed
        plan = self._runs[run_id].plan.nodes[node]
        if plan.connection in closed:
            return closed[plan.connection]
        return self._capacity.blocker((run_id, node), closed=closed)

    # --- the tick ---------------------------------------------------------------------------------------------------

    async def tick(self, now: datetime) -> float:
        """Do everything that can be done at `now`. Returns the seconds until the next tick is needed, 0 for at once.

        Raises:
            StoreError: The store is broken or was taken over: the process must stop. Nothing was performed.
        """
        self.ticks += 1
        if self._stuck is None:
            batch, commands = Batch(), self._take_commands()
            for command in commands:
                self._run_command(command, batch, now)
            await self._take_answers(batch, now)
            self._take_time(batch, now)
            self._begin_runs(batch, now)
            going = self._permit(batch, now)
        else:
            batch, commands, going = self._stuck
        if batch and not await self._commit(batch, commands, going):
            return self._settings.commit_retry_s
        self._settle_commit(batch)
        for command in commands:
            if not command.reply.done():
                command.reply.set_result(command.result)
        self._perform(going)
        self._look()
        self.is_idle = not (self._commands or self._answers or self._tasks)
        return self._wait_s()

    def _take_commands(self) -> list[_Command]:
        taken = list(self._commands)
        self._commands.clear()
        return taken

    def _run_command(self, command: _Command, batch: Batch, now: datetime) -> None:
        if command.reply.cancelled():
            return
        try:
            command.result = command.act(batch, now)
        except ConductorError as error:
            command.reply.set_exception(error)

    async def _take_answers(self, batch: Batch, now: datetime) -> None:
        if not self._answers:
            return
        answers = list(self._answers)
        self._answers.clear()
        asked = [
            (self._runs[run_id].plan.nodes[event.node].connection, ref.id)
            for run_id, event in answers
            if (ref := _new_ref(event)) is not None and run_id in self._runs
        ]
        taken = await self._in_store(lambda: self._store.taken(asked)) if asked else {}
        fresh: set[tuple[str, str]] = set()
        for run_id, event in answers:
            run = self._runs.get(run_id)
            if run is None:
                continue
            ref = _new_ref(event)
            checked: Event = event
            if ref is not None:
                place = (run.plan.nodes[event.node].connection, ref.id)
                owner = taken.get(place)
                mine = (run_id, event.node, event.attempt_no)
                if place in fresh or (owner is not None and owner != mine):
                    checked = _not_ours(event, owner)
                else:
                    fresh.add(place)
            self._note_duration(batch, run, event, now)
            self._apply(batch, run_id, checked, now)

    def _note_duration(self, batch: Batch, run: Run, event: AttemptEvent, now: datetime) -> None:
        if not isinstance(event, Observed) or event.observation.state is not ExternalState.SUCCEEDED:
            return
        attempt = run.nodes[event.node].attempt
        if attempt is not None and attempt.running_at is not None and attempt.state is AttemptState.RUNNING:
            seconds = (now - attempt.running_at).total_seconds()
            batch.durations.append((run.plan.name, event.node, seconds))
            self._history.note(run.plan.name, event.node, seconds)

    def _take_time(self, batch: Batch, now: datetime) -> None:
        for run_id in self._wakes.due(now):
            if run_id in self._runs:
                self._apply(batch, run_id, Wake(), now)
                self._dirty[run_id] = None
        if self._is_stopping:
            return
        for fired in self._pipelines.due(now):
            self._take_fired(batch, fired)
            for new in fired.runs:
                made = self._pipelines.create(new, now=now, epoch=self._store.epoch)
                if made.run.id not in self._runs:
                    self._take_new(batch, made)

    @staticmethod
    def _take_fired(batch: Batch, fired: Fired) -> None:
        batch.cursors[fired.pipeline] = fired.cursor_at
        if fired.dropped:
            batch.drops.append((fired.pipeline, fired.cursor_at, fired.dropped, fired.why))

    def _begin_runs(self, batch: Batch, now: datetime) -> None:
        if self._is_stopping:
            return
        for run_id, event in self._pipelines.begin(self._runs):
            self._apply(batch, run_id, event, now)

    def _take_new(self, batch: Batch, made: Step) -> Run:
        run = batch.add(None, made)
        self._runs[run.id] = run
        self._pipelines.note(run)
        return run

    def _apply(self, batch: Batch, run_id: str, event: Event, now: datetime) -> None:
        before = self._runs[run_id]
        made = step(before, event, now)
        if made.run is before:
            return
        change = batch.runs.get(run_id)
        after = batch.add(before if change is None else change.before, made)
        self._runs[run_id] = after
        self._touch(run_id, made.changed, is_all=after.is_paused is not before.is_paused)
        self._pipelines.note(after)

    def _touch(self, run_id: str, nodes: Iterable[str], *, is_all: bool = False) -> None:
        """What is owed for these nodes must be looked at again."""
        known = self._dirty.setdefault(run_id, set())
        if is_all:
            self._dirty[run_id] = None
        elif known is not None:
            known.update(nodes)

    # --- owed -------------------------------------------------------------------------------------------------------

    def _permit(self, batch: Batch, now: datetime) -> list[tuple[Key, Prepare | Start]]:
        """Look at what dirty runs owe; whoever gets slots is permitted in this very commit."""
        dirty, self._dirty = self._dirty, {}
        for run_id, nodes in sorted(dirty.items()):
            run = self._runs.get(run_id)
            if run is not None:
                self._look_at(run, now, nodes)
        if self._is_stopping:
            return []
        room = {}
        for name in self._capacity.connections_wanted():
            opened = self._connections.open(name)
            free = self._settings.sends_at_once - self._sending.get(name, 0)
            room[name] = free if opened is None or opened.wait_s() < 1.0 else 0
        going = self._capacity.admit(closed=self._connections.closed, room=room)
        for (run_id, node), effect in going:
            if isinstance(effect, Start):
                self._apply(batch, run_id, Permitted(node=node, attempt_no=effect.attempt_no), now)
            else:
                self._preparing.add((run_id, node))
        permitted, self._dirty = self._dirty, {}
        for run_id, nodes in permitted.items():
            self._look_at(self._runs[run_id], now, nodes)
        return going

    def _look_at(self, run: Run, now: datetime, nodes: Iterable[str] | None) -> None:
        """Bring slots, wants, looks and wakes of a run's nodes (None for all) in line with its state."""
        self._wakes.set(run.id, next_wake(run))
        for node in run.nodes if nodes is None else sorted(nodes):
            if run.nodes[node].attempt is not None:
                self._look_at_node(run, node, now)

    def _look_at_node(self, run: Run, node: str, now: datetime) -> None:
        key = (run.id, node)
        attempt = run.nodes[node].attempt
        assert attempt is not None
        is_preparing = key in self._preparing
        if attempt.holds_slot or is_preparing:
            self._capacity.hold(key, run.plan.nodes[node], attempt)
        else:
            self._capacity.let_go(key)
        is_wanting = is_followed = False
        for effect in owed_by(run, run.nodes[node], now):
            match effect:
                case Prepare() | Start():
                    is_wanting = not is_preparing
                    if is_wanting:
                        self._capacity.want(run, effect)
                case Poll():
                    is_followed = True
                    self._follow(run, node)
                case Find() | Cancel():
                    self._later.append((run.id, effect))
        if not is_wanting:
            self._capacity.unwant(key)
        if not is_followed:
            self._follower.forget(key)

    def _follow(self, run: Run, node: str) -> None:
        plan = run.plan.nodes[node]
        attempt = run.nodes[node].attempt
        assert attempt is not None
        assert attempt.ref is not None
        now = self._clock.now()
        elapsed_s = (now - attempt.running_at).total_seconds() if attempt.running_at else 0.0
        self._follower.follow(
            (run.id, node),
            uses=plan.uses,
            connection=plan.connection,
            batch_size=plan.capabilities.batch_size,
            floor_s=plan.capabilities.poll_floor_s,
            attempt_no=attempt.no,
            ref=attempt.ref,
            elapsed_s=max(elapsed_s, 0.0),
            expected=self._history.expected(run.plan.name, node),
            now_s=self._clock.monotonic(),
        )

    # --- commit -----------------------------------------------------------------------------------------------------

    async def _commit(self, batch: Batch, commands: list[_Command], going: list[tuple[Key, Prepare | Start]]) -> bool:
        is_retry = self._stuck is not None
        try:
            await self._in_store(lambda: self._store.commit(batch, is_retry=is_retry))
        except StoreUnavailableError as error:
            _log.warning("commit failed, nothing was performed", error=str(error))
            self._stuck = (batch, commands, going)
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
        self._dirty[run.id] = None

    def _drop_if_ended(self, run_id: str) -> None:
        run = self._runs[run_id]
        if not run.state.is_final:
            return
        del self._runs[run_id]
        self._pipelines.forget(run)
        self._wakes.set(run_id, None)
        for node in run.nodes:
            key = (run_id, node)
            self._capacity.let_go(key)
            self._capacity.unwant(key)
            self._follower.forget(key)

    async def _in_store(self, act: Callable[[], _T]) -> _T:
        if self._executor is None:
            return act()
        return await asyncio.get_running_loop().run_in_executor(self._executor, act)

    # --- perform ----------------------------------------------------------------------------------------------------

    def _perform(self, going: list[tuple[Key, Prepare | Start]]) -> None:
        later, self._later = self._later, []
        for run_id, owed in later:
            if run_id not in self._runs:
                continue
            if isinstance(owed, Find):
                self._spawn(run_id, owed.node, "find", self._find(run_id, owed))
            else:
                self._spawn(run_id, owed.node, "cancel", self._cancel(run_id, owed.node))
        for (run_id, node), effect in going:
            run = self._runs.get(run_id)
            if run is None:
                continue
            connection = run.plan.nodes[node].connection
            self._sending[connection] = self._sending.get(connection, 0) + 1
            if isinstance(effect, Start):
                self._spawn(run_id, node, "start", self._send(run, node, connection))
            else:
                self._spawn(run_id, node, "prepare", self._prepare(run, node, connection))

    def _spawn(self, run_id: str, node: str, kind: str, work: Coroutine[Any, Any, None]) -> None:
        key = (run_id, node, kind)
        if key in self._inflight:
            work.close()
            return
        task = asyncio.create_task(work)
        self._inflight[key] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, run: Run, node: str, connection: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        assert attempt.state is AttemptState.SENDING
        event = await self._performer.start(run, run.plan.nodes[node], attempt)
        self._sent(connection)
        self._answer(run.id, node, "start", event)

    async def _prepare(self, run: Run, node: str, connection: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        event = await self._performer.prepare(run, run.plan.nodes[node], attempt)
        self._sent(connection)
        self._answer(run.id, node, "prepare", event)

    def _sent(self, connection: str) -> None:
        self._sending[connection] -= 1
        self._capacity.reopen()

    async def _find(self, run_id: str, effect: Find) -> None:
        run = self._runs[run_id]
        attempt = run.nodes[effect.node].attempt
        assert attempt is not None
        event = await self._performer.find(run, run.plan.nodes[effect.node], attempt)
        self._answer(run_id, effect.node, "find", event)

    async def _cancel(self, run_id: str, node: str) -> None:
        run = self._runs[run_id]
        attempt = run.nodes[node].attempt
        assert attempt is not None
        event = await self._performer.cancel(run.plan.nodes[node], attempt)
        self._answer(run_id, node, "cancel", event)
        self._follower.nudge((run_id, node), self._clock.monotonic())

    def _answer(self, run_id: str, node: str, kind: str, event: AttemptEvent) -> None:
        self._inflight.pop((run_id, node, kind), None)
        self._preparing.discard((run_id, node))
        self._touch(run_id, (node,))
        self._answers.append((run_id, event))
        self.wake_up()

    # --- look -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._is_stopping:
            return
        for group, batch in self._follower.due(self._clock.monotonic()):
            task = asyncio.create_task(self._poll(group, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        recheck_s = self._connections.recheck_in_s()
        if recheck_s == 0.0:
            self._spawn("", "", "recheck", self._recheck())

    async def _recheck(self) -> None:
        if await self._connections.recheck():
            self._capacity.reopen()
        self._inflight.pop(("", "", "recheck"), None)
        self.wake_up()

    async def _poll(self, group: Group, batch: list[Followed]) -> None:
        polled = await self._performer.poll(group.connection, [member.ref for member in batch])
        self._follower.answered(
            group, batch, self._clock.monotonic(), error=polled.error, retry_after_s=polled.retry_after_s
        )
        for member in batch:
            seen = polled.seen.get(member.ref.id)
            run = self._runs.get(member.key[0])
            if seen is None or run is None:
                continue
            attempt = run.nodes[member.key[1]].attempt
            if attempt is None or attempt.no != member.attempt_no or not is_news(attempt, seen):
                continue
            event = Observed(node=member.key[1], attempt_no=member.attempt_no, observation=seen)
            self._answers.append((member.key[0], event))
        self.wake_up()

    def _wait_s(self) -> float:
        if self._answers or self._commands or self._dirty:
            return 0.0
        now, now_s = self._clock.now(), self._clock.monotonic()
        waits = [self._settings.longest_wait_s]
        wake_at = self._wakes.next_at()
        if wake_at is not None:
            waits.append((wake_at - now).total_seconds())
        slot_at = self._pipelines.next_at()
        if slot_at is not None:
            waits.append((slot_at - now).total_seconds())
        look_s = self._follower.next_due_s()
        if look_s is not None:
            waits.append(look_s - now_s)
        recheck_s = self._connections.recheck_in_s()
        if recheck_s is not None:
            waits.append(recheck_s)
        if self._capacity.is_held_back:
            waits.append(0.2)
        return max(min(waits), 0.0)


def _new_ref(event: AttemptEvent) -> Any:
    """The external run that an answer would tie to the attempt; None for other answers."""
    if isinstance(event, Accepted | Seen):
        return event.ref
    if isinstance(event, Busy):
        return event.running
    if isinstance(event, Observed):
        return event.observation.ref
    return None


def _not_ours(event: AttemptEvent, owner: tuple[str, str, int] | None) -> Event:
    """What an answer means when its external run belongs to another attempt already."""
    from conductor.core.errors import ErrorClass, ErrorInfo
    from conductor.core.events import CannotSee, Lost

    whose = f"run {owner[0]}, node {owner[1]}" if owner else "another node"
    why = f"the vendor named a run that belongs to {whose}"
    if isinstance(event, Accepted):
        error = ErrorInfo(error_class=ErrorClass.UNKNOWN, message=why)
        return Lost(node=event.node, attempt_no=event.attempt_no, error=error)
    if isinstance(event, Busy):
        return replace(event, running=None)
    if isinstance(event, Observed):
        return replace(event, observation=replace(event.observation, ref=None))
    return CannotSee(node=event.node, attempt_no=event.attempt_no, reason=why)
