"""How often to ask: sparse early, dense near the expected end, never below the vendor's floor, less when crowded."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Expected", "poll_in_s"]

_GROWTH = 0.05
_SLOWEST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What history says of a node's duration at the vendor, in seconds.

    Attributes:
        low_s: Nine of ten past runs took longer than this.
        high_s: Nine of ten past runs took less than this.
    """

    low_s: float
    high_s: float


def poll_in_s(
    *,
    elapsed_s: float,
    floor_s: float,
    in_flight: int = 1,
    most_per_s: float = 4000.0,
    expected: Expected | None = None,
) -> float:
    """Seconds until the next look at a run.

    Without history the interval grows with the time elapsed (5 %), so the end is noticed late by about as much. With
    history the first looks are spread over the time in which nothing is expected, and from there to the upper end of
    the expectation the interval is 2 % of the duration. Overdue runs fall back to growth.

    Args:
        elapsed_s: Since the vendor's run is known.
        floor_s: The vendor's floor; the result is never below it.
        in_flight: How many runs share the connection.
        most_per_s: The most runs to look at per second; stretches the interval when there are many.
        expected: What history says; None for less than five past runs.
    """
    interval = max(elapsed_s, 0.0) * _GROWTH
    if expected is not None and elapsed_s < expected.high_s:
        dense = max(expected.high_s * 0.02, floor_s)
        interval = max((expected.low_s - elapsed_s) * 0.75, dense) if elapsed_s < expected.low_s else dense
    return max(min(interval, _SLOWEST_S), floor_s, in_flight / most_per_s)
