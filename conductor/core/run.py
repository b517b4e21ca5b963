"""A run as it is: values that the store keeps and `step` replaces. No behaviour beyond questions about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from conductor.core.errors import ErrorInfo
from conductor.core.plan import Plan
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import Baseline, ExternalRef, ExternalState, Json

__all__ = ["Attempt", "NodeRun", "Run", "Subject", "Transition", "Trigger"]


class Trigger(StrEnum):
    """Why a run began."""

    SCHEDULE = "schedule"
    """A slot of its schedule came due."""
    MANUAL = "manual"
    """A person asked."""
    CI = "ci"
    """A script asked."""
    SLACK = "slack"
    """A person asked in Slack."""
    SENSOR = "sensor"
    """A sensor fired."""
    UPSTREAM = "upstream"
    """Another pipeline's run."""
    BACKFILL = "backfill"
    """A slice of a backfill."""


class Subject(StrEnum):
    """What a transition is about."""

    RUN = "run"
    """The run itself."""
    NODE = "node"
    """One node in it."""
    ATTEMPT = "attempt"
    """One try of a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one node.

    Attributes:
        no: 1 for the first in this run.
        key: See `keys.attempt_key`.
        state: The phase.
        settings: The frozen request's settings.
        scope: The object that it occupies.
        intended_at: When it was planned.
        outcome: Set when ended.
        resume: The failed run whose work is resumed.
        baseline: What the vendor showed before the start; None until read.
        send_no: Permits so far, without those whose send the vendor refused.
        first_sent_at: The first permit that was not refused; the key's lifetime counts from here.
        permit_at: The latest permit.
        not_before: Nothing is sent or read for it before this instant.
        refusals: Refused sends and failed baselines in a row.
        settle_until: Until then an absent start may still appear.
        find_no: Look-ups so far since it became ambiguous.
        find_at: When the next look-up is due; None for no more.
        ref: The vendor's run.
        adopted: How the ref was learnt: empty for the start's own answer, else `found`, `inferred` or `busy`.
        running_at: Since when the ref is known.
        seen_state: The vendor's state when it was last seen.
        seen_word: The vendor's own word.
        seen_message: The vendor's short text.
        seen_at: When that state began to be seen.
        progress: 0 to 1, when the vendor says.
        marker: The vendor's mark of progress ...
        marker_at: ... and since when it stands still.
        vendor_started_at: When the vendor began the work.
        cancel_cause: Set once it is being cancelled.
        cancel_asked_at: Since when.
        cancel_at: When the next request to cancel is due; None for none.
        cancel_no: Requests to cancel so far.
        ended_at: When it ended here.
        error: Why it failed, or what was last wrong with it.
        outputs: Of a success.
    """

    no: int
    key: str
    state: AttemptState
    settings: Mapping[str, Json]
    scope: str
    intended_at: datetime
    outcome: Outcome | None = None
    resume: ExternalRef | None = None
    baseline: Baseline | None = None
    send_no: int = 0
    first_sent_at: datetime | None = None
    permit_at: datetime | None = None
    not_before: datetime | None = None
    refusals: int = 0
    settle_until: datetime | None = None
    find_no: int = 0
    find_at: datetime | None = None
    ref: ExternalRef | None = None
    adopted: str = ""
    running_at: datetime | None = None
    seen_state: ExternalState | None = None
    seen_word: str = ""
    seen_message: str | None = None
    seen_at: datetime | None = None
    progress: float | None = None
    marker: str = ""
    marker_at: datetime | None = None
    vendor_started_at: datetime | None = None
    cancel_cause: CancelCause | None = None
    cancel_asked_at: datetime | None = None
    cancel_at: datetime | None = None
    cancel_no: int = 0
    ended_at: datetime | None = None
    error: ErrorInfo | None = None
    outputs: Mapping[str, Json] = field(default_factory=dict)

    @property
    def holds_slot(self) -> bool:
        """True while it counts against pools and exclusive scopes: from its baseline until it is known to be over."""
        if self.state is AttemptState.INTENDED:
            return self.baseline is not None or self.settle_until is not None
        return self.state is not AttemptState.ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """One node in one run.

    Attributes:
        id: The node's id.
        state: Where it is.
        attempt: The current or last attempt; earlier ones are in the store only.
        attempts: How many were made.
        budget_from: Attempts before the last manual retry; the retry policy counts from here.
        retry_at: When the next attempt is due, in `retrying`.
        reason: Why it is where it is, for people; empty when the state says it all.
        outputs: What downstream nodes may use.
        error: Why it failed.
        ready_at: When its dependencies let it go.
        started_at: The first permit.
        ended_at: When it became final.
    """

    id: str
    state: NodeState = NodeState.WAITING
    attempt: Attempt | None = None
    attempts: int = 0
    budget_from: int = 0
    retry_at: datetime | None = None
    reason: str = ""
    outputs: Mapping[str, Json] = field(default_factory=dict)
    error: ErrorInfo | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of one pipeline version.

    Attributes:
        id: 16 hexadecimal characters; derived from the slot for scheduled runs.
        plan: The version it is pinned to.
        trigger: Why it began.
        state: Where it is.
        created_at: When it was recorded.
        logical_at: The slot for scheduled runs, else the creation.
        nodes: By id, in the plan's order.
        slot: The due instant for scheduled runs; unique per pipeline.
        params: Every parameter, defaults filled in.
        started_at: When it began.
        ended_at: When it ended.
        is_paused: No further starts; what runs is followed.
        cancel_cause: Set once it is being cancelled.
        reason: Why it is where it is, for people.
        actor: Who or what triggered it.
        priority: Higher goes first.
        revision: Grows with every commit; guards writes.
        epoch: Of the owner; guards writes.
        seq: Transitions so far.
    """

    id: str
    plan: Plan
    trigger: Trigger
    state: RunState
    created_at: datetime
    logical_at: datetime
    nodes: Mapping[str, NodeRun]
    slot: datetime | None = None
    params: Mapping[str, Json] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    is_paused: bool = False
    cancel_cause: CancelCause | None = None
    reason: str = ""
    actor: str = ""
    priority: int = 0
    revision: int = 0
    epoch: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One row of the journal.

    Attributes:
        at: When.
        seq: 1, 2, 3 … within the run.
        subject: Run, node or attempt.
        node: The node's id; empty for the run.
        attempt_no: 0 unless the subject is an attempt.
        before: The state left; empty for the first.
        after: The state entered.
        cause: Why.
        detail: What people and sinks need to know: reason, actor, error, vendor's word. Small JSON, no secrets.
    """

    at: datetime
    seq: int
    subject: Subject
    node: str
    attempt_no: int
    before: str
    after: str
    cause: Cause
    detail: Mapping[str, Json] = field(default_factory=dict)
