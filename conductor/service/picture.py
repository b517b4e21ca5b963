"""Turns runs and rows into views. Pure: the run, what history says, and now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median

from conductor.core.errors import ErrorInfo
from conductor.core.run import Attempt, NodeRun, Run
from conductor.core.states import AttemptState
from conductor.service.views import AttemptView, ErrorView, JournalLine, NodeLine, NodeView, RunLine, RunView
from conductor.store.store import JournalRow, RunRow

__all__ = [
    "ENOUGH",
    "attempt_view",
    "error_view",
    "journal_line",
    "node_line",
    "node_view",
    "run_line",
    "run_view",
    "usual",
]

ENOUGH = 5
"""Fewer past runs than this give no estimate."""
_RECENT = 20


def usual(durations: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Node → the median of its recent durations in seconds; nodes with fewer than five are left out.

    Args:
        durations: Node → past durations, newest first.
    """
    return {node: median(seconds[:_RECENT]) for node, seconds in durations.items() if len(seconds) >= ENOUGH}


def run_line(row: RunRow, now: datetime) -> RunLine:
    """A run as a list shows it."""
    return RunLine(
        id=row.id,
        pipeline=row.pipeline,
        pipeline_version=row.version,
        trigger=row.trigger,
        state=row.state,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        elapsed_s=_elapsed_s(row.started_at, row.ended_at, now),
        slot=row.slot,
        actor=row.actor,
        reason=row.reason,
    )


def run_view(run: Run, *, usual_s: Mapping[str, float], now: datetime) -> RunView:
    """A run with its nodes."""
    line = RunLine(
        id=run.id,
        pipeline=run.plan.name,
        pipeline_version=run.plan.version,
        trigger=run.trigger.value,
        state=run.state,
        created_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        elapsed_s=_elapsed_s(run.started_at, run.ended_at, now),
        slot=run.slot,
        actor=run.actor,
        reason=run.reason,
    )
    return RunView(
        run=line,
        logical_at=run.logical_at,
        params=run.params,
        is_paused=run.is_paused,
        is_cancelling=run.cancel_cause is not None and not run.state.is_final,
        nodes=tuple(node_line(run, node, usual_s=usual_s, now=now) for node in run.nodes.values()),
    )


def node_line(run: Run, node: NodeRun, *, usual_s: Mapping[str, float], now: datetime) -> NodeLine:
    """One node of a run."""
    plan = run.plan.nodes[node.id]
    attempt = node.attempt
    is_seen = attempt is not None and attempt.state is AttemptState.RUNNING
    return NodeLine(
        id=node.id,
        uses=plan.uses,
        connection=plan.connection,
        state=node.state,
        attempts=node.attempts,
        most_attempts=max(node.attempts, node.budget_from + plan.retries.attempts + 1),
        started_at=node.started_at,
        ended_at=node.ended_at,
        elapsed_s=_elapsed_s(node.started_at, node.ended_at, now),
        usual_s=usual_s.get(node.id),
        progress=attempt.progress if attempt is not None and is_seen else None,
        reason=node.reason,
        external_id=attempt.ref.id if attempt is not None and attempt.ref is not None else "",
        link=attempt.ref.link if attempt is not None and attempt.ref is not None else None,
        vendor_word=attempt.seen_word if attempt is not None else "",
        depends_on=plan.depends_on,
    )


def node_view(
    run: Run, node: NodeRun, attempts: Sequence[Attempt], *, usual_s: Mapping[str, float], now: datetime
) -> NodeView:
    """One node of a run, in full."""
    return NodeView(
        run_id=run.id,
        pipeline=run.plan.name,
        node=node_line(run, node, usual_s=usual_s, now=now),
        settings=node.attempt.settings if node.attempt is not None else {},
        outputs=node.outputs,
        error=error_view(node.error),
        attempts=tuple(attempt_view(attempt) for attempt in attempts),
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """One try."""
    return AttemptView(
        no=attempt.no,
        key=attempt.key,
        state=attempt.state,
        outcome=attempt.outcome,
        sends=attempt.send_no,
        intended_at=attempt.intended_at,
        permit_at=attempt.permit_at,
        ended_at=attempt.ended_at,
        external_id=attempt.ref.id if attempt.ref is not None else "",
        link=attempt.ref.link if attempt.ref is not None else None,
        adopted=attempt.adopted,
        vendor_word=attempt.seen_word,
        error=error_view(attempt.error),
    )


def error_view(error: ErrorInfo | None) -> ErrorView | None:
    """A failure; None for none."""
    if error is None:
        return None
    return ErrorView(
        error_class=error.error_class.value,
        message=error.message,
        code=error.code,
        link=error.link,
        detail=error.detail,
    )


def journal_line(row: JournalRow) -> JournalLine:
    """One row of the journal."""
    moved = row.transition
    return JournalLine(
        id=row.id,
        run_id=row.run_id,
        at=moved.at,
        subject=moved.subject.value,
        node=moved.node,
        attempt_no=moved.attempt_no,
        before=moved.before,
        after=moved.after,
        cause=moved.cause.value,
        detail=moved.detail,
    )


def _elapsed_s(started_at: datetime | None, ended_at: datetime | None, now: datetime) -> float | None:
    if started_at is None:
        return None
    return max(((ended_at or now) - started_at).total_seconds(), 0.0)
