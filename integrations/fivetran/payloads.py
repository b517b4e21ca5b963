"""Reads Fivetran's answers into values. Lenient on what is added, strict on what decides; no I/O and no judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from conductor.sdk import Json, UnreadableError

__all__ = ["Notice", "Page", "Reading", "as_stamp", "is_accepted", "read_connection", "read_page", "read_starts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One entry of `status.tasks` or `status.warnings`: all that the API says about why.

    Attributes:
        code: Machine-readable, such as `reconnect`.
        message: For people.
        details: More of it; may be empty.
    """

    code: str
    message: str
    details: str

    @property
    def text(self) -> str:
        """The notice as one line."""
        words = ": ".join(part for part in (self.message or self.code, self.details) if part)
        return words or "a task without words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A connection as one answer showed it.

    Attributes:
        connection_id: Its id.
        schema_name: The destination schema or prefix.
        schedule_type: `auto` or `manual`.
        is_paused: The connection's own switch.
        setup_state: `incomplete`, `connected` or `broken`.
        sync_state: `scheduled`, `syncing`, `paused` or `rescheduled`; none of them is an end.
        succeeded_at: The last success ever; never cleared.
        failed_at: The last failure ever; never cleared.
        rescheduled_for: When a put-off sync is to be tried again.
        tasks: What a person must do.
        warnings: What a person should know.
    """

    connection_id: str
    schema_name: str
    schedule_type: str
    is_paused: bool
    setup_state: str
    sync_state: str
    succeeded_at: datetime | None
    failed_at: datetime | None
    rescheduled_for: datetime | None
    tasks: tuple[Notice, ...] = ()
    warnings: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list.

    Attributes:
        items: The entries that are objects.
        next_cursor: Where the next page begins; None on the last.
    """

    items: tuple[Mapping[str, object], ...]
    next_cursor: str | None


def as_stamp(value: object, *, field: str) -> datetime | None:
    """An ISO 8601 text as an instant in UTC; None for null. Fivetran's times are UTC even without a zone.

    Raises:
        UnreadableError: It is neither null nor a time.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            stamp = datetime.fromisoformat(value)
            return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise UnreadableError(f"Fivetran's {field} is not a time", raw=repr(value)[:200])


def is_accepted(body: Mapping[str, object]) -> bool:
    """True when the answer to a trigger has the one documented shape: `code` reads `Success`."""
    return body.get("code") == "Success"


def read_connection(data: object, *, redact: Callable[[str], str] = str) -> Reading:
    """The connection in `data` of a detail answer, or one item of a list; `redact` goes over the vendor's words.

    Raises:
        UnreadableError: Something that decides is missing or of the wrong type.
    """
    if not isinstance(data, dict):
        raise UnreadableError("Fivetran answered without a connection", raw=repr(data)[:200])
    status = data.get("status")
    if not isinstance(status, dict):
        raise UnreadableError("Fivetran answered a connection without a status", raw=_fields(data))
    return Reading(
        connection_id=_text(data, "id"),
        schema_name=str(data.get("schema") or ""),
        schedule_type=str(data.get("schedule_type") or ""),
        is_paused=data.get("paused") is True,
        setup_state=_text(status, "setup_state"),
        sync_state=_text(status, "sync_state"),
        # The two stamps may be left out of a connection that never synced. Reading that as null can end nothing:
        # only a stamp from after the trigger counts.
        succeeded_at=as_stamp(data.get("succeeded_at"), field="succeeded_at"),
        failed_at=as_stamp(data.get("failed_at"), field="failed_at"),
        rescheduled_for=as_stamp(status.get("rescheduled_for"), field="rescheduled_for"),
        tasks=_notices(status.get("tasks"), redact),
        warnings=_notices(status.get("warnings"), redact),
    )


def read_page(body: Mapping[str, object]) -> Page:
    """One page of a listing.

    Raises:
        UnreadableError: There is no list of items, or the cursor is no text.
    """
    data = body.get("data")
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(items, list):
        raise UnreadableError("Fivetran answered a list without items", raw=_fields(body))
    cursor = data.get("next_cursor")
    if cursor is not None and not isinstance(cursor, str):
        raise UnreadableError("Fivetran answered a cursor that is no text", raw=repr(cursor)[:200])
    return Page(items=tuple(item for item in items if isinstance(item, dict)), next_cursor=cursor or None)


def read_starts(items: Sequence[Mapping[str, object]]) -> tuple[datetime, ...]:
    """When the syncs of a history page began, oldest first; those that have not begun are left out.

    The reference documents the start of each item and not its field's name, so the first field whose name speaks of a
    start and whose value is a time counts.

    Source: https://fivetran.com/docs/rest-api/api-reference/connections/retrieve-connection-sync-history
    """
    starts = (_start_of(item) for item in items)
    return tuple(sorted(start for start in starts if start is not None))


def _start_of(item: Mapping[str, object]) -> datetime | None:
    for name, value in item.items():
        if "start" in name.lower() and isinstance(value, str):
            try:
                return as_stamp(value, field=name)
            except UnreadableError:
                continue
    return None


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise UnreadableError(f"Fivetran answered a connection without {name}", raw=_fields(data))
    return value


def _fields(data: Mapping[str, object]) -> str:
    """The names of the fields: a connection's values may hold its configuration, which is nobody's business."""
    return f"fields: {', '.join(sorted(data))}"


def _notices(value: Json, redact: Callable[[str], str]) -> tuple[Notice, ...]:
    if not isinstance(value, list):
        return ()
    found = (item for item in value if isinstance(item, dict))
    return tuple(
        Notice(
            code=redact(str(item.get("code") or ""))[:200],
            message=redact(str(item.get("message") or ""))[:2000],
            details=redact(str(item.get("details") or ""))[:2000],
        )
        for item in found
    )
