"""Slots that came due while nobody looked: the newest, or all of them, and never one silently dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.due import due
from conductor.core.plan import ScheduleSpec
from tests.unit.core.worlds import T0

_HOUR = timedelta(hours=1)


def _every(period: timedelta, *, until: datetime | None = None) -> Callable[[datetime], Iterator[datetime]]:
    def times(after: datetime) -> Iterator[datetime]:
        instant = after + period - (after - T0) % period
        while until is None or instant <= until:
            yield instant
            instant += period

    return times


def _spec(**changes: object) -> ScheduleSpec:
    return ScheduleSpec(cron="0 * * * *", **changes)  # type: ignore[arg-type]


def test_nothing_is_due_before_the_first_slot() -> None:
    found = due(_spec(), T0, T0 + _HOUR * 0.5, times=_every(_HOUR))
    assert (found.slots, found.dropped, found.next_at) == ((), 0, T0 + _HOUR)


def test_a_slot_is_due_at_its_very_instant_and_only_once() -> None:
    found = due(_spec(), T0, T0 + _HOUR, times=_every(_HOUR))
    assert (found.slots, found.dropped, found.next_at) == ((T0 + _HOUR,), 0, T0 + 2 * _HOUR)
    again = due(_spec(), T0 + _HOUR, T0 + _HOUR, times=_every(_HOUR))
    assert (again.slots, again.next_at) == ((), T0 + 2 * _HOUR)


def test_without_catchup_only_the_newest_missed_slot_runs_and_the_rest_is_counted() -> None:
    found = due(_spec(), T0, T0 + 10.5 * _HOUR, times=_every(_HOUR))
    assert (found.slots, found.dropped) == ((T0 + 10 * _HOUR,), 9)


def test_with_catchup_all_missed_slots_run_oldest_first() -> None:
    found = due(_spec(catchup=True), T0, T0 + 3 * _HOUR, times=_every(_HOUR))
    assert (found.slots, found.dropped) == (tuple(T0 + n * _HOUR for n in (1, 2, 3)), 0)


def test_catchup_drops_the_oldest_above_its_limit_and_counts_them() -> None:
    found = due(_spec(catchup=True, max_catchup=2), T0, T0 + 5 * _HOUR, times=_every(_HOUR))
    assert (found.slots, found.dropped) == ((T0 + 4 * _HOUR, T0 + 5 * _HOUR), 3)


def test_a_catchup_of_none_runs_none() -> None:
    found = due(_spec(catchup=True, max_catchup=0), T0, T0 + 5 * _HOUR, times=_every(_HOUR))
    assert (found.slots, found.dropped) == ((), 5)


def test_a_schedule_that_ends_has_no_next_slot() -> None:
    found = due(_spec(catchup=True), T0, T0 + 9 * _HOUR, times=_every(_HOUR, until=T0 + 2 * _HOUR))
    assert (found.slots, found.next_at) == ((T0 + _HOUR, T0 + 2 * _HOUR), None)


def test_a_very_long_absence_is_counted_in_full() -> None:
    missed = 150_000
    found = due(_spec(), T0, T0 + missed * timedelta(seconds=1), times=_every(timedelta(seconds=1)))
    assert found.slots == (T0 + timedelta(seconds=missed),)
    assert found.dropped == missed - 1


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(catchup=st.booleans(), most=st.integers(0, 6), looks=st.lists(st.integers(0, 400), min_size=1, max_size=8))
def test_however_often_one_looks_every_slot_is_run_or_counted_once(catchup: bool, most: int, looks: list[int]) -> None:
    times = _every(_HOUR)
    after = now = T0
    ran: list[datetime] = []
    dropped = 0
    for minutes in looks:
        now += timedelta(minutes=minutes)
        found = due(_spec(catchup=catchup, max_catchup=most), after, now, times=times)
        assert found.next_at is not None
        assert found.next_at > now
        ran.extend(found.slots)
        dropped += found.dropped
        after = now
    assert ran == sorted(set(ran))
    assert len(ran) + dropped == (now - T0) // _HOUR
