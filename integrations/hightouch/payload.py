"""Reads Hightouch's JSON into values: ids, times, runs, pages, error bodies. Pure; says nothing of what they mean.

Lenient about what is missing or new, strict about what everything else hangs on: the id and the status of a run.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from conductor.sdk import UnreadableError

__all__ = ["Page", "Rows", "SyncRow", "SyncRun", "error_words", "normal_id", "parse_run_page", "parse_sync_page"]

_MAX_ID_DIGITS = 20
_MAX_EXACT_FLOAT = 2**53
_MAX_COUNT = 2**63
_HTTP = re.compile(r"HTTP (\d{3})(?::\s*(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Counts of rows by what was done with them; None where Hightouch did not say.

    Attributes:
        added: New at the destination.
        changed: Changed there.
        removed: Removed there.
    """

    added: int | None = None
    changed: int | None = None
    removed: int | None = None

    @property
    def total(self) -> int | None:
        """All of them; None when not one count was given."""
        given = [count for count in (self.added, self.changed, self.removed) if count is not None]
        return sum(given) if given else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRun:
    """One run as `GET /syncs/{id}/runs` lists it.

    Attributes:
        id: The run's number as text.
        status: Hightouch's word, verbatim.
        created_at: When it was asked for; may be long before `started_at` when it was queued.
        started_at: When the work began.
        finished_at: When it ended.
        completion_ratio: 0.0 to 1.0.
        query_size: Rows that the model returned.
        error: Hightouch's words; empty for none.
        planned: Rows to push.
        successful: Rows pushed.
        failed: Rows rejected.
    """

    id: str
    status: str
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    completion_ratio: float | None = None
    query_size: int | None = None
    error: str = ""
    planned: Rows = Rows()
    successful: Rows = Rows()
    failed: Rows = Rows()


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRow:
    """One sync as `GET /syncs` lists it.

    Attributes:
        id: The sync's number as text.
        slug: Its slug; empty for none.
        status: The word for its newest run, or for itself (`disabled`, `pending`).
    """

    id: str
    slug: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list of runs.

    Attributes:
        runs: Those that could be read, in the order of the answer.
        length: How many rows the answer had, readable or not.
        unreadable: How many rows could not be read.
        is_last: Hightouch says that there is no more, or the page is empty.
    """

    runs: tuple[SyncRun, ...]
    length: int
    unreadable: int
    is_last: bool

    @property
    def is_newest_first(self) -> bool:
        """True when the order is seen to be descending; one row alone shows no order.

        Source: the parameter `orderBy` is documented without a direction, so the direction is read off the answer.
        """
        ids = [int(run.id) for run in self.runs]
        return len(ids) > 1 and all(first > second for first, second in pairwise(ids))

    def reaches(self, run_id: int) -> bool:
        """True when every newer run stands on this page or an earlier one."""
        return self.is_newest_first and int(self.runs[-1].id) <= run_id


def normal_id(value: object) -> str | None:
    """An id as decimal text without leading zeros, from text or number; None for anything else.

    Source: the trigger answers `{"id": "1234567890"}`, the run object holds the number 1234567890.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        if not value.is_integer() or abs(value) > _MAX_EXACT_FLOAT:
            return None
        value = int(value)
    if isinstance(value, int):
        return str(value) if 0 < value < 10**_MAX_ID_DIGITS else None
    if isinstance(value, str):
        text = value.strip()
        if text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS and int(text) > 0:
            return str(int(text))
    return None


def parse_run_page(body: object) -> Page:
    """The answer of `GET /syncs/{id}/runs`.

    Raises:
        UnreadableError: It is not a list of anything.
    """
    rows, is_last = _listed(body)
    runs = [run for row in rows if (run := _run(row)) is not None]
    return Page(runs=tuple(runs), length=len(rows), unreadable=len(rows) - len(runs), is_last=is_last)


def parse_sync_page(body: object) -> tuple[tuple[SyncRow, ...], bool]:
    """The answer of `GET /syncs`, rows that cannot be read left out, and whether it was the last page.

    Raises:
        UnreadableError: It is not a list of anything.
    """
    rows, is_last = _listed(body)
    return tuple(found for row in rows if (found := _sync(row)) is not None), is_last


def error_words(text: str) -> tuple[str, str]:
    """The status and the readable words of an HTTP error's text, such as `HTTP 422: {"error": "disabled"}`.

    Source: three shapes are met: `{"message", "details"}` on 400 and 422, `{"error"}`, and plain or quoted text.
    """
    found = _HTTP.search(text)
    if found is None:
        return "", text.strip()
    status, body = found.group(1), (found.group(2) or "").strip()
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return status, body
    return status, _words(value) or body


def _words(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if not isinstance(value, dict):
        return ""
    parts = [_words(value[name]) for name in ("message", "error") if value.get(name)]
    details = value.get("details")
    if details:
        parts.append(details if isinstance(details, str) else json.dumps(details, sort_keys=True))
    return ": ".join(part for part in parts if part)


def _listed(body: object) -> tuple[list[object], bool]:
    rows = body.get("data") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(rows, list):
        raise UnreadableError("the answer holds no list under 'data'", raw=repr(body)[:2000])
    # An older revision had no `hasMore`; then only an empty page is the end.
    return rows, not rows or body.get("hasMore") is False


def _run(row: object) -> SyncRun | None:
    if not isinstance(row, dict):
        return None
    run_id, status = normal_id(row.get("id")), row.get("status")
    if run_id is None or not isinstance(status, str) or not status.strip():
        return None
    return SyncRun(
        id=run_id,
        status=status,
        created_at=_instant(row.get("createdAt")),
        started_at=_instant(row.get("startedAt")),
        finished_at=_instant(row.get("finishedAt")),
        completion_ratio=_ratio(row.get("completionRatio")),
        query_size=_count(row.get("querySize")),
        error=_words(row.get("error")) or _dumped(row.get("error")),
        planned=_rows(row.get("plannedRows")),
        successful=_rows(row.get("successfulRows")),
        failed=_rows(row.get("failedRows")),
    )


def _sync(row: object) -> SyncRow | None:
    if not isinstance(row, dict) or (sync_id := normal_id(row.get("id"))) is None:
        return None
    slug, status = row.get("slug"), row.get("status")
    return SyncRow(
        id=sync_id, slug=slug if isinstance(slug, str) else "", status=status if isinstance(status, str) else ""
    )


def _dumped(value: object) -> str:
    return json.dumps(value, sort_keys=True) if value else ""


def _rows(value: object) -> Rows:
    if not isinstance(value, dict):
        return Rows()
    return Rows(
        added=_count(value.get("addedCount")),
        changed=_count(value.get("changedCount")),
        removed=_count(value.get("removedCount")),
    )


def _count(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_ID_DIGITS:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < _MAX_COUNT else None


def _ratio(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(max(float(value), 0.0), 1.0)


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
