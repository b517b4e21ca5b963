"""Which slots of a schedule are due. Cron arithmetic is handed in; what to do about missed slots is decided here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from conductor.core.plan import ScheduleSpec

__all__ = ["Due", "due"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a look at a schedule found.

    Attributes:
        slots: Due instants to run, oldest first, UTC.
        dropped: How many older ones the catch-up policy leaves out; recorded, never silent.
        next_at: The first slot after `now`; None when there is none.
    """

    slots: tuple[datetime, ...]
    dropped: int
    next_at: datetime | None


def due(
    schedule: ScheduleSpec, after: datetime, now: datetime, *, times: Callable[[datetime], Iterator[datetime]]
) -> Due:
    """The slots in (`after`, `now`].

    Args:
        schedule: Its catch-up policy: without `catchup` only the newest missed slot runs.
        after: The last slot that was dealt with.
        now: The instant of looking.
        times: The schedule's instants after a given one, increasing, in UTC.
    """
    kept: deque[datetime] = deque(maxlen=schedule.max_catchup if schedule.catchup else 1)
    count = 0
    next_at: datetime | None = None
    for instant in times(after):
        if instant > now:
            next_at = instant
            break
        kept.append(instant)
        count += 1
    return Due(slots=tuple(kept), dropped=count - len(kept), next_at=next_at)
