"""Fivetran's words and stamps → our states. Pure: a reading, our memory and the time go in, an observation comes out.

Fivetran has no run and no word for an end: `sync_state` speaks of the connection, and a sync has ended when a stamp of
its connection moved past its own baseline. Everything here follows from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from conductor.sdk import (
    Absent,
    ErrorClass,
    ErrorInfo,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Found,
    Observation,
    RejectedError,
)
from integrations.fivetran.payloads import Notice, Reading
from integrations.fivetran.trace import Trace, dashboard, with_trace

__all__ = [
    "ATTRIBUTION_S",
    "SKEW_S",
    "begun_after",
    "gone",
    "is_paused",
    "judge",
    "recognise",
    "refuse_unready",
    "with_start",
    "with_unseen_start",
]

SKEW_S = 60.0
"""How far Fivetran's clock may be from ours, in seconds."""
ATTRIBUTION_S = 300.0
"""A sync in the history that began later than this after a trigger whose answer was lost is not taken for its sync."""

_IDLE_POLLS = 4
_IDLE_S = 60.0
_RECONNECT = "reconnect"


def refuse_unready(reading: Reading, *, unpause: bool) -> None:
    """Pass a connection that can sync; `unpause` also passes a paused one.

    Raises:
        RejectedError: It is paused, half set up or broken. A trigger would be accepted and nothing would happen.

    Source: https://fivetran.com/docs/rest-api/api-reference/connections/connection-details
    """
    name, link = reading.connection_id, dashboard(reading.connection_id)
    why = _sentences(reading.tasks)
    if reading.setup_state == "incomplete":
        raise RejectedError(
            f"Fivetran connection {name!r} cannot sync: its setup was never finished{why}; finish it at {link}",
            code="incomplete",
            link=link,
        )
    if reading.setup_state == "broken":
        raise RejectedError(
            f"Fivetran connection {name!r} cannot sync: it is broken{why}; mend it at {link}",
            code="broken",
            link=link,
            error_class=_class_of(reading.tasks, otherwise=ErrorClass.CONFIG),
        )
    if is_paused(reading) and not unpause:
        raise RejectedError(
            f"Fivetran connection {name!r} cannot sync: it is paused; resume it at {link} or set `unpause: true`",
            code="paused",
            link=link,
        )


def is_paused(reading: Reading) -> bool:
    """True for a connection that takes no trigger, even if a sync from before is still going."""
    return reading.is_paused or reading.sync_state == "paused"


def judge(ref: ExternalRef, reading: Reading, now: datetime) -> Observation:
    """How the sync of `ref` is doing, by what its connection shows `now`.

    Raises:
        UnreadableError: The ref is not one of ours.
    """
    trace = Trace.of(ref.data)
    return _ended(trace, reading) or _going(ref, trace, reading, now)


def gone(ref: ExternalRef) -> Observation:
    """The observation for a connection that answers 404: deleted, or out of the key's sight."""
    connection_id = str(ref.data.get("connection_id"))
    return _lost(
        connection_id,
        "deleted",
        "the connection no longer exists, or the API key may not see it any more; "
        "check it in Fivetran, then correct `connection_id` or the key's permissions",
        code="404",
    )


def with_start(seen: Observation, started_at: datetime) -> Observation:
    """A success with the start that the history shows."""
    return replace(seen, started_at=started_at, outputs={**seen.outputs, "started_at": started_at.isoformat()})


def with_unseen_start(seen: Observation, ref: ExternalRef, trace: Trace, started_at: datetime) -> Observation:
    """An idle connection whose history shows that our sync began between two polls: it is over, and a stamp is due."""
    return replace(
        seen,
        state=ExternalState.RUNNING,
        message="the history shows that the sync began, and the connection no longer syncs",
        started_at=started_at,
        ref=with_trace(ref, replace(trace, saw_syncing=True, started_at=started_at)),
    )


def begun_after(trace: Trace, starts: Sequence[datetime], *, since: datetime, until: datetime) -> tuple[datetime, ...]:
    """The starts that can be ours: `since` less the clocks' difference to `until`, and after the baseline's stamps."""
    floor = since - timedelta(seconds=SKEW_S)
    mark = trace.watermark
    return tuple(start for start in starts if floor <= start <= until and (mark is None or start > mark))


def recognise(
    ref: ExternalRef, reading: Reading, *, starts: Sequence[datetime] | None, is_blind: bool = False
) -> FindAnswer:
    """Whether the sync that a lost answer may have started is there.

    Args:
        ref: The handle that it would have.
        reading: The connection now.
        starts: The syncs in the history that can be ours; None when there is no history.
        is_blind: The history exists and could not be read.
    """
    trace = Trace.of(ref.data)
    if starts:
        if len(starts) > 1:
            return FindUnknown(reason=f"{len(starts)} syncs began since the trigger; which one is ours cannot be told")
        found = replace(trace, saw_syncing=True, started_at=starts[0])
        return Found(ref=with_trace(ref, found), is_inferred=True)
    if trace.replaces_running:
        return FindUnknown(reason="another sync ran before the forced start; its traces prove nothing about ours")
    if reading.sync_state == "syncing":
        return Found(ref=with_trace(ref, replace(trace, saw_syncing=True)), is_inferred=True)
    if _ended(trace, reading) is not None or _is_put_off_anew(trace, reading):
        return Found(ref=ref, is_inferred=True)
    if is_blind:
        return FindUnknown(reason="the connection is idle, but its sync history could not be read")
    if is_paused(reading) or reading.sync_state not in {"scheduled", "rescheduled"}:
        return FindUnknown(reason=f"the connection is {reading.sync_state} and neither of its stamps moved")
    looked = "the sync history and the connection show" if starts is not None else "the connection shows"
    return Absent(reason=f"{looked} no sync since the trigger: it is idle and neither succeeded_at nor failed_at moved")


def _ended(trace: Trace, reading: Reading) -> Observation | None:
    """The end, when a stamp moved past its own baseline; the later one when both did, the failure when they are equal.

    Each stamp has its own baseline: one baseline for both hides failures.
    Source: https://github.com/astronomer/airflow-provider-fivetran-async/issues/223
    """
    stamps = ((reading.succeeded_at, trace.succeeded_at, False), (reading.failed_at, trace.failed_at, True))
    moved = [
        (new, is_failure)
        for new, old, is_failure in stamps
        if new is not None and (old is None or new > old) and _can_be_ours(trace, new)
    ]
    if not moved:
        return None
    at, is_failure = max(moved)
    began = trace.triggered_at
    if began is not None and reading.sync_state == "syncing" and (trace.replaces_running or at < began):
        # The stamp of a sync that ended just before ours began, or that ours replaced: ours is the one that runs.
        return None
    return _failed(reading, at) if is_failure else _succeeded(trace, reading, at)


def _can_be_ours(trace: Trace, stamp: datetime) -> bool:
    if trace.triggered_at is None:
        return True
    slack_s = 0.0 if trace.replaces_running else SKEW_S
    return stamp >= trace.triggered_at - timedelta(seconds=slack_s)


def _succeeded(trace: Trace, reading: Reading, at: datetime) -> Observation:
    return Observation(
        state=ExternalState.SUCCEEDED,
        word="succeeded_at",
        message="; ".join(notice.text for notice in reading.warnings)[:2000] or None,
        started_at=trace.started_at,
        ended_at=at,
        outputs={
            "connection_id": reading.connection_id,
            "schema": reading.schema_name,
            "succeeded_at": at.isoformat(),
            "started_at": None if trace.started_at is None else trace.started_at.isoformat(),
        },
    )


def _failed(reading: Reading, at: datetime) -> Observation:
    otherwise = ErrorClass.UNKNOWN if reading.setup_state == "connected" else ErrorClass.CONFIG
    link = dashboard(reading.connection_id)
    why = _sentences(reading.tasks) or " (Fivetran gives no reason through its API)"
    return Observation(
        state=ExternalState.FAILED,
        word="failed_at",
        ended_at=at,
        error=ErrorInfo(
            error_class=_class_of(reading.tasks, otherwise=otherwise),
            message=f"the sync of Fivetran connection {reading.connection_id!r} failed{why}; see {link}"[:4000],
            code=reading.tasks[0].code or None if reading.tasks else None,
            link=link,
        ),
    )


def _going(ref: ExternalRef, trace: Trace, reading: Reading, now: datetime) -> Observation:
    """No stamp moved: the sync runs, waits, was put off, or is gone."""
    if reading.sync_state == "syncing":
        seen = replace(trace, saw_syncing=True, idle_polls=0, idle_since=None)
        return _open(ref, seen, ExternalState.RUNNING, "syncing", None)
    if reading.setup_state in {"broken", "incomplete"}:
        return _broken(reading)
    if is_paused(reading):
        why = "the connection was paused in Fivetran; resume it there, or cancel this node"
        return _idle(ref, trace, now, word="paused", why=why, limit_s=trace.start_limit_s)
    match reading.sync_state:
        case "rescheduled" if _is_put_off_anew(trace, reading):
            return _put_off(ref, trace, reading)
        case "rescheduled":
            why = "Fivetran accepted the trigger and still shows the sync that was put off before"
            return _idle(ref, trace, now, word="rescheduled", why=why, limit_s=trace.start_limit_s)
        case "scheduled" if trace.saw_syncing:
            # Cancelling in the dashboard moves no stamp. A few polls, in case the stamp only comes late.
            why = "the connection no longer syncs and neither succeeded_at nor failed_at moved"
            return _idle(ref, trace, now, word="scheduled", why=why, limit_s=_IDLE_S)
        case "scheduled":
            why = "Fivetran accepted the trigger and shows no sync yet"
            return _idle(ref, trace, now, word="scheduled", why=why, limit_s=trace.start_limit_s)
        case word:
            why = f"Fivetran says {word!r}, which is not a documented sync_state"
            return _open(ref, trace, ExternalState.UNRECOGNISED, word, why)


def _is_put_off_anew(trace: Trace, reading: Reading) -> bool:
    """True unless the connection was put off before our start already and nothing shows that it was taken up."""
    if reading.sync_state != "rescheduled":
        return False
    is_old = trace.was_rescheduled and reading.rescheduled_for == trace.rescheduled_for and not trace.saw_syncing
    return not is_old


def _put_off(ref: ExternalRef, trace: Trace, reading: Reading) -> Observation:
    """`rescheduled`: an automatic schedule resumes by itself; on any other it stays until it is triggered again.

    Source: https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
    """
    when = f"until {reading.rescheduled_for.isoformat()}" if reading.rescheduled_for is not None else "without a time"
    if reading.schedule_type == "auto":
        waiting = replace(trace, saw_syncing=False, idle_polls=0, idle_since=None)
        why = f"Fivetran put the sync off {when} because of limits at the source; it resumes by itself"
        return _open(ref, waiting, ExternalState.QUEUED, "rescheduled", why)
    return Observation(
        state=ExternalState.FAILED,
        word="rescheduled",
        error=ErrorInfo(
            error_class=ErrorClass.QUOTA,
            message=(
                f"the sync of Fivetran connection {reading.connection_id!r} was put off {when}: limits at the source; "
                "on a manual schedule Fivetran does not resume it, so it must be triggered again then"
            ),
            code="rescheduled",
            link=dashboard(reading.connection_id),
        ),
    )


def _broken(reading: Reading) -> Observation:
    link = dashboard(reading.connection_id)
    return Observation(
        state=ExternalState.FAILED,
        word=reading.setup_state,
        error=ErrorInfo(
            error_class=_class_of(reading.tasks, otherwise=ErrorClass.CONFIG),
            message=(
                f"the sync of Fivetran connection {reading.connection_id!r} ended: the connection became "
                f"{reading.setup_state}{_sentences(reading.tasks)}; mend it at {link}"
            )[:4000],
            code=reading.setup_state,
            link=link,
        ),
    )


def _idle(ref: ExternalRef, trace: Trace, now: datetime, *, word: str, why: str, limit_s: float) -> Observation:
    """Idle without a new stamp: go on for a while, then say that the outcome is unknown. Never a success."""
    since = trace.idle_since or now
    waited = replace(trace, idle_polls=trace.idle_polls + 1, idle_since=since)
    if waited.idle_polls >= _IDLE_POLLS and (now - since).total_seconds() >= limit_s:
        what = (
            f"{why}: it was cancelled, replaced or never begun, and its outcome is unknown; look there, then run again"
        )
        return _lost(trace.connection_id, word, what)
    state = ExternalState.RUNNING if trace.saw_syncing else ExternalState.QUEUED
    return _open(ref, waited, state, word, why)


def _lost(connection_id: str, word: str, why: str, *, code: str | None = None) -> Observation:
    link = dashboard(connection_id)
    message = f"the sync of Fivetran connection {connection_id!r} is out of sight: {why} ({link})"
    error = ErrorInfo(error_class=ErrorClass.UNKNOWN, message=message, code=code, link=link)
    return Observation(state=ExternalState.VANISHED, word=word, error=error)


def _open(ref: ExternalRef, trace: Trace, state: ExternalState, word: str, message: str | None) -> Observation:
    changed = None if trace == Trace.of(ref.data) else with_trace(ref, trace)
    return Observation(state=state, word=word, message=message, started_at=trace.started_at, ref=changed)


def _class_of(tasks: Sequence[Notice], *, otherwise: ErrorClass) -> ErrorClass:
    return ErrorClass.AUTH if any(_RECONNECT in task.code.lower() for task in tasks) else otherwise


def _sentences(notices: Sequence[Notice]) -> str:
    return f" ({'; '.join(notice.text for notice in notices)[:2000]})" if notices else ""
