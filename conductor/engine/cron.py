"""The instants of a cron schedule in its zone, by cronsim: Debian's rules at clock changes.

A fixed time in the spring gap fires once, right after it; in the autumn fold once; wildcards follow real time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from conductor.core.plan import ScheduleSpec

__all__ = ["slot_times"]


def slot_times(schedule: ScheduleSpec) -> Callable[[datetime], Iterator[datetime]]:
    """A function from an instant to the schedule's instants after it, increasing, in UTC."""
    zone = ZoneInfo(schedule.timezone)

    def times(after: datetime) -> Iterator[datetime]:
        for local in CronSim(schedule.cron, after.astimezone(zone)):
            yield local.astimezone(UTC)

    return times
