"""Slots: each makes at most one run, whatever clocks, pauses, edits and restarts do; what is left out is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conductor.core.plan import Plan, ScheduleSpec
from conductor.engine.cron import slot_times
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, FakeVendor
from tests.simulation.world import Commit, World, node, pipeline

MakeWorld = Callable[..., World]
PARIS = "Europe/Paris"


def _scheduled(cron: str, version: str = "0" * 12, **changes: Any) -> Plan:
    names = {"timezone", "catchup", "max_catchup"}
    spec = ScheduleSpec(cron=cron, **{key: value for key, value in changes.items() if key in names})
    rest = {key: value for key, value in changes.items() if key not in names}
    return pipeline(node("a", KEYED), version=version, schedule=spec, **rest)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _slots(world: World) -> list[str]:
    """Slots that have a run, in order, as day, hour and minute."""
    return sorted(f"{run.slot:%d %H:%M}" for run in world.store.runs(limit=1000) if run.slot is not None)


def _drops(world: World) -> list[int]:
    return [slots for _, slots, _ in world.store.drops("p")]


def _world(make_world: MakeWorld, plan: Plan, start: str = "2026-03-02 06:00", **more: Any) -> World:
    return make_world(plan, clock=SimClock(_at(start)), **more)


# --- catching up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "slots", "drops"),
    [
        ({}, ["02 10:00"], [3]),
        ({"catchup": True}, ["02 07:00", "02 08:00", "02 09:00", "02 10:00"], []),
        ({"catchup": True, "max_catchup": 2}, ["02 09:00", "02 10:00"], [2]),
    ],
)
def test_slots_missed_while_down_are_run_or_told(
    make_world: MakeWorld, changes: dict[str, Any], slots: list[str], drops: list[int]
) -> None:
    world = _world(make_world, _scheduled("0 * * * *", **changes))
    world.crash()
    world.clock.advance(4 * 3600 + 60)
    world.boot().rest()
    assert _slots(world) == slots
    assert _drops(world) == drops
    world.crash().boot().rest()
    assert _slots(world) == slots
    assert _drops(world) == drops


def test_a_pipeline_seen_for_the_first_time_has_missed_nothing(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 * * * *", catchup=True), start="2026-03-02 06:30")
    world.pass_time(1700)
    assert _slots(world) == []
    world.pass_time(200)
    assert _slots(world) == ["02 07:00"]


def test_a_crash_at_a_slot_neither_loses_nor_doubles_it(make_world: MakeWorld) -> None:
    for fate in (Commit.UNAVAILABLE, Commit.LOST):
        world = _world(make_world, _scheduled("0 * * * *"))
        fates = iter([fate, fate])
        world.fate = lambda fates=fates: next(fates, Commit.FINE)  # type: ignore[misc]
        world.pass_time(3 * 3600)
        assert _slots(world) == ["02 07:00", "02 08:00", "02 09:00"]
        world.crash()
        world.database.unlink()


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_doubles_no_slot(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("*/10 * * * *"))
    world.pass_time(3600)
    before = _slots(world)
    world.clock.jump(-1800)
    world.pass_time(1700)
    assert _slots(world) == before
    world.pass_time(1000)
    assert _slots(world) == [*before, "02 07:10"]


def test_a_clock_that_is_set_back_and_a_resume_double_no_slot(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("*/10 * * * *"))
    world.pass_time(3600)
    before = _slots(world)
    world.ask(world.engine.pause_pipeline("p", is_paused=True))
    world.clock.jump(-1800)
    world.ask(world.engine.pause_pipeline("p", is_paused=False))
    world.pass_time(1700)
    assert _slots(world) == before


def test_a_clock_that_is_set_forward_runs_the_newest_slot_and_tells_the_others(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("*/10 * * * *"))
    world.pass_time(600)
    world.clock.jump(3 * 3600)
    world.pass_time(1)
    assert _slots(world) == ["02 06:10", "02 09:10"]
    assert _drops(world) == [17]


# --- clock changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "since", "expected"),
    [
        ("30 2 * * *", "2026-03-28 12:00", ["2026-03-29 01:00", "2026-03-30 00:30", "2026-03-31 00:30"]),
        ("30 2 * * *", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30", "2026-10-27 01:30"]),
        ("0 * * * *", "2026-03-29 00:00", ["2026-03-29 01:00", "2026-03-29 02:00"]),
        (
            "*/30 * * * *",
            "2026-10-24 23:30",
            ["2026-10-25 00:00", "2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30", "2026-10-25 02:00"],
        ),
    ],
)
def test_slots_at_clock_changes_are_those_of_cron(cron: str, since: str, expected: list[str]) -> None:
    """Source: https://manpages.debian.org/bookworm/cron/cron.8.en.html (NOTES on daylight saving time)."""
    times = slot_times(ScheduleSpec(cron=cron, timezone=PARIS))
    assert [f"{at:%Y-%m-%d %H:%M}" for at in islice(times(_at(since)), len(expected))] == expected


@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "0 2,3 * * *", "*/30 * * * *", "0 * * * *", "15 1-4 * * *", "0 0 * * 0"]
)
@pytest.mark.parametrize("since", ["2026-03-27 00:00", "2026-10-23 00:00"])
def test_a_restart_at_any_slot_goes_on_with_the_same_slots(cron: str, since: str) -> None:
    times = slot_times(ScheduleSpec(cron=cron, timezone=PARIS))
    walked = list(islice(times(_at(since)), 60))
    stepped, at = [], _at(since)
    for _ in walked:
        at = next(times(at))
        stepped.append(at)
    assert stepped == walked
    assert walked == sorted(set(walked))


def _by_the_minute(hours: set[int], minute: int, start: datetime, days: int) -> Iterator[datetime]:
    """Debian's rule for fixed times, walked minute by minute: in the gap once right after it, in the fold once."""
    zone = ZoneInfo(PARIS)
    seen: set[tuple[object, int]] = set()
    last = start.astimezone(zone)
    for step in range(1, days * 1440):
        local = (start + timedelta(minutes=step)).astimezone(zone)
        jumped = int((local.replace(tzinfo=None) - last.replace(tzinfo=None)).total_seconds() // 60)
        for back in range(max(jumped, 1) - 1, -1, -1):
            wall = local.replace(tzinfo=None) - timedelta(minutes=back)
            if wall.hour in hours and wall.minute == minute and (wall.date(), wall.hour) not in seen:
                seen.add((wall.date(), wall.hour))
                yield local.astimezone(UTC)
        last = local


@pytest.mark.parametrize("since", ["2026-03-28 00:00", "2026-10-24 00:00", "2027-03-27 00:00"])
@pytest.mark.parametrize(("hours", "minute"), [({2}, 30), ({2}, 0), ({1}, 59), ({3}, 0), ({3}, 5)])
def test_fixed_times_agree_with_a_walk_by_the_minute(since: str, hours: set[int], minute: int) -> None:
    cron = f"{minute} {','.join(str(hour) for hour in sorted(hours))} * * *"
    expected = list(_by_the_minute(hours, minute, _at(since), 4))
    times = slot_times(ScheduleSpec(cron=cron, timezone=PARIS))
    assert list(islice(times(_at(since)), len(expected))) == expected


# --- pauses and edits -------------------------------------------------------------------------------------------------


def test_slots_missed_while_paused_are_told_when_it_is_resumed(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 * * * *"))
    world.ask(world.engine.pause_pipeline("p", is_paused=True))
    world.pass_time(4 * 3600)
    world.crash().boot()
    world.pass_time(3600)
    assert _slots(world) == []
    world.ask(world.engine.pause_pipeline("p", is_paused=False))
    assert _drops(world) == [5]
    world.pass_time(3700)
    assert _slots(world) == ["02 12:00"]


def test_slots_missed_while_paused_are_run_where_the_schedule_catches_up(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 * * * *", catchup=True))
    world.ask(world.engine.pause_pipeline("p", is_paused=True))
    world.pass_time(2 * 3600 + 60)
    world.ask(world.engine.pause_pipeline("p", is_paused=False))
    world.rest()
    assert _slots(world) == ["02 07:00", "02 08:00"]


def test_a_changed_schedule_begins_when_it_is_changed_also_after_a_crash(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 6 * * *"), start="2026-03-02 05:00")
    world.pass_time(5 * 3600)
    assert _slots(world) == ["02 06:00"]
    hourly = _scheduled("0 * * * *", version="1" * 12, catchup=True)
    world.ask(world.engine.replace_plans({"p": hourly}))
    world.plans = {"p": hourly}
    world.pass_time(1800)
    world.crash().boot()
    world.pass_time(3600)
    assert _slots(world) == ["02 06:00", "02 11:00"]


def test_an_unchanged_schedule_keeps_its_place_over_an_edit(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 * * * *", catchup=True))
    world.ask(world.engine.pause_pipeline("p", is_paused=True))
    world.pass_time(7300)
    edited = _scheduled("0 * * * *", version="1" * 12, catchup=True, description="the same times")
    world.ask(world.engine.replace_plans({"p": edited}))
    world.ask(world.engine.pause_pipeline("p", is_paused=False))
    world.rest()
    assert _slots(world) == ["02 07:00", "02 08:00"]


def test_a_pipeline_without_a_schedule_any_more_fires_no_more(make_world: MakeWorld) -> None:
    world = _world(make_world, _scheduled("0 * * * *"))
    world.pass_time(3700)
    world.ask(world.engine.replace_plans({"p": pipeline(node("a", KEYED), version="1" * 12)}))
    world.pass_time(7200)
    assert _slots(world) == ["02 07:00"]


def test_a_slot_whose_run_cannot_be_made_is_told_and_stops_nothing(make_world: MakeWorld) -> None:
    needy = _scheduled(
        "0 * * * *", required_params=frozenset({"day"}), params={"day": None}, param_types={"day": "string"}
    )
    other = pipeline(node("a", KEYED), name="q", schedule=ScheduleSpec(cron="0 * * * *"))
    world = make_world(needy, other, vendors=(FakeVendor("vendor", KEYED, SimClock()),))
    world.pass_time(3700)
    assert [run.pipeline for run in world.store.runs()] == ["q"]
    assert _drops(world) == [1]
