"""Checks cron expressions and time zones when a file is loaded, not at three in the morning. Knows no present time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from conductor.loader.diagnostics import did_you_mean

__all__ = ["cron_problem", "zone_problem"]

_FIELDS = 5
_START = datetime(2024, 1, 1, tzinfo=UTC)
_WITHIN = timedelta(days=5 * 366)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip


def cron_problem(cron: str) -> tuple[str, str] | None:
    """What is wrong and what to do; None when it fires at least once within five years."""
    if cron.strip().lower() in _NICKNAMES:
        return f"`{cron}` is not accepted as a schedule", f"write `{_NICKNAMES[cron.strip().lower()]}`"
    count = len(cron.split())
    if count != _FIELDS:
        more = "; seconds and years are not accepted" if count > _FIELDS else ""
        return (
            f"`{cron[:60]}` has {count} fields instead of {_FIELDS}{more}",
            "for example `0 6 * * *`, every day at 06:00",
        )
    try:
        first = next(CronSim(cron, _START), None)
    except CronSimError as error:
        return f"`{cron[:60]}` is not a cron expression: {error}", "minute, hour, day of month, month, day of week"
    if first is None or first - _START > _WITHIN:
        return f"`{cron}` never fires", "no such day exists within five years; check day and month"
    return None


def zone_problem(zone: str) -> tuple[str, str] | None:
    """What is wrong and what to do; None for a zone of the IANA database."""
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        help_text = did_you_mean(zone, sorted(available_timezones())) or _by_case(zone)
        return f"`{zone[:60]}` is not a time zone", help_text or "use an IANA name such as `Europe/Paris` or `UTC`"
    return None


def _by_case(zone: str) -> str:
    near = next((name for name in sorted(available_timezones()) if name.lower() == zone.lower()), None)
    return f"did you mean `{near}`?" if near else ""
