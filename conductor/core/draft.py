"""The working copy that one `step` changes: every move is checked against the arrows and recorded as a transition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from conductor.core.errors import ErrorInfo, InvalidTransitionError
from conductor.core.plan import NodePlan, Plan
from conductor.core.run import Attempt, NodeRun, Run, Subject, Transition
from conductor.core.states import (
    ATTEMPT_ARROWS,
    NODE_ARROWS,
    RUN_ARROWS,
    AttemptState,
    Cause,
    NodeState,
    Outcome,
    RunState,
)
from conductor.core.vendor import ExternalRef, Json

__all__ = ["Draft", "Step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one event made of a run.

    Attributes:
        run: The run after it; the same object when nothing changed.
        transitions: What happened, in order; the journal's rows.
        changed: Ids of nodes whose row changed.
    """

    run: Run
    transitions: tuple[Transition, ...]
    changed: frozenset[str]


class Draft:
    """A run being changed. Not for use outside the core's own modules."""

    __slots__ = ("_changes", "changed", "nodes", "now", "plan", "resumes", "run", "transitions")

    def __init__(self, run: Run, now: datetime) -> None:
        self.run = run
        self.plan: Plan = run.plan
        self.now = now
        self.nodes: dict[str, NodeRun] = dict(run.nodes)
        self.transitions: list[Transition] = []
        self.changed: set[str] = set()
        self.resumes: dict[str, ExternalRef] = {}
        self._changes: dict[str, Any] = {}

    def step(self) -> Step:
        """What the draft has become."""
        if not (self.changed or self._changes or self.transitions):
            return Step(run=self.run, transitions=(), changed=frozenset())
        run = replace(self.run, nodes=self.nodes, seq=self.run.seq + len(self.transitions), **self._changes)
        return Step(run=run, transitions=tuple(self.transitions), changed=frozenset(self.changed))

    def node_plan(self, node: str) -> NodePlan:
        """The plan of a node."""
        return self.plan.nodes[node]

    @property
    def state(self) -> RunState:
        """The run's state as of now in this draft."""
        state: RunState = self._changes.get("state", self.run.state)
        return state

    def get(self, name: str) -> Any:
        """A field of the run as of now in this draft."""
        return self._changes.get(name, getattr(self.run, name))

    def set_run(self, **changes: Any) -> None:
        """Change fields of the run other than its state and nodes."""
        self._changes.update(changes)

    def move_run(self, state: RunState, cause: Cause, detail: Mapping[str, Json] | None = None, **changes: Any) -> None:
        """Take an arrow of the run's table."""
        before = self.state
        if (before, state, cause) not in RUN_ARROWS:
            raise InvalidTransitionError(f"run {self.run.id}: no arrow {before} → {state} for {cause}")
        self._changes.update(state=state, **changes)
        self._record(Subject.RUN, "", 0, before.value, state.value, cause, detail)

    def set_node(self, node: str, **changes: Any) -> NodeRun:
        """Change fields of a node other than its state. What is the same as before is no change: nothing is written."""
        before = self.nodes[node]
        # Only what is given is compared: most of a node and its attempt stays as it is.
        if any(getattr(before, name) != value for name, value in changes.items()):
            self.nodes[node] = replace(before, **changes)
            self.changed.add(node)
        return self.nodes[node]

    def move_node(
        self, node: str, state: NodeState, cause: Cause, detail: Mapping[str, Json] | None = None, **changes: Any
    ) -> NodeRun:
        """Take an arrow of the node's table. A final state stamps `ended_at`."""
        before = self.nodes[node].state
        if (before, state, cause) not in NODE_ARROWS:
            raise InvalidTransitionError(f"run {self.run.id}, node {node}: no arrow {before} → {state} for {cause}")
        if state.is_final:
            changes.setdefault("ended_at", self.now)
            changes.setdefault("retry_at", None)
        self._record(Subject.NODE, node, 0, before.value, state.value, cause, detail)
        return self.set_node(node, state=state, **changes)

    def attempt(self, node: str) -> Attempt:
        """The node's current attempt."""
        attempt = self.nodes[node].attempt
        if attempt is None:
            raise InvalidTransitionError(f"run {self.run.id}, node {node}: it has no attempt")
        return attempt

    def set_attempt(self, node: str, **changes: Any) -> Attempt:
        """Change fields of the current attempt other than its state."""
        attempt = replace(self.attempt(node), **changes)
        self.set_node(node, attempt=attempt)
        return attempt

    def new_attempt(self, node: str, attempt: Attempt) -> None:
        """Record a fresh attempt as the node's current one."""
        self._check(node, None, attempt.state, Cause.PLANNED)
        self.set_node(node, attempt=attempt, attempts=attempt.no)
        self._record(Subject.ATTEMPT, node, attempt.no, "", attempt.state.value, Cause.PLANNED, {"key": attempt.key})

    def move_attempt(
        self, node: str, state: AttemptState, cause: Cause, detail: Mapping[str, Json] | None = None, **changes: Any
    ) -> Attempt:
        """Take an arrow of the attempt's table."""
        before = self.attempt(node)
        self._check(node, before.state, state, cause)
        self._record(Subject.ATTEMPT, node, before.no, before.state.value, state.value, cause, detail)
        return self.set_attempt(node, state=state, **changes)

    def end_attempt(self, node: str, outcome: Outcome, cause: Cause, error: ErrorInfo | None = None) -> Attempt:
        """End the current attempt; clears everything that was still owed for it."""
        detail: dict[str, Json] = {"outcome": outcome.value}
        if error is not None:
            detail |= {"class": error.error_class.value, "message": error.message[:500]}
        kept = error if error is not None else self.attempt(node).error
        return self.move_attempt(
            node,
            AttemptState.ENDED,
            cause,
            detail,
            outcome=outcome,
            error=None if outcome is Outcome.SUCCEEDED else kept,
            ended_at=self.now,
            find_at=None,
            cancel_at=None,
            not_before=None,
        )

    def _check(self, node: str, before: AttemptState | None, after: AttemptState, cause: Cause) -> None:
        if (before, after, cause) not in ATTEMPT_ARROWS:
            raise InvalidTransitionError(
                f"run {self.run.id}, node {node}: no attempt arrow {before} → {after} for {cause}"
            )

    def _record(  # noqa: PLR0917 - one row, in the order of its columns
        self,
        subject: Subject,
        node: str,
        attempt_no: int,
        before: str,
        after: str,
        cause: Cause,
        detail: Mapping[str, Json] | None,
    ) -> None:
        self.transitions.append(
            Transition(
                at=self.now,
                seq=self.run.seq + len(self.transitions) + 1,
                subject=subject,
                node=node,
                attempt_no=attempt_no,
                before=before,
                after=after,
                cause=cause,
                detail=detail or {},
            )
        )
