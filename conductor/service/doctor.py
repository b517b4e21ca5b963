"""Looks for what would break later: clock, database, disk, secrets, connections, versions. Changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from conductor.core.errors import ConductorError
from conductor.service.views import HealthView
from conductor.store import Store
from conductor.store.opening import FileLock, parse_url, sqlite_path

__all__ = [
    "CheckView",
    "Grade",
    "check_clock",
    "check_database",
    "check_disk",
    "check_secrets",
    "check_versions",
    "from_health",
]

_SAFE_SQLITE = (3, 51, 3)
"""From here on, and in some patched older lines, a rare loss of WAL pages is mended.

Source: https://www.sqlite.org/wal.html (section on the WAL-reset bug).
"""
_LITTLE_BYTES = 1_073_741_824
_TOO_LITTLE_BYTES = 104_857_600
_SKEW = timedelta(seconds=2)


class Grade(StrEnum):
    """How a check came out."""

    OK = "ok"
    """Nothing to do."""
    WARNING = "warning"
    """Worth a look; nothing is broken."""
    BAD = "bad"
    """Something will not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """One check.

    Attributes:
        name: What was looked at.
        grade: How it came out.
        message: What was seen.
        help: What to do.
    """

    name: str
    grade: Grade
    message: str
    help: str = ""


def check_versions() -> CheckView:
    """Python and SQLite."""
    python = ".".join(map(str, sys.version_info[:3]))
    message = f"Python {python}, SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < _SAFE_SQLITE:
        return CheckView(
            name="versions",
            grade=Grade.WARNING,
            message=f"{message}: SQLite below 3.51.3 can, very rarely, damage a WAL database",
            help="use a Python built with SQLite 3.51.3 or later, or PostgreSQL; keep backups: `conductor db backup`",
        )
    return CheckView(name="versions", grade=Grade.OK, message=message)


def check_clock(store: Store | None, *, now: datetime) -> CheckView:
    """The wall clock against the newest thing that was recorded: a clock that was set back fires schedules twice."""
    newest = store.runs(limit=1) if store is not None else []
    if newest and newest[0].created_at > now + _SKEW:
        behind = (newest[0].created_at - now).total_seconds()
        return CheckView(
            name="clock",
            grade=Grade.BAD,
            message=f"the clock is {behind:.0f} s behind the newest run: it was set back",
            help="correct the clock and let it be kept by NTP",
        )
    return CheckView(name="clock", grade=Grade.OK, message=f"{now.isoformat(timespec='seconds')}")


def check_database(url: str, *, is_deep: bool = False) -> list[CheckView]:
    """The database's schema and settings; with `is_deep`, also whether its pages are sound (reads all of it)."""
    parsed = parse_url(url)
    name = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite" and not sqlite_path(parsed).exists():
        return [CheckView(name="database", grade=Grade.OK, message=f"{name}: none yet; the first run makes it")]
    try:
        with Store.open(url, is_read_only=True) as store:
            runs = store.counts().get("runs", 0)
    except ConductorError as error:
        return [CheckView(name="database", grade=Grade.BAD, message=str(error), help="conductor db upgrade")]
    found = [CheckView(name="database", grade=Grade.OK, message=f"{name}: schema is up to date, {runs} runs")]
    if parsed.get_backend_name() == "sqlite":
        found.append(_check_sqlite(sqlite_path(parsed), is_deep=is_deep))
    return found


def _check_sqlite(path: Path, *, is_deep: bool) -> CheckView:
    address = f"file:{quote(str(path))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=10.0)) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            sound = connection.execute("PRAGMA integrity_check(1)").fetchone()[0] if is_deep else "ok"
    except sqlite3.Error as error:
        return CheckView(
            name="database file", grade=Grade.BAD, message=f"{path} cannot be read: {error}", help="restore a backup"
        )
    if sound != "ok":
        return CheckView(
            name="database file", grade=Grade.BAD, message=f"{path} is damaged: {sound}", help="restore a backup"
        )
    if mode != "wal":
        return CheckView(
            name="database file",
            grade=Grade.BAD,
            message=f"{path} is in journal mode {mode}, not wal",
            help="start `conductor serve` once: it sets the mode and refuses a disk that cannot keep it",
        )
    held = "a service writes it" if FileLock.is_held(path) else "nobody writes it now"
    words = "every page is sound, " if is_deep else ""
    return CheckView(name="database file", grade=Grade.OK, message=f"{words}WAL, {held}")


def check_disk(folder: Path) -> CheckView:
    """Room for state."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    message = f"{free / 1_073_741_824:.1f} GiB free in {there}"
    if free < _TOO_LITTLE_BYTES:
        return CheckView(name="disk", grade=Grade.BAD, message=message, help="make room: a full disk stops all starts")
    if free < _LITTLE_BYTES:
        return CheckView(name="disk", grade=Grade.WARNING, message=message, help="make room soon")
    return CheckView(name="disk", grade=Grade.OK, message=message)


def check_secrets(missing: Iterable[tuple[str, str]]) -> list[CheckView]:
    """Secrets that are referred to and not set, as (message, what to do)."""
    found = [
        CheckView(name="secrets", grade=Grade.BAD, message=message, help=help_text) for message, help_text in missing
    ]
    return found or [CheckView(name="secrets", grade=Grade.OK, message="all that are referred to are set")]


def from_health(health: Sequence[HealthView]) -> list[CheckView]:
    """Tried connections as checks."""
    return [
        CheckView(
            name=f"connection {one.name}",
            grade=Grade.OK if one.is_ok else Grade.BAD,
            message=one.message,
            help="" if one.is_ok else f"conductor connections test {one.name}",
        )
        for one in health
    ]
