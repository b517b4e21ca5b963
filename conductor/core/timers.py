"""What happens because time passed: retries that are due, limits that have passed, cancels that nobody confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from conductor.core.attempt import ask_cancel, look_up_instead
from conductor.core.doubt import key_expires_at
from conductor.core.draft import Draft
from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.node import attempt_over, retry_now
from conductor.core.plan import Limits, NodePlan
from conductor.core.run import Attempt
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import CancelSupport, ExternalState

__all__ = ["deadlines", "run_deadline", "wake"]


def wake(draft: Draft) -> None:
    """Do everything that has become due by `draft.now`."""
    deadline = run_deadline(draft.run.started_at, draft.plan.run_timeout_s)
    if draft.state is RunState.RUNNING and deadline is not None and deadline <= draft.now:
        _run_timed_out(draft)
    for node in list(draft.nodes):
        _wake_node(draft, node)


def run_deadline(started_at: datetime | None, run_timeout_s: float | None) -> datetime | None:
    """When the run's own limit passes; None without one."""
    if started_at is None or run_timeout_s is None:
        return None
    return started_at + timedelta(seconds=run_timeout_s)


def _run_timed_out(draft: Draft) -> None:
    if draft.get("cancel_cause") is None:
        from conductor.core.commands import cancel_run

        cancel_run(draft, CancelCause.RUN_TIMEOUT)


def _wake_node(draft: Draft, node: str) -> None:
    seen = draft.nodes[node]
    if seen.state is NodeState.RETRYING:
        if seen.retry_at is not None and seen.retry_at <= draft.now and not draft.get("is_paused"):
            retry_now(draft, node)
        return
    attempt = seen.attempt
    if attempt is None:
        return
    plan = draft.node_plan(node)
    expires_at = key_expires_at(plan, attempt)
    if attempt.state is AttemptState.INTENDED and expires_at is not None and expires_at <= draft.now:
        look_up_instead(draft, node)
    if attempt.state is not AttemptState.RUNNING:
        return
    if attempt.cancel_cause is not None:
        _check_grace(draft, node, attempt, plan)
        return
    for due_at, words, limit_s in deadlines(attempt, plan.limits):
        if due_at <= draft.now:
            error = ErrorInfo(error_class=ErrorClass.TIMEOUT, message=f"{words} {_span(limit_s)}")
            ask_cancel(draft, node, CancelCause.TIMEOUT, error)
            return


def deadlines(attempt: Attempt, limits: Limits) -> Iterator[tuple[datetime, str, float]]:
    """Each limit of a followed attempt: when it passes, what to say then, and the limit in seconds."""
    began_at = attempt.permit_at or attempt.running_at
    if limits.total_s is not None and began_at is not None:
        yield began_at + timedelta(seconds=limits.total_s), "it took longer than", limits.total_s
    since = attempt.seen_at or attempt.running_at
    if limits.queued_s is not None and since is not None and attempt.seen_state is ExternalState.QUEUED:
        yield since + timedelta(seconds=limits.queued_s), "queued at the vendor for", limits.queued_s
    if limits.running_s is not None and since is not None and attempt.seen_state is ExternalState.RUNNING:
        began = attempt.vendor_started_at or since
        yield began + timedelta(seconds=limits.running_s), "running for longer than", limits.running_s
    if limits.no_progress_s is not None and attempt.marker_at is not None:
        yield (
            attempt.marker_at + timedelta(seconds=limits.no_progress_s),
            "no sign of progress for",
            limits.no_progress_s,
        )


def _check_grace(draft: Draft, node: str, attempt: Attempt, plan: NodePlan) -> None:
    """End an attempt whose cancel the vendor did not confirm in time; it says so."""
    assert attempt.cancel_asked_at is not None
    if draft.now < attempt.cancel_asked_at + timedelta(seconds=plan.limits.cancel_grace_s):
        return
    can_ask = plan.capabilities.cancel is CancelSupport.CONFIRMED
    why = "the vendor did not confirm the cancel" if can_ask else "the vendor has no way to cancel"
    if attempt.adopted == "busy":
        why = "it was started by somebody else and was not cancelled"
    is_limit = attempt.cancel_cause in {CancelCause.TIMEOUT, CancelCause.RUN_TIMEOUT}
    before = f"{attempt.error.message}; " if is_limit and attempt.error else ""
    error = ErrorInfo(
        error_class=ErrorClass.TIMEOUT if is_limit else ErrorClass.UNKNOWN,
        message=f"{before}{why}: its run may go on there",
        link=attempt.ref.link if attempt.ref else None,
    )
    if is_limit:
        draft.end_attempt(node, Outcome.TIMED_OUT, Cause.TIMED_OUT, error)
        attempt_over(draft, node, Cause.TIMED_OUT)
    else:
        draft.end_attempt(node, Outcome.CANCELLED, Cause.CANCELLED, error)
        draft.set_node(node, error=error)
        attempt_over(draft, node, Cause.CANCELLED)


def _span(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{left}s" if left or not whole else ""]
    return "".join(parts)
