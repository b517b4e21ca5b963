"""What people ask of a run: cancel, retry, rerun, skip, mark, pause. Refuses with the way out; never half done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from conductor.core.attempt import cancel_attempt
from conductor.core.doubt import is_in_doubt
from conductor.core.draft import Draft
from conductor.core.errors import ConflictError, ErrorClass, ErrorInfo, NotFoundError
from conductor.core.events import CancelNode, CancelRun, Mark, MarkNode, RerunFrom, RetryFailed, SkipNode
from conductor.core.node import finish_run, settle
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import Json

__all__ = ["cancel_node", "cancel_run", "mark_node", "on_cancel_run", "rerun_from", "retry_failed", "skip_node"]

_AGAIN = frozenset({NodeState.FAILED, NodeState.CANCELLED, NodeState.HELD})
_BLOCKED = frozenset({NodeState.UPSTREAM_FAILED, NodeState.SKIPPED, NodeState.CANCELLED})


def on_cancel_run(draft: Draft, event: CancelRun) -> None:
    """Cancel the run for a person or for the concurrency policy; cancelling again changes nothing."""
    if draft.state.is_final:
        raise ConflictError(f"run {draft.run.id} has ended ({draft.state}): there is nothing to cancel")
    draft.set_run(reason=event.reason or f"cancelled by {event.actor or event.cause.value}")
    cancel_run(draft, event.cause, actor=event.actor, reason=event.reason)


def cancel_run(draft: Draft, cause: CancelCause, *, actor: str = "", reason: str = "") -> None:
    """Stop everything in the run. Nodes that were not sent end now; the others when the vendor confirms."""
    if draft.state is RunState.QUEUED:
        detail: dict[str, Json] = {"by": cause.value, "actor": actor, "reason": reason}
        for node in [node for node, seen in draft.nodes.items() if not seen.state.is_final]:
            draft.move_node(node, NodeState.CANCELLED, Cause.CANCELLED)
        draft.move_run(RunState.CANCELLED, Cause.CANCELLED, detail, cancel_cause=cause, ended_at=draft.now)
        return
    if draft.get("cancel_cause") is None:
        detail = {"by": cause.value, "actor": actor, "reason": reason}
        draft.move_run(RunState.RUNNING, Cause.CANCELLED, detail, cancel_cause=cause)
    for node in list(draft.nodes):
        state = draft.nodes[node].state
        if state in {NodeState.WAITING, NodeState.RETRYING}:
            draft.move_node(node, NodeState.CANCELLED, Cause.CANCELLED, {"by": cause.value, "actor": actor})
    for node in list(draft.nodes):
        if not draft.nodes[node].state.is_final:
            cancel_attempt(draft, node, cause)
    finish_run(draft)


def cancel_node(draft: Draft, event: CancelNode) -> None:
    """Cancel one node; what depends on it follows its trigger rules."""
    state = _node(draft, event.node)
    if state.is_final:
        raise ConflictError(f"node {event.node} has ended ({state}): there is nothing to cancel")
    if state in {NodeState.WAITING, NodeState.RETRYING}:
        detail: dict[str, Json] = {"by": CancelCause.USER.value, "actor": event.actor, "reason": event.reason}
        draft.move_node(event.node, NodeState.CANCELLED, Cause.CANCELLED, detail, reason=event.reason)
        settle(draft, [event.node])
        return
    before = draft.attempt(event.node).cancel_cause
    cancel_attempt(draft, event.node, CancelCause.USER)
    if draft.nodes[event.node].state is NodeState.RUNNING and before is not CancelCause.USER:
        asked: dict[str, Json] = {"actor": event.actor, "reason": event.reason}
        draft.move_node(event.node, NodeState.RUNNING, Cause.CANCELLED, asked)


def retry_failed(draft: Draft, event: RetryFailed) -> None:
    """Set failed, cancelled and held nodes back, and what they blocked. Nodes that did not fail stay as they are."""
    nodes = event.nodes or tuple(node for node, seen in draft.nodes.items() if seen.state in _AGAIN)
    for node in nodes:
        state = _node(draft, node)
        if state not in _AGAIN:
            raise ConflictError(
                f"node {node} is {state}: only failed, cancelled and held nodes can be retried; use rerun instead"
            )
    if not nodes:
        raise ConflictError(f"run {draft.run.id} is {draft.state} and has no failed, cancelled or held node to retry")
    back = set(nodes)
    for node in nodes:
        back.update(below for below in draft.plan.closure(node) if draft.nodes[below].state in _BLOCKED)
    for node in nodes:
        _resume_where_possible(draft, node, back)
    _set_back(draft, back, actor=event.actor, reason=event.reason)


def _resume_where_possible(draft: Draft, node: str, back: set[str]) -> None:
    """Let the next attempt take up the failed one inside the tool, unless what it builds on is made anew as well."""
    attempt = draft.nodes[node].attempt
    if attempt is None or attempt.outcome is not Outcome.FAILED or attempt.ref is None:
        return
    if not any(node in draft.plan.closure(other) for other in back if other != node):
        draft.resumes[node] = attempt.ref


def rerun_from(draft: Draft, event: RerunFrom) -> None:
    """Set a node and everything that depends on it back, whatever it was."""
    _node(draft, event.node)
    closure = draft.plan.closure(event.node)
    going = {NodeState.QUEUED, NodeState.RUNNING, NodeState.RETRYING}
    busy = [node for node in closure if draft.nodes[node].state in going]
    if busy:
        raise ConflictError(f"node {busy[0]} is {draft.nodes[busy[0]].state}: cancel it first, then rerun")
    _set_back(draft, closure, actor=event.actor, reason=event.reason)


def skip_node(draft: Draft, event: SkipNode) -> None:
    """Declare that a node shall not run; what depends on it follows its trigger rules."""
    _need_reason(event.reason)
    _decide(draft, event.node, NodeState.SKIPPED, actor=event.actor, reason=event.reason)


def mark_node(draft: Draft, event: MarkNode) -> None:
    """Declare how a node ended; what it blocked is set back and judged anew."""
    _need_reason(event.reason)
    state = NodeState.SUCCEEDED if event.state is Mark.SUCCEEDED else NodeState.FAILED
    _decide(draft, event.node, state, actor=event.actor, reason=event.reason)


def _decide(draft: Draft, node: str, state: NodeState, *, actor: str, reason: str) -> None:
    before = _node(draft, node)
    if before is state:
        raise ConflictError(f"node {node} is {state} already")
    if before is NodeState.RUNNING:
        raise ConflictError(f"node {node} is running: cancel it first, or wait until it has ended")
    attempt = draft.nodes[node].attempt
    if attempt is not None and attempt.state is not AttemptState.ENDED:
        is_open = attempt.state is AttemptState.UNKNOWN or is_in_doubt(draft.node_plan(node), attempt)
        draft.end_attempt(node, Outcome.UNRESOLVED if is_open else Outcome.CANCELLED, Cause.DECIDED)
    error = ErrorInfo(error_class=ErrorClass.UNKNOWN, message=reason) if state is NodeState.FAILED else None
    detail: dict[str, Json] = {"actor": actor, "reason": reason}
    draft.move_node(node, state, Cause.DECIDED, detail, reason=f"{reason} ({actor})" if actor else reason, error=error)
    blocked = [below for below in draft.plan.closure(node) if below != node and draft.nodes[below].state in _BLOCKED]
    if blocked and draft.state is not RunState.QUEUED and not _is_being_cancelled(draft):
        _set_back(draft, blocked, actor=actor, reason=reason)
    elif draft.state in {RunState.SUCCEEDED, RunState.FAILED}:
        _reopen(draft, detail)
    settle(draft, [node])


def _set_back(draft: Draft, nodes: Iterable[str], *, actor: str, reason: str) -> None:
    if draft.state is RunState.QUEUED:
        raise ConflictError(f"run {draft.run.id} has not begun yet")
    if _is_being_cancelled(draft):
        raise ConflictError(f"run {draft.run.id} is being cancelled: wait until it has ended, then take it up again")
    detail: dict[str, Json] = {"actor": actor, "reason": reason}
    if draft.state.is_final:
        _reopen(draft, detail)
    chosen = set(nodes)
    back = [node for node in draft.nodes if node in chosen]
    for node in back:
        attempt = draft.nodes[node].attempt
        if attempt is not None and attempt.state is AttemptState.UNKNOWN:
            draft.end_attempt(node, Outcome.UNRESOLVED, Cause.DECIDED)
    for node in back:
        seen = draft.nodes[node]
        if seen.state is NodeState.WAITING:
            continue
        draft.move_node(
            node,
            NodeState.WAITING,
            Cause.RERUN,
            detail,
            budget_from=seen.attempts,
            started_at=None,
            ended_at=None,
            error=None,
            outputs={},
            reason="",
            retry_at=None,
        )
    settle(draft, back)


def _reopen(draft: Draft, detail: Mapping[str, Json]) -> None:
    """An ended run goes on, or is only judged anew when nothing in it has to run."""
    draft.move_run(RunState.RUNNING, Cause.RERUN, detail, ended_at=None, cancel_cause=None, reason="")
    draft.set_run(started_at=draft.now)


def _is_being_cancelled(draft: Draft) -> bool:
    return draft.state is RunState.RUNNING and draft.get("cancel_cause") is not None


def _node(draft: Draft, node: str) -> NodeState:
    if node not in draft.nodes:
        known = ", ".join(list(draft.nodes)[:10])
        raise NotFoundError(f"run {draft.run.id} has no node {node!r}; its nodes are {known}")
    return draft.nodes[node].state


def _need_reason(reason: str) -> None:
    if not reason.strip():
        raise ConflictError("a reason is needed: it is kept in the journal")
