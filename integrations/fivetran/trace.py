"""What Conductor remembers of a Fivetran sync, which has no id of its own: the baseline, the trigger, what polls saw.

It lives in the ref's `data` as small JSON, so that any process can go on from it. Values only, no judgement, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from conductor.core.keys import digest
from conductor.sdk import Baseline, ExternalRef, Json, Request, UnreadableError
from integrations.fivetran.payloads import Reading, as_stamp

__all__ = ["Trace", "baseline_of", "dashboard", "ref_of_request", "with_trace"]

_STAMPS = ("succeeded_at", "failed_at", "rescheduled_for", "triggered_at", "started_at", "idle_since")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One sync as far as it can be told from its connection.

    Attributes:
        connection_id: The connection.
        succeeded_at: Its last success before the start; a newer one is the end.
        failed_at: Its last failure before the start; a newer one is the end.
        rescheduled_for: Until when an earlier sync was put off before the start.
        was_rescheduled: An earlier sync was put off before the start.
        triggered_at: When the start was permitted; None for a sync that was found running and is not ours.
        replaces_running: The start stopped another sync (`force`), whose stamps prove nothing about ours.
        start_limit_s: How long Fivetran may show no sign of the sync, in seconds.
        saw_syncing: A poll or the history showed the sync going.
        started_at: When the vendor's history says that it began.
        idle_polls: How many polls in a row showed the connection idle and no new stamp.
        idle_since: When the first of them was made.
    """

    connection_id: str
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    rescheduled_for: datetime | None = None
    was_rescheduled: bool = False
    triggered_at: datetime | None = None
    replaces_running: bool = False
    start_limit_s: float = 3600.0
    saw_syncing: bool = False
    started_at: datetime | None = None
    idle_polls: int = 0
    idle_since: datetime | None = None

    @property
    def watermark(self) -> datetime | None:
        """The vendor's newest stamp before the start: what began at or before it is not ours."""
        return max((stamp for stamp in (self.succeeded_at, self.failed_at) if stamp is not None), default=None)

    def data(self) -> dict[str, Json]:
        """This trace as a ref keeps it."""
        return {
            "connection_id": self.connection_id,
            "was_rescheduled": self.was_rescheduled,
            "replaces_running": self.replaces_running,
            "start_limit_s": self.start_limit_s,
            "saw_syncing": self.saw_syncing,
            "idle_polls": self.idle_polls,
            **{name: _iso(getattr(self, name)) for name in _STAMPS},
        }

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> Trace:
        """The trace that `data` keeps.

        Raises:
            UnreadableError: It is not the data of one of our refs.
        """
        connection_id, limit_s, polls = data.get("connection_id"), data.get("start_limit_s"), data.get("idle_polls")
        if not isinstance(connection_id, str) or not isinstance(limit_s, int | float) or not isinstance(polls, int):
            raise UnreadableError("the ref is not one of fivetran.sync", raw=repr(dict(data))[:500])
        stamps = {name: as_stamp(data.get(name), field=name) for name in _STAMPS}
        return cls(
            connection_id=connection_id,
            was_rescheduled=data.get("was_rescheduled") is True,
            replaces_running=data.get("replaces_running") is True,
            start_limit_s=float(limit_s),
            saw_syncing=data.get("saw_syncing") is True,
            idle_polls=polls,
            **stamps,
        )


def dashboard(connection_id: str) -> str:
    """The page where a person sees the connection's syncs."""
    return f"https://fivetran.com/dashboard/connections/{connection_id}/status"


def with_trace(ref: ExternalRef, trace: Trace) -> ExternalRef:
    """The same handle with another memory; the id never changes."""
    return ExternalRef(id=ref.id, data=trace.data(), link=ref.link)


def baseline_of(reading: Reading, *, read_at: datetime, force: bool) -> Baseline:
    """What the connection showed before the start, and the sync that is in the way, if any.

    A sync that runs already may have read its source before the upstream data arrived, so it is never taken for ours.
    With `force` nothing is in the way: the start replaces it.
    """
    is_syncing = reading.sync_state == "syncing"
    data: dict[str, Json] = {
        "connection_id": reading.connection_id,
        "read_at": _iso(read_at),
        "sync_state": reading.sync_state,
        "succeeded_at": _iso(reading.succeeded_at),
        "failed_at": _iso(reading.failed_at),
        "rescheduled_for": _iso(reading.rescheduled_for),
    }
    is_busy = is_syncing and not force
    return Baseline(data=data, is_busy=is_busy, running=_running(reading) if is_busy else None)


def ref_of_request(request: Request, baseline: Baseline, *, triggered_at: datetime) -> ExternalRef:
    """The handle on the sync that `request` starts: the same id whenever it is derived again.

    Raises:
        UnreadableError: The baseline is not one of ours.
    """
    connection_id = str(request.settings["connection_id"])
    seen = baseline.data
    if seen.get("connection_id") != connection_id:
        raise UnreadableError(f"the baseline is not one of Fivetran connection {connection_id!r}", raw=repr(dict(seen)))
    limit_s = request.settings.get("start_limit_s", 3600.0)
    trace = Trace(
        connection_id=connection_id,
        succeeded_at=as_stamp(seen.get("succeeded_at"), field="succeeded_at"),
        failed_at=as_stamp(seen.get("failed_at"), field="failed_at"),
        rescheduled_for=as_stamp(seen.get("rescheduled_for"), field="rescheduled_for"),
        was_rescheduled=seen.get("sync_state") == "rescheduled",
        triggered_at=triggered_at,
        replaces_running=seen.get("sync_state") == "syncing",
        start_limit_s=float(limit_s) if isinstance(limit_s, int | float) else 3600.0,
    )
    return ExternalRef(id=f"{connection_id}:{request.key}", data=trace.data(), link=dashboard(connection_id))


def _running(reading: Reading) -> ExternalRef:
    trace = Trace(
        connection_id=reading.connection_id,
        succeeded_at=reading.succeeded_at,
        failed_at=reading.failed_at,
        saw_syncing=True,
    )
    mark = digest([reading.connection_id, _iso(reading.succeeded_at), _iso(reading.failed_at)])[:16]
    return ExternalRef(
        id=f"{reading.connection_id}:running-{mark}", data=trace.data(), link=dashboard(reading.connection_id)
    )


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.isoformat()
