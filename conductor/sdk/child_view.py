"""What the files of a supervised child say, as values, and what that means where its exit code is not needed. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.vendor import ExternalState, Observation

__all__ = ["ChildExit", "ChildPhase", "ChildView", "observe_child"]


class ChildPhase(StrEnum):
    """What the files of a child's directory say."""

    ABSENT = "absent"
    """No supervisor claimed the directory: the command has not begun."""
    RUNNING = "running"
    """The supervisor lives."""
    ORPHANED = "orphaned"
    """The supervisor was killed, a process of the command still lives; how it ends will not be known."""
    ENDED = "ended"
    """There is an exit record."""
    VANISHED = "vanished"
    """Claimed, no exit record, and nothing of it lives: nobody knows how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildExit:
    """How a command ended, as its supervisor recorded it.

    Attributes:
        outcome: `exited`, `signalled`, `cancelled` or `not_started`; another supervisor version may say more.
        code: The exit code, when it exited.
        signal: The signal's number, when one ended it.
        error: Why it could not be started.
        stopped_by_host: The supervisor was asked to stop by somebody else than Conductor (a shutdown).
        ended_at: When, by this host's clock.
    """

    outcome: str
    code: int | None
    signal: int | None
    error: str | None
    stopped_by_host: bool
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildView:
    """What one look at a child's directory saw.

    Attributes:
        key: The child's.
        phase: How it is doing.
        exit: How it ended; set when `phase` is ended.
        is_cancelled: Conductor wrote its cancel marker.
        started_at: When the command began, once that is recorded.
        log_bytes: How much it has written in all, dropped output included.
    """

    key: str
    phase: ChildPhase
    exit: ChildExit | None = None
    is_cancelled: bool = False
    started_at: datetime | None = None
    log_bytes: int = 0


def observe_child(view: ChildView) -> Observation | None:
    """What a look means where the command's own verdict is not needed; None when it exited and its code decides."""
    ended = view.exit
    if ended is None:
        return _observe_unended(view)
    if ended.outcome == "exited":
        return None
    started_at, marker = view.started_at, str(view.log_bytes)
    if ended.outcome == "cancelled":
        state, error = ExternalState.CANCELLED, None
    elif ended.outcome == "not_started":
        state = ExternalState.FAILED
        words = f"{ended.error or 'the command could not be started'}; mend its path or permissions"
        error = ErrorInfo(error_class=ErrorClass.CONFIG, message=words, code=ended.outcome)
    elif ended.outcome == "signalled":
        state, error = ExternalState.FAILED, _signal_error(ended)
    else:
        message = f"the supervisor recorded {ended.outcome!r}, which this version does not know"
        return Observation(state=ExternalState.UNRECOGNISED, word=ended.outcome, message=message, marker=marker)
    return Observation(
        state=state,
        word=ended.outcome,
        message=error.message if error else ended.error,
        marker=marker,
        started_at=started_at,
        ended_at=ended.ended_at,
        error=error,
    )


def _observe_unended(view: ChildView) -> Observation:
    marker = str(view.log_bytes)
    if view.phase is ChildPhase.RUNNING:
        message = "stopping" if view.is_cancelled else None
        return Observation(
            state=ExternalState.RUNNING, word="running", message=message, marker=marker, started_at=view.started_at
        )
    if view.phase is ChildPhase.ORPHANED:
        message = "its supervisor was killed; the command still runs and its end will not be known"
        return Observation(
            state=ExternalState.RUNNING, word="orphaned", message=message, marker=marker, started_at=view.started_at
        )
    if view.is_cancelled:
        return Observation(state=ExternalState.CANCELLED, word="cancelled", started_at=view.started_at)
    words = {
        ChildPhase.ABSENT: "its directory or claim is gone from this host; was the state folder restored or moved?",
    }.get(view.phase, "its supervisor was killed, or the host went down, before the end was recorded")
    return Observation(
        state=ExternalState.VANISHED,
        word=view.phase.value,
        message=words,
        started_at=view.started_at,
        error=ErrorInfo(
            error_class=ErrorClass.UNKNOWN,
            message=f"the command vanished: {words}; see what it did before you run it again",
            code=view.phase.value,
        ),
    )


def _signal_error(ended: ChildExit) -> ErrorInfo:
    number = ended.signal or 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if ended.stopped_by_host:
        message = f"the command was stopped by {name}: the host or its service manager shut it down; run it again"
        return ErrorInfo(error_class=ErrorClass.TRANSIENT, message=message, code=name)
    hint = "often the kernel's out-of-memory killer; look at the host's memory" if name == "SIGKILL" else "see its log"
    return ErrorInfo(error_class=ErrorClass.UNKNOWN, message=f"the command was killed by {name}: {hint}", code=name)
