"""When time alone makes a run move: a heap of instants, one per node and one for the run itself."""

from __future__ import annotations

import heapq
from datetime import datetime

__all__ = ["Wakes"]


class Wakes:
    """The next wake of each run, kept by part: a node's id, or empty for the run's own."""

    def __init__(self) -> None:
        self._at: dict[str, dict[str, datetime]] = {}
        self._heap: list[tuple[datetime, str, str]] = []

    def set(self, run_id: str, part: str, at: datetime | None) -> None:
        """Wake the run for this part at `at` instead of what was set for it before; None for not at all."""
        parts = self._at.setdefault(run_id, {})
        if parts.get(part) == at:
            return
        if at is None:
            del parts[part]
            return
        parts[part] = at
        heapq.heappush(self._heap, (at, run_id, part))

    def forget(self, run_id: str) -> None:
        """Wake the run no more."""
        self._at.pop(run_id, None)

    def next_at(self) -> datetime | None:
        """The earliest wake."""
        while self._heap and not self._is_set(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_set(self, at: datetime, run_id: str, part: str) -> bool:
        parts = self._at.get(run_id)
        return parts is not None and parts.get(part) == at

    def due(self, now: datetime) -> list[str]:
        """The runs for which a wake has come, earliest first and each once; these wakes are taken out."""
        found: dict[str, None] = {}
        while (at := self.next_at()) is not None and at <= now:
            _, run_id, part = heapq.heappop(self._heap)
            del self._at[run_id][part]
            found[run_id] = None
        return list(found)
