"""What past runs say about how long a node takes at its vendor. In memory, filled from the store once a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from conductor.core.cadence import Expected

__all__ = ["History"]

_KEPT = 20
_ENOUGH = 5


class History:
    """Recent durations by pipeline and node, newest last. Asks nobody: what is `unread`, somebody must `fill`."""

    def __init__(self) -> None:
        self._durations: dict[str, dict[str, deque[float]]] = {}
        self._expected: dict[tuple[str, str], Expected | None] = {}
        self.unread: set[str] = set()

    def want(self, pipeline: str) -> None:
        """The pipeline has runs: its durations are needed soon."""
        if pipeline not in self._durations:
            self.unread.add(pipeline)

    def fill(self, pipeline: str, durations: Mapping[str, Sequence[float]]) -> None:
        """What the store knows: durations by node, newest first."""
        self.unread.discard(pipeline)
        self._durations[pipeline] = {
            node: deque(reversed(seconds[:_KEPT]), maxlen=_KEPT) for node, seconds in durations.items()
        }

    def note(self, pipeline: str, node: str, seconds: float) -> None:
        """Remember one more duration; of a pipeline that is not filled yet it will be in the store."""
        known = self._durations.get(pipeline)
        if known is not None:
            known.setdefault(node, deque(maxlen=_KEPT)).append(seconds)
            self._expected.pop((pipeline, node), None)

    def expected(self, pipeline: str, node: str) -> Expected | None:
        """The band in which eight of ten recent runs ended; None with fewer than five."""
        key = (pipeline, node)
        if key not in self._expected:
            known = self._durations.get(pipeline)
            if known is None:
                return None
            self._expected[key] = _band(known.get(node, ()))
        return self._expected[key]


def _band(seconds: Sequence[float]) -> Expected | None:
    if len(seconds) < _ENOUGH:
        return None
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Expected(low_s=ordered[round(last * 0.1)], high_s=ordered[round(last * 0.9)])
