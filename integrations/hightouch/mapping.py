"""What Hightouch's words mean in ours: run → observation, list of runs → answer of `find`. Pure, no I/O.

Source of the words: https://hightouch.com/docs/developer-tools/api-guide, the API's schema `SyncRunStatus`, and the
older clients named at each odd one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from conductor.sdk import (
    Absent,
    ErrorClass,
    ErrorInfo,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Found,
    Json,
    Observation,
)
from integrations.hightouch.payload import Rows, SyncRun

__all__ = ["STATES", "failure_class", "is_active", "observe", "outputs", "pick", "state_of", "vanished"]

STATES: Mapping[str, ExternalState] = MappingProxyType(
    {
        "queued": ExternalState.QUEUED,
        "pending": ExternalState.QUEUED,  # the sync's own word, and the first Airflow provider's
        "querying": ExternalState.RUNNING,
        "processing": ExternalState.RUNNING,
        "reporting": ExternalState.RUNNING,
        "success": ExternalState.SUCCEEDED,
        "warning": ExternalState.WARNED,
        "completed_with_errors": ExternalState.WARNED,  # kestra-io/plugin-hightouch
        "failed": ExternalState.FAILED,
        "interrupted": ExternalState.FAILED,  # stopped by the platform
        "cancelled": ExternalState.CANCELLED,
        "aborted": ExternalState.CANCELLED,  # the first Airflow provider's
    }
)
"""Hightouch's word → our state. A word that is not here is unrecognised."""

_INTERRUPTED = "interrupted"
_SKEW = timedelta(seconds=60)
_LATEST = timedelta(seconds=60 + 30 + 120)  # skew, the request's deadline, the settle window

_CLASSES: tuple[tuple[ErrorClass, re.Pattern[str]], ...] = (
    (ErrorClass.QUOTA, re.compile(r"rate.?limit|too many requests|quota|\b429\b", re.IGNORECASE)),
    (
        ErrorClass.AUTH,
        re.compile(
            r"unauthori[sz]ed|authenticat|credential|permission|forbidden|access denied|"
            r"(token|key) (has )?(expired|been revoked)|\b40[13]\b",
            re.IGNORECASE,
        ),
    ),
    (
        ErrorClass.TRANSIENT,
        re.compile(
            r"timed? ?out|time-out|connection (was )?(reset|refused|closed)|unavailable|\b50[234]\b", re.IGNORECASE
        ),
    ),
    (
        ErrorClass.DATA,
        re.compile(
            r"does not exist|syntax error|invalid query|primary key|duplicate|missing column|not found", re.IGNORECASE
        ),
    ),
)


def state_of(word: str) -> ExternalState:
    """Our state for Hightouch's word, whatever its case; unrecognised for one that we do not know."""
    return STATES.get(word.strip().lower(), ExternalState.UNRECOGNISED)


def is_active(run: SyncRun) -> bool:
    """True while the run occupies its sync. An unknown word counts as active until the run has a finish time."""
    state = state_of(run.status)
    return not state.is_final and (state is not ExternalState.UNRECOGNISED or run.finished_at is None)


def failure_class(words: str) -> ErrorClass:
    """What would heal a failure, judged by the vendor's words; unknown when they say nothing that we know."""
    return next((found for found, pattern in _CLASSES if pattern.search(words)), ErrorClass.UNKNOWN)


def observe(run: SyncRun, *, sync_id: str, link: str | None, redact: Callable[[str], str]) -> Observation:
    """What one listed run shows. Outputs on every final state; an error on failed, interrupted and warned.

    A `success` that counts rejected rows is warned: the counts say what the word hides.
    """
    state = state_of(run.status)
    rejected = run.failed.total or 0
    if state is ExternalState.SUCCEEDED and rejected:
        state = ExternalState.WARNED
    words = redact(run.error)
    return Observation(
        state=state,
        word=redact(run.status[:200]),
        message=_message(run, words),
        progress=run.completion_ratio,
        marker=_marker(run),
        started_at=run.started_at,
        ended_at=run.finished_at if state.is_final else None,
        outputs=outputs(run, sync_id=sync_id) if state.is_final else {},
        error=_error(run, state, words, link),
    )


def outputs(run: SyncRun, *, sync_id: str) -> dict[str, Json]:
    """The run's numbers, shaped as `SyncOutputs`."""
    return {
        "run_id": run.id,
        "sync_id": sync_id,
        "query_size": run.query_size,
        "rows_added": run.successful.added,
        "rows_changed": run.successful.changed,
        "rows_removed": run.successful.removed,
        "rows_synced": run.successful.total,
        "rejected_added": run.failed.added,
        "rejected_changed": run.failed.changed,
        "rejected_removed": run.failed.removed,
        "rows_rejected": run.failed.total,
    }


def vanished(run_id: str, sync_id: str, *, link: str | None) -> Observation:
    """A run that we started and that Hightouch no longer lists: never a success."""
    message = (
        f"run {run_id} of sync {sync_id} is gone: Hightouch does not list it; look at the sync's runs in Hightouch"
    )
    return Observation(
        state=ExternalState.VANISHED,
        message=message,
        error=ErrorInfo(error_class=ErrorClass.UNKNOWN, message=message, link=link),
    )


def pick(
    runs: Sequence[SyncRun],
    *,
    newest_before: int,
    permit_at: datetime | None,
    make_ref: Callable[[SyncRun], ExternalRef],
) -> FindAnswer:
    """Which of `runs` a start permitted at `permit_at` made. `runs` must be complete down to the baseline.

    A run is a candidate when it is newer than the baseline and created from 60 s before the permit to 210 s after it
    (clock skew, the request's deadline, the settle window). Runs created later may be anybody's, or ours sent late by a
    paused process: with no candidate they make the answer unknown, never absent.
    """
    newer = [run for run in runs if int(run.id) > newest_before]
    if permit_at is not None:
        newer = [run for run in newer if run.created_at is None or run.created_at >= permit_at - _SKEW]
    fitting = [run for run in newer if _fits(run, permit_at)]
    undated = sum(1 for run in newer if permit_at is not None and run.created_at is None)
    if undated:
        return FindUnknown(reason=f"{undated} of {len(newer)} newer runs have no readable creation time")
    if len(fitting) == 1:
        return Found(ref=make_ref(fitting[0]), is_inferred=True)
    if fitting:
        named = ", ".join(run.id for run in fitting[:5])
        return FindUnknown(
            reason=f"{len(fitting)} runs fit the start ({named}); a schedule or a person triggers this sync too"
        )
    if newer:
        return FindUnknown(reason=f"only runs from long after the start are listed (the first is {newer[-1].id})")
    return Absent(reason=f"no run of the sync is newer than run {newest_before} and as young as the start")


def _fits(run: SyncRun, permit_at: datetime | None) -> bool:
    if permit_at is None:
        return True
    return run.created_at is not None and run.created_at <= permit_at + _LATEST


def _error(run: SyncRun, state: ExternalState, words: str, link: str | None) -> ErrorInfo | None:
    word = run.status.strip().lower()
    match state:
        case ExternalState.FAILED if word == _INTERRUPTED:
            text = words or f"run {run.id} was interrupted by Hightouch and it gives no reason; it may be run again"
            return ErrorInfo(error_class=ErrorClass.TRANSIENT, message=text[:4000], code=word, link=link)
        case ExternalState.FAILED:
            text = words or f"run {run.id} failed and Hightouch gives no reason; open the run in Hightouch"
            return ErrorInfo(error_class=failure_class(words), message=text[:4000], code=word, link=link)
        case ExternalState.WARNED:
            counts = _counted(run.failed)
            text = words or counts or f"run {run.id} ended with a warning and Hightouch gives no reason"
            return ErrorInfo(
                error_class=ErrorClass.DATA, message=text[:4000], code=word, link=link, detail=counts or None
            )
        case _:
            return None


def _counted(failed: Rows) -> str:
    if failed.total is None:
        return ""
    return (
        f"{failed.total} rows rejected: {failed.added or 0} added, {failed.changed or 0} changed, "
        f"{failed.removed or 0} removed"
    )


def _message(run: SyncRun, words: str) -> str | None:
    if words:
        return words[:500]
    done, planned = run.successful.total, run.planned.total
    if done is None:
        return None
    of = f" of {planned}" if planned is not None else ""
    rejected = f", {run.failed.total} rejected" if run.failed.total else ""
    return f"{done}{of} rows synced{rejected}"


def _marker(run: SyncRun) -> str:
    parts = (run.status, run.completion_ratio, run.query_size, run.successful.total, run.failed.total)
    return "|".join("" if part is None else str(part) for part in parts)
