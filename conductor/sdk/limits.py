"""One connection's request budget: a token bucket that every call to that account passes, and its `Retry-After`."""

from __future__ import annotations

from dataclasses import dataclass

from conductor.sdk.clock import Clock

__all__ = ["RateLimit", "TokenBucket"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A vendor's posted limit.

    Attributes:
        requests: How many requests ...
        per_s: ... in how many seconds.
        burst: How many may go at once; the bucket's size.
    """

    requests: float
    per_s: float
    burst: int


class TokenBucket:
    """Spaces requests so that the vendor's limit is never passed; a `Retry-After` closes it for everybody."""

    def __init__(self, limit: RateLimit, clock: Clock) -> None:
        self._interval_s = limit.per_s / limit.requests
        self._depth_s = self._interval_s * max(limit.burst - 1, 0)
        self._clock = clock
        self._due = clock.monotonic()
        self._closed_until = clock.monotonic()

    def close_for(self, delay_s: float) -> None:
        """Let nothing through for `delay_s` seconds from now: the vendor asked for it."""
        self._closed_until = max(self._closed_until, self._clock.monotonic() + delay_s)

    def wait_s(self) -> float:
        """How long a request would wait if it were taken now; 0 when it may go at once. Takes nothing."""
        now = self._clock.monotonic()
        return max(self._due - self._depth_s - now, self._closed_until - now, 0.0)

    async def take(self) -> None:
        """Return when one request may be sent. Requests are let through in the order in which they asked."""
        now = self._clock.monotonic()
        start = max(self._due, now)
        self._due = start + self._interval_s
        delay = max(start - self._depth_s - now, self._closed_until - now)
        if delay > 0:
            await self._clock.sleep(delay)
