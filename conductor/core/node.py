"""One node's way: may it begin, is another attempt due, what does its end mean for the others and for the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from conductor.core.context import NodeFacts, RunFacts, build_context
from conductor.core.draft import Draft
from conductor.core.errors import ErrorClass, ErrorInfo, ExpressionError
from conductor.core.keys import attempt_key, jitter
from conductor.core.plan import Backoff, NodePlan, OnFailure, RetryPolicy, TriggerRule
from conductor.core.run import Attempt, NodeRun
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import Delivery, ExternalRef, Json

__all__ = ["Verdict", "attempt_over", "finish_run", "judge", "plan_attempt", "retry_delay_s", "retry_now", "settle"]

_GOOD = frozenset({NodeState.SUCCEEDED, NodeState.WARNED})
_BAD = frozenset({NodeState.FAILED, NodeState.UPSTREAM_FAILED, NodeState.CANCELLED})


class Verdict:
    """What a trigger rule says: wait, go, or end without running."""

    WAIT: NodeState | None = None
    GO = NodeState.QUEUED
    SKIP = NodeState.SKIPPED
    BLOCK = NodeState.UPSTREAM_FAILED


def judge(rule: TriggerRule, upstream: Iterable[NodeState]) -> NodeState | None:
    """What `rule` makes of the states upstream: None to wait, else the state that the node takes."""
    states = list(upstream)
    if rule is TriggerRule.ALWAYS:
        return Verdict.GO
    if rule is TriggerRule.ONE_SUCCESS and any(state in _GOOD for state in states):
        return Verdict.GO
    if rule is TriggerRule.ONE_FAILED and any(state in _BAD for state in states):
        return Verdict.GO
    if rule is TriggerRule.ALL_FAILED and any(state.is_final and state not in _BAD for state in states):
        return Verdict.SKIP
    if not all(state.is_final for state in states):
        return Verdict.WAIT
    match rule:
        case TriggerRule.ALL_SUCCESS:
            return _all_success(states)
        case TriggerRule.NONE_FAILED:
            return Verdict.BLOCK if any(state in _BAD for state in states) else Verdict.GO
        case TriggerRule.ONE_SUCCESS:
            return Verdict.BLOCK if any(state in _BAD for state in states) else Verdict.SKIP
        case TriggerRule.ONE_FAILED:
            return Verdict.SKIP
        case TriggerRule.ALL_DONE | TriggerRule.ALL_FAILED:
            return Verdict.GO


def _all_success(states: list[NodeState]) -> NodeState:
    if any(state in _BAD for state in states):
        return Verdict.BLOCK
    return Verdict.SKIP if NodeState.SKIPPED in states else Verdict.GO


def settle(draft: Draft, changed: Iterable[str]) -> None:
    """Let the ends of `changed` nodes take effect downstream, to a fixed point; ends the run when all has ended.

    Nothing begins in a run that has not begun: its nodes are judged then.
    """
    if draft.state is RunState.QUEUED:
        return
    order = list(changed)
    downstream = draft.plan.downstream
    is_any_over = False
    for node in order:  # It grows on the way.
        if _can_be_judged(draft, node):
            _consider(draft, node)
        if draft.nodes[node].state.is_final:
            is_any_over = True
            order.extend(below for below in downstream[node] if _can_be_judged(draft, below))
    if is_any_over:
        finish_run(draft)


def _can_be_judged(draft: Draft, node: str) -> bool:
    """False when the node cannot leave `waiting` yet; cheap, because a layer may ask it of every node for every end."""
    nodes = draft.nodes
    if nodes[node].state is not NodeState.WAITING:
        return False
    plan = draft.plan.nodes[node]
    if plan.trigger_rule not in _NEEDS_ALL:
        return True
    # What was written last mostly ends last, so looking from the end mostly stops at once.
    for upstream in reversed(plan.depends_on):  # noqa: SIM110 - twice as fast as `all` of a generator
        if not nodes[upstream].state.is_final:
            return False
    return True


def _consider(draft: Draft, node: str) -> None:
    plan = draft.node_plan(node)
    nodes = draft.nodes
    verdict = judge(plan.trigger_rule, (nodes[upstream].state for upstream in plan.depends_on))
    if verdict is None:
        return
    if verdict is NodeState.SKIPPED:
        draft.move_node(node, verdict, Cause.RULE, reason=f"trigger rule {plan.trigger_rule}")
        return
    if verdict is NodeState.UPSTREAM_FAILED:
        culprits = [upstream for upstream in plan.depends_on if nodes[upstream].state in _BAD]
        reason = f"{culprits[0]} is {nodes[culprits[0]].state}"
        draft.move_node(node, verdict, Cause.RULE, {"upstream": list(culprits)}, reason=reason)
        return
    _begin(draft, node, plan)


_NEEDS_ALL = frozenset({TriggerRule.ALL_SUCCESS, TriggerRule.ALL_DONE, TriggerRule.NONE_FAILED})


def _begin(draft: Draft, node: str, plan: NodePlan) -> None:
    try:
        if plan.condition is not None and not _is_true(plan, _context(draft, node)):
            draft.move_node(node, NodeState.SKIPPED, Cause.CONDITION, reason=f"if: {plan.condition.source} is false")
            return
        attempt = plan_attempt(draft, node, resume=draft.resumes.pop(node, None))
    except ExpressionError as error:
        _bad_expression(draft, node, error)
        return
    draft.move_node(node, NodeState.QUEUED, Cause.RULE, ready_at=draft.now, reason="")
    draft.new_attempt(node, attempt)


def _bad_expression(draft: Draft, node: str, error: ExpressionError) -> None:
    info = ErrorInfo(error_class=ErrorClass.CONFIG, message=str(error))
    draft.move_node(node, _failed_state(draft, node), Cause.EXPRESSION, error=info, reason=str(error))


def _is_true(plan: NodePlan, context: Mapping[str, Json]) -> bool:
    assert plan.condition is not None
    value = plan.condition.evaluate(context)
    if not isinstance(value, bool):
        raise ExpressionError(f"if: {plan.condition.source} gave {value!r}, not true or false")
    return value


def _context(draft: Draft, node: str) -> Mapping[str, Json]:
    run = draft.run
    return build_context(
        params=run.params,
        run=RunFacts(
            id=run.id,
            logical_at=run.logical_at,
            scheduled_for=run.slot,
            trigger=run.trigger.value,
            attempt=draft.nodes[node].attempts + 1,
        ),
        nodes={
            other: NodeFacts(status=seen.state.value, outputs=seen.outputs)
            for other, seen in draft.nodes.items()
            if seen.state.is_final
        },
        plan=draft.plan,
    )


def plan_attempt(draft: Draft, node: str, *, resume: ExternalRef | None) -> Attempt:
    """The node's next attempt with its request frozen.

    Raises:
        ExpressionError: The settings do not fit this run's values.
    """
    plan = draft.node_plan(node)
    constant = plan.settings.constant
    rendered = constant if constant is not None else plan.settings.render(_context(draft, node))
    no = draft.nodes[node].attempts + 1
    return Attempt(
        no=no,
        key=attempt_key(run=draft.run.id, node=node, attempt_no=no),
        state=AttemptState.INTENDED,
        settings=rendered.settings,
        scope=rendered.scope,
        intended_at=draft.now,
        resume=resume if plan.capabilities.resume else None,
    )


def retry_delay_s(policy: RetryPolicy, *, failures: int, key: str) -> float:
    """Seconds to wait after the `failures`-th failure; jitter derives from `key`."""
    growth = {
        Backoff.CONSTANT: 1.0,
        Backoff.LINEAR: float(failures),
        Backoff.EXPONENTIAL: 2.0 ** min(failures - 1, 30),
    }
    delay = policy.delay_s * growth[policy.backoff]
    return min(delay * (1 + policy.jitter * jitter(key, failures)), policy.max_delay_s)


def retry_now(draft: Draft, node: str) -> None:
    """Make the attempt that a `retrying` node waits for."""
    last = draft.attempt(node)
    resume = last.ref if last.outcome is Outcome.FAILED else None
    try:
        attempt = plan_attempt(draft, node, resume=resume)
    except ExpressionError as error:
        _bad_expression(draft, node, error)
        settle(draft, [node])
        return
    draft.move_node(node, NodeState.QUEUED, Cause.RETRY, retry_at=None, reason="")
    draft.new_attempt(node, attempt)


def attempt_over(draft: Draft, node: str, cause: Cause) -> None:
    """The node's attempt has just ended: succeed, retry or fail the node, and let that take effect."""
    attempt = draft.attempt(node)
    match attempt.outcome:
        case Outcome.SUCCEEDED:
            draft.move_node(node, NodeState.SUCCEEDED, cause, outputs=attempt.outputs, error=None, reason="")
        case Outcome.WARNED:
            reason = attempt.error.message if attempt.error else attempt.seen_message or ""
            draft.move_node(node, NodeState.WARNED, cause, outputs=attempt.outputs, error=attempt.error, reason=reason)
        case Outcome.SKIPPED:
            draft.move_node(node, NodeState.SKIPPED, cause, reason="something else was running there")
        case Outcome.CANCELLED:
            reason = "" if attempt.cancel_cause else "cancelled at the vendor, not by Conductor"
            draft.move_node(
                node, NodeState.CANCELLED, cause, {"by": str(attempt.cancel_cause or "vendor")}, reason=reason
            )
        case _:
            _failed(draft, node, attempt, cause)
    settle(draft, [node])


def _failed(draft: Draft, node: str, attempt: Attempt, cause: Cause) -> None:
    plan = draft.node_plan(node)
    error = attempt.error or ErrorInfo(error_class=ErrorClass.UNKNOWN, message="the vendor gave no reason")
    failures = attempt.no - draft.nodes[node].budget_from
    if _may_retry(draft, plan, attempt, error, failures):
        wait_s = retry_delay_s(plan.retries, failures=failures, key=attempt.key)
        retry_at = draft.now + timedelta(seconds=wait_s)
        detail: dict[str, Json] = {"class": error.error_class.value, "retry_at": retry_at.isoformat()}
        draft.move_node(node, NodeState.RETRYING, cause, detail, retry_at=retry_at, error=error, reason=error.message)
        return
    state = _failed_state(draft, node)
    detail = {"class": error.error_class.value, "message": error.message[:500]}
    draft.move_node(node, state, cause, detail, error=error, reason=error.message)


def _failed_state(draft: Draft, node: str) -> NodeState:
    return NodeState.WARNED if draft.node_plan(node).on_failure is OnFailure.WARN else NodeState.FAILED


def _may_retry(draft: Draft, plan: NodePlan, attempt: Attempt, error: ErrorInfo, failures: int) -> bool:
    """Another attempt only within the budget, for a class that may heal, and when the last one is known to be over."""
    if draft.get("cancel_cause") is not None or attempt.outcome is Outcome.UNRESOLVED:
        return False
    if attempt.cancel_cause not in {None, CancelCause.TIMEOUT}:
        return False
    if failures > plan.retries.attempts or error.error_class not in plan.retries.on:
        return False
    is_surely_over = attempt.outcome is not Outcome.VANISHED and not (
        attempt.outcome is Outcome.TIMED_OUT and (attempt.seen_state is None or not attempt.seen_state.is_final)
    )
    return is_surely_over or plan.delivery is Delivery.AT_LEAST_ONCE or plan.capabilities.sends_nothing


def finish_run(draft: Draft) -> None:
    """End the run when every node has ended: cancelled if asked to, failed if anything counts as failed."""
    if draft.state is not RunState.RUNNING:
        return
    # The plan's order is topological: the last nodes end last, so looking from the end mostly stops at once.
    if not all(node.state.is_final for node in reversed(draft.nodes.values())):
        return
    cause: CancelCause | None = draft.get("cancel_cause")
    culprit = _culprit(draft)
    if cause in {CancelCause.USER, CancelCause.CONCURRENCY}:
        draft.move_run(RunState.CANCELLED, Cause.DONE, ended_at=draft.now)
    elif cause is CancelCause.RUN_TIMEOUT:
        draft.move_run(RunState.FAILED, Cause.DONE, ended_at=draft.now, reason="the run's time limit passed")
    elif culprit is not None:
        reason = f"{culprit.id} {culprit.state}" + (f": {culprit.reason}" if culprit.reason else "")
        draft.move_run(RunState.FAILED, Cause.DONE, {"node": culprit.id}, ended_at=draft.now, reason=reason[:500])
    else:
        draft.move_run(RunState.SUCCEEDED, Cause.DONE, ended_at=draft.now, reason="")


def _culprit(draft: Draft) -> NodeRun | None:
    """The first node, in the plan's order, whose failure counts; None when the run succeeded."""
    harmless: set[str] = set()
    for node, seen in draft.nodes.items():
        if seen.state not in _BAD:
            continue
        plan = draft.node_plan(node)
        if seen.state is NodeState.UPSTREAM_FAILED:
            bad = [upstream for upstream in plan.depends_on if draft.nodes[upstream].state in _BAD]
            is_harmless = all(upstream in harmless for upstream in bad)
        else:
            is_harmless = plan.on_failure is OnFailure.CONTINUE
        if not is_harmless:
            return seen
        harmless.add(node)
    return None
