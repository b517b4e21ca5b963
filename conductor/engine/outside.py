"""Everything that is on the wire: one task per effect, answers queued for the next tick. Changes no run by itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from conductor.core.events import AttemptEvent, Observed
from conductor.core.owed import Find, Start
from conductor.core.run import Run
from conductor.core.states import AttemptState
from conductor.engine.connections import Connections
from conductor.engine.desk import Desk, Going
from conductor.engine.follow import Followed, Group
from conductor.engine.perform import Performer, is_news
from conductor.sdk.clock import Clock

__all__ = ["Outside"]

_TO_AWAIT = frozenset({"start", "prepare", "cancel"})


class Outside:
    """Calls vendors for the engine. `answers` fills up; `wake_up` is called when it does."""

    def __init__(
        self,
        *,
        performer: Performer,
        connections: Connections,
        desk: Desk,
        clock: Clock,
        runs: Mapping[str, Run],
        wake_up: Callable[[], None],
    ) -> None:
        self._performer = performer
        self._connections = connections
        self._desk = desk
        self._clock = clock
        self._runs = runs
        self._wake_up = wake_up
        self._inflight: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers: deque[tuple[str, AttemptEvent]] = deque()

    @property
    def is_quiet(self) -> bool:
        """Nothing is on the wire and no answer waits."""
        return not (self._tasks or self.answers)

    @property
    def has_all_back(self) -> bool:
        """Every start, baseline and cancel has its answer."""
        return not any(kind in _TO_AWAIT for _, _, kind in self._inflight)

    def perform(self, going: list[Going]) -> None:
        """Send what was just committed, and look up and cancel what is owed."""
        for run_id, owed in self._desk.take_later():
            if run_id not in self._runs:
                continue
            if isinstance(owed, Find):
                self._spawn(run_id, owed.node, "find", self._find(self._runs[run_id], owed.node))
            else:
                self._spawn(run_id, owed.node, "cancel", self._cancel(self._runs[run_id], owed.node))
        for (run_id, node), effect in going:
            run = self._runs.get(run_id)
            if run is None:
                continue
            connection = run.plan.nodes[node].connection
            self._desk.sending(connection)
            if isinstance(effect, Start):
                self._spawn(run_id, node, "start", self._send(run, node, connection))
            else:
                self._spawn(run_id, node, "prepare", self._prepare(run, node, connection))

    def look(self) -> None:
        """Take the looks that are due, and check closed connections."""
        for group, batch in self._desk.follower.due(self._clock.monotonic()):
            _ = self._run(self._poll(group, batch))
        if self._connections.recheck_in_s() == 0.0:
            self._spawn("", "", "recheck", self._recheck())

    async def drain(self, grace_s: float) -> bool:
        """Wait until every start, baseline and cancel on the wire has its answer, at most `grace_s` seconds.

        Returns False when some have none.
        """
        sends = [task for (_, _, kind), task in self._inflight.items() if kind in _TO_AWAIT]
        if not sends:
            return True
        _, left = await asyncio.wait(sends, timeout=grace_s)
        return not left

    async def close(self) -> None:
        """Give up what is still on the wire and close the connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5.0)
        await self._connections.aclose()

    def _spawn(self, run_id: str, node: str, kind: str, work: Coroutine[Any, Any, None]) -> None:
        key = (run_id, node, kind)
        if key in self._inflight:
            work.close()
            return
        task = self._inflight[key] = self._run(work)
        # Also when the task trips: what is owed must not be taken for being on the wire for ever.
        task.add_done_callback(lambda done: self._inflight.pop(key) if self._inflight.get(key) is done else None)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _answer(self, run_id: str, node: str, kind: str, event: AttemptEvent) -> None:
        self._inflight.pop((run_id, node, kind), None)
        self._desk.touch(run_id, (node,))
        self.answers.append((run_id, event))
        self._wake_up()

    async def _send(self, run: Run, node: str, connection: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        assert attempt.state is AttemptState.SENDING
        event = await self._performer.start(run, run.plan.nodes[node], attempt)
        self._desk.sent((run.id, node), connection)
        self._answer(run.id, node, "start", event)

    async def _prepare(self, run: Run, node: str, connection: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        event = await self._performer.prepare(run, run.plan.nodes[node], attempt)
        self._desk.sent((run.id, node), connection)
        self._answer(run.id, node, "prepare", event)

    async def _find(self, run: Run, node: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        event = await self._performer.find(run, run.plan.nodes[node], attempt)
        self._answer(run.id, node, "find", event)

    async def _cancel(self, run: Run, node: str) -> None:
        attempt = run.nodes[node].attempt
        assert attempt is not None
        event = await self._performer.cancel(run.plan.nodes[node], attempt)
        self._answer(run.id, node, "cancel", event)
        self._desk.follower.nudge((run.id, node), self._clock.monotonic())

    async def _recheck(self) -> None:
        if await self._connections.recheck():
            self._desk.reopen()
        self._inflight.pop(("", "", "recheck"), None)
        self._wake_up()

    async def _poll(self, group: Group, batch: list[Followed]) -> None:
        polled = await self._performer.poll(group.connection, [member.ref for member in batch])
        now_s = self._clock.monotonic()
        self._desk.follower.answered(group, batch, now_s, error=polled.error, retry_after_s=polled.retry_after_s)
        for member in batch:
            seen = polled.seen.get(member.ref.id)
            run_id, node = member.key
            run = self._runs.get(run_id)
            if seen is None or run is None:
                continue
            attempt = run.nodes[node].attempt
            if attempt is not None and attempt.no == member.attempt_no and is_news(attempt, seen):
                self.answers.append((run_id, Observed(node=node, attempt_no=member.attempt_no, observation=seen)))
        self._wake_up()
