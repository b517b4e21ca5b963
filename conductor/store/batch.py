"""What one commit holds: the net change of every run that a tick has touched, and the journal's rows for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from conductor.core.run import Attempt, Run, Subject, Transition
from conductor.core.states import AttemptState, Outcome
from conductor.core.step import Step

__all__ = ["Batch", "RunChange"]


@dataclass(slots=True, kw_only=True)
class RunChange:
    """How one run differs from what is committed.

    Attributes:
        before: As committed; None for a new run.
        after: As it shall be; its revision is set by `Batch.add`.
        nodes: Ids of nodes that differ.
        attempts: (node, attempt number) → the attempt, for every attempt that was touched since the commit.
        transitions: The journal's rows, in order.
    """

    before: Run | None
    after: Run
    nodes: set[str] = field(default_factory=set)
    attempts: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Batch:
    """One transaction's worth of changes. All of it is written or none.

    Attributes:
        runs: Run id → its change.
        cursors: Pipeline → the last slot dealt with.
        paused: Pipeline → paused or not.
        drops: (pipeline, until, slots, reason) of slots that the catch-up policy left out.
        durations: (pipeline, node, seconds) of ended vendor runs.
    """

    runs: dict[str, RunChange] = field(default_factory=dict)
    cursors: dict[str, datetime] = field(default_factory=dict)
    paused: dict[str, bool] = field(default_factory=dict)
    drops: list[tuple[str, datetime, int, str]] = field(default_factory=list)
    durations: list[tuple[str, str, float]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.runs or self.cursors or self.paused or self.drops or self.durations)

    def add(self, before: Run | None, made: Step) -> Run:
        """Take what a step made of `before` (None for a new run). Returns the run to go on with.

        A step that changed nothing is not written.
        """
        change = self.runs.get(made.run.id)
        if change is None and made.run is before:
            return made.run
        last = before if change is None else change.after
        if change is None:
            revision = 1 if before is None else before.revision + 1
            change = RunChange(before=before, after=made.run)
            self.runs[made.run.id] = change
        else:
            revision = change.after.revision
        after = made.run if made.run.revision == revision else replace(made.run, revision=revision)
        change.after = after
        change.nodes |= made.changed
        change.transitions.extend(made.transitions)
        for node in made.changed:
            attempt = after.nodes[node].attempt
            if attempt is None:
                continue
            change.attempts[node, attempt.no] = attempt
            replaced = last.nodes[node].attempt if last is not None else None
            if replaced is not None and replaced.no != attempt.no and replaced.state is not AttemptState.ENDED:
                change.attempts[node, replaced.no] = _ended(node, replaced, made.transitions)
        return after


def _ended(node: str, attempt: Attempt, transitions: tuple[Transition, ...]) -> Attempt:
    """An attempt that one step ended and replaced (a held node was retried): the step's run has only the new one."""
    for row in transitions:
        subject = (row.subject, row.node, row.attempt_no, row.after)
        if subject == (Subject.ATTEMPT, node, attempt.no, AttemptState.ENDED.value):
            outcome = Outcome(str(row.detail["outcome"]))
            return replace(
                attempt,
                state=AttemptState.ENDED,
                outcome=outcome,
                ended_at=row.at,
                find_at=None,
                cancel_at=None,
                not_before=None,
            )
    return attempt
