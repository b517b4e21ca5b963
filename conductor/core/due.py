"""Which slots of a schedule are due. Cron arithmetic is handed in; what to do about missed slots is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from conductor.core.plan import ScheduleSpec

__all__ = ["Due", "due"]

_SCAN_MAX = 100_000


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
    found: list[datetime] = []
    next_at: datetime | None = None
    for instant in times(after):
        if instant > now:
            next_at = instant
            break
        found.append(instant)
        if len(found) > _SCAN_MAX:
            del found[: _SCAN_MAX // 2]
    keep = schedule.max_catchup if schedule.catchup else 1
    kept = found[-keep:]
    return Due(slots=tuple(kept), dropped=len(found) - len(kept), next_at=next_at)
