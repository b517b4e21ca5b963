"""One attempt's way through the start protocol: what each answer makes of it.

A late or repeated answer changes nothing (a declared self-loop); an answer that could only come from a bug raises.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from conductor.core.doubt import is_in_doubt, key_expires_at
from conductor.core.draft import Draft
from conductor.core.errors import ErrorClass, ErrorInfo, InvalidTransitionError
from conductor.core.events import (
    Accepted,
    AttemptEvent,
    Barred,
    Busy,
    CancelAnswered,
    CannotSee,
    Lost,
    NotSeen,
    Observed,
    Permitted,
    Prepared,
    PrepareFailed,
    Refused,
    Rejected,
    Seen,
)
from conductor.core.node import attempt_over
from conductor.core.observe import observed
from conductor.core.run import Attempt
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome
from conductor.core.vendor import (
    CancelSupport,
    Correlation,
    Delivery,
    ExternalRef,
    IfRunning,
    OnUnknown,
)

__all__ = ["LATE_FIND_S", "apply", "ask_cancel", "cancel_attempt", "look_up_instead", "recovered"]

REFUSALS_MAX = 8
"""Refused sends in a row, other than by quota, after which the attempt ends and the retry policy decides."""
LATE_FIND_S = 86_400.0
"""How long a held start is still looked up."""
_BUSY_WAIT_S = 15.0
_FIND_SLOWEST_S = 30.0
_LATE_FIND_EVERY_S = 300.0
_CANNOT_SEE_FACTOR = 5.0
"""A look-up that cannot see goes on for this many settle windows before the start counts as unknown."""


def apply(draft: Draft, event: AttemptEvent) -> None:  # noqa: C901, PLR0912 - it only dispatches
    """Apply an answer to the attempt that it is about; answers to earlier attempts change nothing."""
    attempt = draft.nodes[event.node].attempt
    if attempt is None or attempt.no != event.attempt_no:
        return
    match event:
        case Prepared():
            _prepared(draft, event, attempt)
        case PrepareFailed():
            _prepare_failed(draft, event, attempt)
        case Barred():
            _barred(draft, event, attempt)
        case Permitted():
            _permitted(draft, event, attempt)
        case Accepted():
            _accepted(draft, event, attempt)
        case Rejected():
            _rejected(draft, event, attempt)
        case Refused():
            _refused(draft, event, attempt)
        case Busy():
            _busy_answer(draft, event, attempt)
        case Lost():
            _lost(draft, event, attempt)
        case Seen():
            _seen(draft, event, attempt)
        case NotSeen():
            _not_seen(draft, event, attempt)
        case CannotSee():
            _cannot_see(draft, event, attempt)
        case Observed():
            observed(draft, event, attempt)
        case CancelAnswered():
            _cancel_answered(draft, event, attempt)


def _prepared(draft: Draft, event: Prepared, attempt: Attempt) -> None:
    if not _waits_for_baseline(draft, event.node, attempt):
        return
    if event.baseline.is_busy:
        _busy(draft, event.node, attempt, event.baseline.running, "something is running there already")
        return
    draft.set_attempt(event.node, baseline=event.baseline, refusals=0, error=None)


def _waits_for_baseline(draft: Draft, node: str, attempt: Attempt) -> bool:
    is_needed = draft.node_plan(node).capabilities.needs_baseline
    return is_needed and attempt.state is AttemptState.INTENDED and attempt.baseline is None


def _prepare_failed(draft: Draft, event: PrepareFailed, attempt: Attempt) -> None:
    if not _waits_for_baseline(draft, event.node, attempt):
        return
    if event.is_definite or _is_refused_out(attempt, event.error):
        _end(draft, event.node, Outcome.REJECTED, Cause.REJECTED, event.error)
        return
    _wait_after_refusal(draft, event.node, attempt, event.error, event.retry_after_s)


def _barred(draft: Draft, event: Barred, attempt: Attempt) -> None:
    if attempt.state is not AttemptState.INTENDED:
        return
    if is_in_doubt(draft.node_plan(event.node), attempt):
        look_up_instead(draft, event.node)
    else:
        _end(draft, event.node, Outcome.REJECTED, Cause.REJECTED, event.error)


def _permitted(draft: Draft, event: Permitted, attempt: Attempt) -> None:
    node = event.node
    _check_permit(draft, node, attempt)
    draft.move_attempt(
        node,
        AttemptState.SENDING,
        Cause.PERMITTED,
        {"send": attempt.send_no + 1},
        send_no=attempt.send_no + 1,
        first_sent_at=attempt.first_sent_at or draft.now,
        permit_at=draft.now,
        not_before=None,
    )
    seen = draft.nodes[node]
    draft.move_node(node, NodeState.RUNNING, Cause.PERMITTED, started_at=seen.started_at or draft.now, reason="")


def _check_permit(draft: Draft, node: str, attempt: Attempt) -> None:
    plan = draft.node_plan(node)
    if plan.capabilities.needs_baseline and attempt.baseline is None:
        raise InvalidTransitionError(f"run {draft.run.id}, node {node}: permitted before its baseline was read")
    expires_at = key_expires_at(plan, attempt)
    if expires_at is not None and expires_at <= draft.now:
        raise InvalidTransitionError(f"run {draft.run.id}, node {node}: permitted after its key may be forgotten")


def _accepted(draft: Draft, event: Accepted, attempt: Attempt) -> None:
    if attempt.state is AttemptState.SENDING:
        _follow(draft, event.node, event.ref, Cause.ACCEPTED, adopted="")
    elif attempt.state in {AttemptState.AMBIGUOUS, AttemptState.UNKNOWN}:
        _take(draft, event.node, event.ref, adopted="found")


def _follow(draft: Draft, node: str, ref: ExternalRef, cause: Cause, *, adopted: str) -> None:
    attempt = draft.move_attempt(
        node,
        AttemptState.RUNNING,
        cause,
        {"external": ref.id, "link": ref.link, "adopted": adopted},
        ref=ref,
        adopted=adopted,
        running_at=draft.now,
        marker_at=draft.now,
        find_at=None,
        refusals=0,
        error=None,
    )
    if attempt.cancel_cause is not None:
        ask_cancel(draft, node, attempt.cancel_cause)


def _rejected(draft: Draft, event: Rejected, attempt: Attempt) -> None:
    if attempt.state is not AttemptState.SENDING:
        return
    if is_in_doubt(draft.node_plan(event.node), attempt):
        _ambiguous(draft, event.node, Cause.LOST, event.error)
    elif attempt.cancel_cause is not None:
        _end(draft, event.node, Outcome.CANCELLED, Cause.CANCELLED, event.error)
    else:
        _end(draft, event.node, Outcome.REJECTED, Cause.REJECTED, event.error)


def _refused(draft: Draft, event: Refused, attempt: Attempt) -> None:
    if attempt.state is not AttemptState.SENDING:
        return
    has_doubt = is_in_doubt(draft.node_plan(event.node), attempt)
    if attempt.cancel_cause is not None:
        if has_doubt:
            _ambiguous(draft, event.node, Cause.LOST, event.error)
        else:
            _end(draft, event.node, Outcome.CANCELLED, Cause.CANCELLED, None)
        return
    if _is_refused_out(attempt, event.error) and not has_doubt:
        _end(draft, event.node, Outcome.REJECTED, Cause.REJECTED, event.error)
        return
    _not_sent(draft, event.node, attempt, Cause.REFUSED, event.error.message)
    _wait_after_refusal(draft, event.node, attempt, event.error, event.retry_after_s)


def _not_sent(draft: Draft, node: str, attempt: Attempt, cause: Cause, why: str) -> None:
    """Back to `intended`: the vendor did not take this send, so it does not count."""
    has_doubt = is_in_doubt(draft.node_plan(node), attempt)
    draft.move_attempt(
        node,
        AttemptState.INTENDED,
        cause,
        {"message": why[:500]},
        send_no=attempt.send_no - 1,
        first_sent_at=attempt.first_sent_at if has_doubt else None,
    )
    draft.move_node(node, NodeState.QUEUED, cause, reason=why)


def _is_refused_out(attempt: Attempt, error: ErrorInfo) -> bool:
    return error.error_class is not ErrorClass.QUOTA and attempt.refusals + 1 >= REFUSALS_MAX


def _wait_after_refusal(
    draft: Draft, node: str, attempt: Attempt, error: ErrorInfo, retry_after_s: float | None
) -> None:
    wait_s = retry_after_s if retry_after_s is not None else _doubled_s(attempt.refusals, most_s=60.0)
    # Read anew, a baseline would hold the run that an earlier send may have started, and hide it from `find`.
    keeps_baseline = is_in_doubt(draft.node_plan(node), attempt)
    draft.set_attempt(
        node,
        refusals=attempt.refusals + 1,
        not_before=draft.now + timedelta(seconds=wait_s),
        baseline=attempt.baseline if keeps_baseline else None,
        error=error,
    )


def _doubled_s(times: int, *, most_s: float) -> float:
    """A second, doubled `times` times, but never above `most_s`; bounded first, for patience may be very long."""
    return min(2.0 ** min(times, 30), most_s)


def _busy_answer(draft: Draft, event: Busy, attempt: Attempt) -> None:
    if attempt.state is AttemptState.SENDING:
        _busy(draft, event.node, attempt, event.running, event.error.message)


def _busy(draft: Draft, node: str, attempt: Attempt, running: ExternalRef | None, why: str) -> None:
    """Something that is not ours runs there: `if_running` decides. Without a handle on it, adopting becomes waiting."""
    policy = draft.node_plan(node).if_running
    error = ErrorInfo(error_class=ErrorClass.TRANSIENT, message=why)
    if is_in_doubt(draft.node_plan(node), attempt):
        # What runs there may be ours, or may hide that ours ran: only a look-up by our key tells.
        _ambiguous(draft, node, Cause.LOST, error)
    elif attempt.cancel_cause is not None:
        _end(draft, node, Outcome.CANCELLED, Cause.CANCELLED, None)
    elif policy is IfRunning.FAIL:
        _end(draft, node, Outcome.REJECTED, Cause.REJECTED, error)
    elif policy is IfRunning.SKIP:
        draft.end_attempt(node, Outcome.SKIPPED, Cause.BUSY)
        attempt_over(draft, node, Cause.BUSY)
    elif policy is IfRunning.ADOPT and running is not None:
        if draft.nodes[node].state is NodeState.QUEUED:
            draft.move_node(node, NodeState.RUNNING, Cause.ADOPTED, started_at=draft.now, reason="")
        _follow(draft, node, running, Cause.ADOPTED, adopted="busy")
    else:
        if attempt.state is AttemptState.SENDING:
            _not_sent(draft, node, attempt, Cause.BUSY, why)
        draft.set_node(node, reason=why)
        draft.set_attempt(node, baseline=None, not_before=draft.now + timedelta(seconds=_BUSY_WAIT_S), error=error)


def _lost(draft: Draft, event: Lost, attempt: Attempt) -> None:
    if attempt.state is AttemptState.SENDING:
        _ambiguous(draft, event.node, Cause.LOST, event.error)


def recovered(draft: Draft, node: str) -> None:
    """The process that held the permit is gone: whatever was being sent is ambiguous. Never sends."""
    attempt = draft.nodes[node].attempt
    if attempt is None:
        return
    if attempt.state is AttemptState.SENDING:
        error = ErrorInfo(
            error_class=ErrorClass.TRANSIENT, message="Conductor stopped while the start was on its way; looking it up"
        )
        _ambiguous(draft, node, Cause.RECOVERED, error)
    elif attempt.state is AttemptState.INTENDED and not is_in_doubt(draft.node_plan(node), attempt):
        draft.set_attempt(node, baseline=None)


def _ambiguous(draft: Draft, node: str, cause: Cause, error: ErrorInfo) -> None:
    plan = draft.node_plan(node)
    attempt = draft.move_attempt(
        node,
        AttemptState.AMBIGUOUS,
        cause,
        {"message": error.message[:500]},
        error=error,
        settle_until=draft.now + timedelta(seconds=plan.settle_window_s),
        find_no=0,
        find_at=draft.now,
    )
    if plan.capabilities.sends_nothing and attempt.cancel_cause is not None:
        _end(draft, node, Outcome.CANCELLED, Cause.CANCELLED, None)
    elif plan.capabilities.sends_nothing:
        _send_again(draft, node)


def look_up_instead(draft: Draft, node: str) -> None:
    """Stop waiting to send the same key again: what an earlier send has come to is looked up."""
    message = "an earlier send of it may have been accepted and it may not be sent again; looking it up"
    _ambiguous(draft, node, Cause.LOST, ErrorInfo(error_class=ErrorClass.TRANSIENT, message=message))
    draft.move_node(node, NodeState.RUNNING, Cause.LOST, reason="")


def _seen(draft: Draft, event: Seen, attempt: Attempt) -> None:
    if attempt.state in {AttemptState.AMBIGUOUS, AttemptState.UNKNOWN}:
        _take(draft, event.node, event.ref, adopted="inferred" if event.is_inferred else "found")


def _take(draft: Draft, node: str, ref: ExternalRef, *, adopted: str) -> None:
    if draft.nodes[node].state is NodeState.HELD:
        draft.move_node(node, NodeState.RUNNING, Cause.FOUND, reason="", error=None)
    _follow(draft, node, ref, Cause.FOUND, adopted=adopted)


def _not_seen(draft: Draft, event: NotSeen, attempt: Attempt) -> None:
    if attempt.state is AttemptState.UNKNOWN:
        _look_again_late(draft, event.node, attempt)
        return
    if attempt.state is not AttemptState.AMBIGUOUS:
        return
    plan = draft.node_plan(event.node)
    if attempt.cancel_cause is None and _may_send_same_key(draft, event.node, attempt):
        _send_again(draft, event.node)
        return
    assert attempt.settle_until is not None
    if draft.now < attempt.settle_until:
        _look_again(draft, event.node, attempt)
        return
    is_allowed = plan.delivery is Delivery.AT_LEAST_ONCE and attempt.send_no <= plan.resend_limit
    if attempt.cancel_cause is None and is_allowed:
        _send_again(draft, event.node)
    else:
        _unresolved(draft, event.node, attempt, event.reason or "it was not seen at the vendor")


def _cannot_see(draft: Draft, event: CannotSee, attempt: Attempt) -> None:
    if attempt.state is AttemptState.UNKNOWN:
        _look_again_late(draft, event.node, attempt)
        return
    if attempt.state is not AttemptState.AMBIGUOUS:
        return
    plan = draft.node_plan(event.node)
    if attempt.cancel_cause is None and _may_send_same_key(draft, event.node, attempt):
        _send_again(draft, event.node)
        return
    assert attempt.settle_until is not None
    patience = timedelta(seconds=plan.settle_window_s * (_CANNOT_SEE_FACTOR - 1))
    if plan.capabilities.correlation is Correlation.NONE:
        patience = timedelta(0)
    if draft.now < attempt.settle_until + patience:
        _look_again(draft, event.node, attempt)
        return
    is_blind = plan.capabilities.correlation is Correlation.NONE
    is_allowed = is_blind and plan.delivery is Delivery.AT_LEAST_ONCE and attempt.send_no <= plan.resend_limit
    if attempt.cancel_cause is None and is_allowed:
        _send_again(draft, event.node)
    else:
        _unresolved(draft, event.node, attempt, event.reason or "the vendor could not be asked")


def _may_send_same_key(draft: Draft, node: str, attempt: Attempt) -> bool:
    expires_at = key_expires_at(draft.node_plan(node), attempt)
    return expires_at is not None and draft.now < expires_at


def _send_again(draft: Draft, node: str) -> None:
    """Back to `intended` with the same key and the same frozen request; a new permit is needed."""
    attempt = draft.move_attempt(node, AttemptState.INTENDED, Cause.ABSENT, find_at=None)
    wait_s = _doubled_s(attempt.send_no - 1, most_s=60.0)
    draft.set_attempt(node, not_before=draft.now + timedelta(seconds=wait_s))
    draft.move_node(node, NodeState.QUEUED, Cause.ABSENT)


def _look_again(draft: Draft, node: str, attempt: Attempt) -> None:
    wait_s = _doubled_s(attempt.find_no, most_s=_FIND_SLOWEST_S)
    draft.set_attempt(node, find_no=attempt.find_no + 1, find_at=draft.now + timedelta(seconds=wait_s))


def _look_again_late(draft: Draft, node: str, attempt: Attempt) -> None:
    assert attempt.permit_at is not None
    is_over = draft.now >= attempt.permit_at + timedelta(seconds=LATE_FIND_S)
    find_at = None if is_over else draft.now + timedelta(seconds=_LATE_FIND_EVERY_S)
    draft.set_attempt(node, find_no=attempt.find_no + 1, find_at=find_at)


def _unresolved(draft: Draft, node: str, attempt: Attempt, why: str) -> None:
    plan = draft.node_plan(node)
    error = ErrorInfo(
        error_class=ErrorClass.UNKNOWN,
        message=f"whether it was started is not known: {why}",
        detail=attempt.error.message if attempt.error else None,
    )
    if attempt.cancel_cause is not None:
        draft.end_attempt(node, Outcome.CANCELLED, Cause.CANCELLED, error)
        draft.set_node(node, error=error)
        attempt_over(draft, node, Cause.CANCELLED)
        return
    find_at: datetime | None = draft.now + timedelta(seconds=_LATE_FIND_EVERY_S)
    if plan.capabilities.correlation is Correlation.NONE:
        find_at = None
    draft.move_attempt(
        node, AttemptState.UNKNOWN, Cause.UNRESOLVED, {"message": why[:500]}, find_at=find_at, error=error
    )
    draft.move_node(node, NodeState.HELD, Cause.UNRESOLVED, {"message": why[:500]}, reason=error.message, error=error)
    if plan.on_unknown is OnUnknown.FAIL:
        _end(draft, node, Outcome.UNRESOLVED, Cause.GIVEN_UP, error)
    elif plan.on_unknown is OnUnknown.ASSUME_STARTED:
        _end(draft, node, Outcome.WARNED, Cause.ASSUMED, error)


def _cancel_answered(draft: Draft, event: CancelAnswered, attempt: Attempt) -> None:
    if attempt.state is not AttemptState.RUNNING or attempt.cancel_cause is None:
        return
    wait_s = min(5.0 * _doubled_s(attempt.cancel_no, most_s=60.0), 60.0)
    error = event.error or attempt.error
    if attempt.error is not None and attempt.error.error_class is ErrorClass.TIMEOUT and event.error is not None:
        # The limit is why it ends, whatever the vendor says to the request.
        error = replace(attempt.error, detail=event.error.message)
    draft.set_attempt(
        event.node,
        cancel_no=attempt.cancel_no + 1,
        cancel_at=draft.now + timedelta(seconds=wait_s),
        error=error,
    )


def cancel_attempt(draft: Draft, node: str, cause: CancelCause) -> None:
    """Begin to cancel a node's current attempt, or end it at once when nothing was sent."""
    attempt = draft.attempt(node)
    if attempt.state is AttemptState.ENDED:
        return
    if attempt.state is AttemptState.INTENDED and is_in_doubt(draft.node_plan(node), attempt):
        look_up_instead(draft, node)
        ask_cancel(draft, node, cause)
    elif attempt.state is AttemptState.INTENDED:
        draft.set_attempt(node, cancel_cause=cause)
        draft.end_attempt(node, Outcome.CANCELLED, Cause.CANCELLED)
        attempt_over(draft, node, Cause.CANCELLED)
    elif attempt.state is AttemptState.UNKNOWN:
        draft.set_attempt(node, cancel_cause=cause)
        draft.end_attempt(node, Outcome.CANCELLED, Cause.CANCELLED, attempt.error)
        attempt_over(draft, node, Cause.CANCELLED)
    elif attempt.cancel_cause is None:
        ask_cancel(draft, node, cause)
    elif attempt.cancel_cause is CancelCause.TIMEOUT:
        draft.set_attempt(node, cancel_cause=cause)


def ask_cancel(draft: Draft, node: str, cause: CancelCause, error: ErrorInfo | None = None) -> None:
    """Mark an attempt that may be running as being cancelled; the vendor is asked as soon as its run is known."""
    attempt = draft.attempt(node)
    is_ours = attempt.adopted != "busy"
    can_ask = is_ours and draft.node_plan(node).capabilities.cancel is CancelSupport.CONFIRMED
    is_known = attempt.state is AttemptState.RUNNING
    if cause is CancelCause.RUN_TIMEOUT:
        error = ErrorInfo(error_class=ErrorClass.TIMEOUT, message="the run's time limit passed")
    draft.set_attempt(
        node,
        cancel_cause=cause,
        cancel_asked_at=draft.now,
        cancel_at=draft.now if is_known and can_ask else None,
        cancel_no=0,
        error=error or attempt.error,
    )
    draft.set_node(node, reason="being cancelled" if cause is CancelCause.USER else f"being cancelled: {cause}")


def _end(draft: Draft, node: str, outcome: Outcome, cause: Cause, error: ErrorInfo | None) -> None:
    draft.end_attempt(node, outcome, cause, error)
    attempt_over(draft, node, cause)
