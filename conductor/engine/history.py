"""What past runs say about how long a node takes at its vendor. In memory, filled from the store once a pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from conductor.core.cadence import Expected

__all__ = ["History"]

_KEPT = 20
_ENOUGH = 5


class History:
    """Recent durations by pipeline and node, newest last."""

    def __init__(self, load: Callable[[str], Mapping[str, Sequence[float]]]) -> None:
        self._load = load
        self._durations: dict[str, dict[str, deque[float]]] = {}
        self._expected: dict[tuple[str, str], Expected | None] = {}

    def note(self, pipeline: str, node: str, seconds: float) -> None:
        """Remember one more duration."""
        self._pipeline(pipeline).setdefault(node, deque(maxlen=_KEPT)).append(seconds)
        self._expected.pop((pipeline, node), None)

    def expected(self, pipeline: str, node: str) -> Expected | None:
        """The band in which eight of ten recent runs ended; None with fewer than five."""
        key = (pipeline, node)
        if key not in self._expected:
            self._expected[key] = _band(self._pipeline(pipeline).get(node, ()))
        return self._expected[key]

    def _pipeline(self, pipeline: str) -> dict[str, deque[float]]:
        if pipeline not in self._durations:
            found = self._load(pipeline)
            self._durations[pipeline] = {
                node: deque(reversed(seconds[:_KEPT]), maxlen=_KEPT) for node, seconds in found.items()
            }
        return self._durations[pipeline]


def _band(seconds: Sequence[float]) -> Expected | None:
    if len(seconds) < _ENOUGH:
        return None
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Expected(low_s=ordered[round(last * 0.1)], high_s=ordered[round(last * 0.9)])
