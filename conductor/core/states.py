"""The states and every arrow between them. The machines refuse any other; the docs' diagrams are drawn from here."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "ATTEMPT_ARROWS",
    "NODE_ARROWS",
    "RUN_ARROWS",
    "AttemptState",
    "CancelCause",
    "Cause",
    "NodeState",
    "Outcome",
    "RunState",
]


class RunState(StrEnum):
    """The state of one execution of a pipeline."""

    QUEUED = "queued"
    """Recorded; waits for the pipeline's concurrency limit."""
    RUNNING = "running"
    """At least one node has not ended."""
    SUCCEEDED = "succeeded"
    """Every node succeeded, was warned or was skipped by its own rule, or its failure is declared harmless."""
    FAILED = "failed"
    """A node failed, was blocked or was cancelled at the vendor, or the run's time limit passed."""
    CANCELLED = "cancelled"
    """A person or the concurrency policy stopped it."""

    @property
    def is_final(self) -> bool:
        """True when nothing more happens without a person."""
        return self in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


class NodeState(StrEnum):
    """The state of one node in one run."""

    WAITING = "waiting"
    """Waits for the nodes it depends on."""
    QUEUED = "queued"
    """May start; waits for a slot, for the vendor's object to be free, or for a refused start's next try."""
    RUNNING = "running"
    """Its start was permitted; it may be running at the vendor."""
    RETRYING = "retrying"
    """The last attempt failed; waits for the next."""
    HELD = "held"
    """Whether it was started is not known; a person or a late look-up decides."""
    SUCCEEDED = "succeeded"
    """Done."""
    WARNED = "warned"
    """Done, with part of it not as it should be; counts as success downstream."""
    FAILED = "failed"
    """Not done, and no attempt is left."""
    SKIPPED = "skipped"
    """Not run: its condition, its trigger rule or a person said so."""
    UPSTREAM_FAILED = "upstream_failed"
    """Not run: something it needs has failed."""
    CANCELLED = "cancelled"
    """Stopped before it was done."""

    @property
    def is_final(self) -> bool:
        """True when nothing more happens without a person."""
        return self in _FINAL_NODE_STATES


_FINAL_NODE_STATES = frozenset(
    {
        NodeState.SUCCEEDED,
        NodeState.WARNED,
        NodeState.FAILED,
        NodeState.SKIPPED,
        NodeState.UPSTREAM_FAILED,
        NodeState.CANCELLED,
    }
)


class AttemptState(StrEnum):
    """The phase of one try: it says what is owed."""

    INTENDED = "intended"
    """Recorded with its frozen request; nothing was sent."""
    SENDING = "sending"
    """Permitted: the request may be on the wire."""
    AMBIGUOUS = "ambiguous"
    """The start may have been accepted; it is being looked up."""
    RUNNING = "running"
    """The vendor's run is known and followed."""
    UNKNOWN = "unknown"
    """The look-ups did not settle it; a policy or a person decides."""
    ENDED = "ended"
    """Over; the outcome says how."""


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    """The vendor says so."""
    WARNED = "warned"
    """The vendor says: done, with warnings."""
    FAILED = "failed"
    """The vendor says so."""
    CANCELLED = "cancelled"
    """The vendor says so, or it was cancelled before it was sent."""
    TIMED_OUT = "timed_out"
    """One of our limits passed and the vendor stopped it, or did not answer the request to."""
    VANISHED = "vanished"
    """The vendor no longer knows it."""
    REJECTED = "rejected"
    """The vendor refused the start: nothing was started."""
    SKIPPED = "skipped"
    """The object was busy and the node says to skip then."""
    UNRESOLVED = "unresolved"
    """Whether it was started was never learnt, and a policy or a person closed it."""


class CancelCause(StrEnum):
    """Why an attempt is being cancelled. The three kinds never mix: a person, a limit, our own rules."""

    USER = "user"
    """A person or a script asked for it."""
    TIMEOUT = "timeout"
    """A limit of the node passed."""
    RUN_TIMEOUT = "run_timeout"
    """The run's limit passed."""
    CONCURRENCY = "concurrency"
    """A newer run of the pipeline took its place."""


class Cause(StrEnum):
    """Why an arrow was taken; recorded with every transition."""

    ABSENT = "absent"
    """Looked up, proved absent, and allowed to be sent again."""
    ACCEPTED = "accepted"
    """The vendor answered the start with a run."""
    ADOPTED = "adopted"
    """A run that was already going is followed as ours."""
    ASSUMED = "assumed"
    """`on_unknown: assume_started`."""
    BEGUN = "begun"
    """The run may begin."""
    BUSY = "busy"
    """Something else is running there."""
    CANCELLED = "cancelled"
    """Stopped on request."""
    CONDITION = "condition"
    """The node's `if` was false."""
    CREATED = "created"
    """First recorded."""
    DECIDED = "decided"
    """A person said so; the reason is recorded."""
    DONE = "done"
    """Everything in it has ended."""
    EXPRESSION = "expression"
    """An expression failed on this run's values."""
    FOUND = "found"
    """A look-up recognised our start."""
    GIVEN_UP = "given_up"
    """`on_unknown: fail`."""
    LOST = "lost"
    """The start's answer was lost or unclear."""
    OBSERVED = "observed"
    """The vendor's state."""
    PAUSED = "paused"
    """A person stopped further starts; what runs is followed."""
    PERMITTED = "permitted"
    """The one right to send was recorded."""
    PLANNED = "planned"
    """Its turn has come; the request is frozen."""
    RECOVERED = "recovered"
    """The process that was sending is gone."""
    REFUSED = "refused"
    """The vendor said: not now; nothing was started."""
    REJECTED = "rejected"
    """The vendor said no; nothing was started."""
    RESUMED = "resumed"
    """A person let starts go on."""
    RERUN = "rerun"
    """A person asked for it to run again."""
    RETRY = "retry"
    """The retry policy allows another attempt."""
    RULE = "rule"
    """The trigger rule and the nodes upstream decide so."""
    TIMED_OUT = "timed_out"
    """A limit passed."""
    UNRESOLVED = "unresolved"
    """The settle window is over and the start's fate is not known."""


RUN_ARROWS: frozenset[tuple[RunState | None, RunState, Cause]] = frozenset(
    {
        (None, RunState.QUEUED, Cause.CREATED),
        (RunState.QUEUED, RunState.RUNNING, Cause.BEGUN),
        (RunState.QUEUED, RunState.CANCELLED, Cause.CANCELLED),
        (RunState.RUNNING, RunState.RUNNING, Cause.CANCELLED),
        (RunState.QUEUED, RunState.QUEUED, Cause.PAUSED),
        (RunState.QUEUED, RunState.QUEUED, Cause.RESUMED),
        (RunState.RUNNING, RunState.RUNNING, Cause.PAUSED),
        (RunState.RUNNING, RunState.RUNNING, Cause.RESUMED),
        (RunState.RUNNING, RunState.SUCCEEDED, Cause.DONE),
        (RunState.RUNNING, RunState.FAILED, Cause.DONE),
        (RunState.RUNNING, RunState.CANCELLED, Cause.DONE),
        (RunState.SUCCEEDED, RunState.RUNNING, Cause.RERUN),
        (RunState.FAILED, RunState.RUNNING, Cause.RERUN),
        (RunState.CANCELLED, RunState.RUNNING, Cause.RERUN),
    }
)
"""Every way in which a run may change."""

_N = NodeState
NODE_ARROWS: frozenset[tuple[NodeState, NodeState, Cause]] = frozenset(
    {
        (_N.WAITING, _N.QUEUED, Cause.RULE),
        (_N.WAITING, _N.SKIPPED, Cause.RULE),
        (_N.WAITING, _N.SKIPPED, Cause.CONDITION),
        (_N.WAITING, _N.UPSTREAM_FAILED, Cause.RULE),
        (_N.WAITING, _N.FAILED, Cause.EXPRESSION),
        (_N.WAITING, _N.WARNED, Cause.EXPRESSION),
        (_N.WAITING, _N.CANCELLED, Cause.CANCELLED),
        (_N.QUEUED, _N.RUNNING, Cause.PERMITTED),
        (_N.QUEUED, _N.RUNNING, Cause.ADOPTED),
        (_N.QUEUED, _N.RUNNING, Cause.LOST),
        (_N.QUEUED, _N.SKIPPED, Cause.BUSY),
        (_N.QUEUED, _N.FAILED, Cause.REJECTED),
        (_N.QUEUED, _N.WARNED, Cause.REJECTED),
        (_N.QUEUED, _N.RETRYING, Cause.REJECTED),
        (_N.QUEUED, _N.CANCELLED, Cause.CANCELLED),
        (_N.RUNNING, _N.QUEUED, Cause.REFUSED),
        (_N.RUNNING, _N.QUEUED, Cause.BUSY),
        (_N.RUNNING, _N.QUEUED, Cause.ABSENT),
        (_N.RUNNING, _N.HELD, Cause.UNRESOLVED),
        (_N.RUNNING, _N.SKIPPED, Cause.BUSY),
        (_N.RUNNING, _N.SUCCEEDED, Cause.OBSERVED),
        (_N.RUNNING, _N.WARNED, Cause.OBSERVED),
        (_N.RUNNING, _N.FAILED, Cause.OBSERVED),
        (_N.RUNNING, _N.CANCELLED, Cause.OBSERVED),
        (_N.RUNNING, _N.RETRYING, Cause.OBSERVED),
        (_N.RUNNING, _N.FAILED, Cause.REJECTED),
        (_N.RUNNING, _N.WARNED, Cause.REJECTED),
        (_N.RUNNING, _N.RETRYING, Cause.REJECTED),
        (_N.RUNNING, _N.FAILED, Cause.TIMED_OUT),
        (_N.RUNNING, _N.WARNED, Cause.TIMED_OUT),
        (_N.RUNNING, _N.RETRYING, Cause.TIMED_OUT),
        (_N.RUNNING, _N.RUNNING, Cause.CANCELLED),
        (_N.RUNNING, _N.CANCELLED, Cause.CANCELLED),
        (_N.HELD, _N.RUNNING, Cause.FOUND),
        (_N.HELD, _N.FAILED, Cause.GIVEN_UP),
        (_N.HELD, _N.WARNED, Cause.GIVEN_UP),
        (_N.HELD, _N.WARNED, Cause.ASSUMED),
        (_N.HELD, _N.CANCELLED, Cause.CANCELLED),
        (_N.RETRYING, _N.QUEUED, Cause.RETRY),
        (_N.RETRYING, _N.FAILED, Cause.EXPRESSION),
        (_N.RETRYING, _N.WARNED, Cause.EXPRESSION),
        (_N.RETRYING, _N.CANCELLED, Cause.CANCELLED),
    }
    | {
        (state, target, Cause.DECIDED)
        for state in NodeState
        for target in (_N.SUCCEEDED, _N.FAILED, _N.SKIPPED)
        if state not in {_N.RUNNING, target}
    }
    | {(state, _N.WAITING, Cause.RERUN) for state in (*_FINAL_NODE_STATES, _N.HELD)}
)
"""Every way in which a node may change."""

_A = AttemptState
ATTEMPT_ARROWS: frozenset[tuple[AttemptState | None, AttemptState, Cause]] = frozenset(
    {
        (None, _A.INTENDED, Cause.PLANNED),
        (_A.INTENDED, _A.SENDING, Cause.PERMITTED),
        (_A.INTENDED, _A.RUNNING, Cause.ADOPTED),
        (_A.INTENDED, _A.AMBIGUOUS, Cause.LOST),
        (_A.INTENDED, _A.ENDED, Cause.BUSY),
        (_A.INTENDED, _A.ENDED, Cause.REJECTED),
        (_A.INTENDED, _A.ENDED, Cause.CANCELLED),
        (_A.INTENDED, _A.ENDED, Cause.DECIDED),
        (_A.SENDING, _A.RUNNING, Cause.ACCEPTED),
        (_A.SENDING, _A.RUNNING, Cause.ADOPTED),
        (_A.SENDING, _A.INTENDED, Cause.REFUSED),
        (_A.SENDING, _A.INTENDED, Cause.BUSY),
        (_A.SENDING, _A.ENDED, Cause.REJECTED),
        (_A.SENDING, _A.ENDED, Cause.BUSY),
        (_A.SENDING, _A.ENDED, Cause.CANCELLED),
        (_A.SENDING, _A.AMBIGUOUS, Cause.LOST),
        (_A.SENDING, _A.AMBIGUOUS, Cause.RECOVERED),
        (_A.AMBIGUOUS, _A.RUNNING, Cause.FOUND),
        (_A.AMBIGUOUS, _A.INTENDED, Cause.ABSENT),
        (_A.AMBIGUOUS, _A.UNKNOWN, Cause.UNRESOLVED),
        (_A.AMBIGUOUS, _A.ENDED, Cause.CANCELLED),
        (_A.UNKNOWN, _A.RUNNING, Cause.FOUND),
        (_A.UNKNOWN, _A.ENDED, Cause.GIVEN_UP),
        (_A.UNKNOWN, _A.ENDED, Cause.ASSUMED),
        (_A.UNKNOWN, _A.ENDED, Cause.DECIDED),
        (_A.UNKNOWN, _A.ENDED, Cause.CANCELLED),
        (_A.RUNNING, _A.RUNNING, Cause.OBSERVED),
        (_A.RUNNING, _A.ENDED, Cause.OBSERVED),
        (_A.RUNNING, _A.ENDED, Cause.TIMED_OUT),
        (_A.RUNNING, _A.ENDED, Cause.CANCELLED),
    }
)
"""Every way in which an attempt may change. There is no arrow from `sending`, `ambiguous` or `unknown` to `sending`."""
