"""The clock as integrations and the HTTP client see it. The engine owns the real one; the simulator, a virtual one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """Time as an argument: wall time for facts, monotonic time for deadlines, and the only allowed way to wait."""

    def now(self) -> datetime:
        """The wall clock, UTC-aware."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards; for request deadlines only."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock."""
        ...
