"""When time alone makes a run move: a heap of instants, one per run."""

from __future__ import annotations

import heapq
from datetime import datetime

__all__ = ["Wakes"]


class Wakes:
    """The next wake of each run."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set(self, run_id: str, at: datetime | None) -> None:
        """Wake the run at `at` instead of what was set before; None for not at all."""
        if self._at.get(run_id) == at:
            return
        if at is None:
            del self._at[run_id]
            return
        self._at[run_id] = at
        heapq.heappush(self._heap, (at, run_id))

    def next_at(self) -> datetime | None:
        """The earliest wake."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: datetime) -> list[str]:
        """The runs whose wake has come, earliest first; their wakes are taken out."""
        found: list[str] = []
        while (at := self.next_at()) is not None and at <= now:
            run_id = heapq.heappop(self._heap)[1]
            del self._at[run_id]
            found.append(run_id)
        return found
