"""Virtual time and the turns of one life's event loop. Time moves only when the world says so."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

__all__ = ["T0", "SimClock", "Turns", "turn"]

T0 = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
_MOST_TURNS = 100_000
_T = TypeVar("_T")


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


def turn() -> _Turn:
    """Awaited, it lets every other ready task go first, once."""
    return _Turn()


class SimClock:
    """Wall and monotonic time that stand still until `advance`; `jump` moves the wall alone."""

    def __init__(self, start: datetime = T0) -> None:
        self._start = self._wall = start
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._wall

    def true(self) -> datetime:
        """What the clocks of others say, whatever was done to ours."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        return self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await turn()
            return
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._elapsed_s + delay_s, self._count, future))
        await future

    def jump(self, delay_s: float) -> None:
        """The wall clock is set; nothing else happens."""
        self._wall += timedelta(seconds=delay_s)

    def advance(self, delay_s: float) -> None:
        """Time passes; whoever slept until now wakes."""
        if delay_s > 0:
            self._wall += timedelta(seconds=delay_s)
            self._elapsed_s += delay_s
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s + 1e-9:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    def next_in_s(self) -> float | None:
        """Seconds until somebody wakes; None when nobody sleeps."""
        return self._sleepers[0][0] - self._elapsed_s if self._sleepers else None

    def forget_sleepers(self) -> None:
        """Nobody wakes any more: their process is gone."""
        self._sleepers.clear()


class Turns:
    """One life's event loop, turned by hand. `abandon` is a crash: what is pending never runs again."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # Kept, or what hangs in a dead process would be collected as garbage, and its `finally` would run.
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop.set_task_factory(self._make_task)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **more)
        self._tasks.add(task)
        task.add_done_callback(self._take_note)
        return task

    def _take_note(self, task: asyncio.Task[Any]) -> None:
        """Somebody has seen how it ended: or a collection of garbage would tell it, in the midst of anything."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` to its end; other tasks go on meanwhile."""
        return self._loop.run_until_complete(work)

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Let `work` begin with the next turn."""
        return self._loop.create_task(work)

    def until_quiet(self) -> None:
        """Turn until every task waits for something."""
        for _ in range(_MOST_TURNS):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
            if not getattr(self._loop, "_ready"):  # noqa: B009 - asyncio's own queue, which has no public name
                return
        raise AssertionError("the tasks never come to rest")

    def bury(self) -> None:
        """Close the loop of a life that is over, once nothing that its tasks do can be seen any more."""
        for _ in range(_MOST_TURNS):
            if not self._tasks:
                break
            for task in self._tasks:
                task.cancel()
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
        self._loop.close()
