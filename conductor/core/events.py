"""What may happen to a run: answers from vendors, time, and what people ask for. A closed set."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from conductor.core.errors import ErrorInfo
from conductor.core.states import CancelCause
from conductor.core.vendor import Baseline, ExternalRef, Observation

__all__ = [
    "Accepted",
    "AttemptEvent",
    "Barred",
    "Begin",
    "Busy",
    "CancelAnswered",
    "CancelNode",
    "CancelRun",
    "CannotSee",
    "Event",
    "Lost",
    "Mark",
    "MarkNode",
    "NotSeen",
    "Observed",
    "Pause",
    "Permitted",
    "PrepareFailed",
    "Prepared",
    "Recovered",
    "Refused",
    "Rejected",
    "RerunFrom",
    "Resume",
    "RetryFailed",
    "Seen",
    "SkipNode",
    "Wake",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """The pipeline's concurrency allows the queued run to begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Time has passed: retries, limits and grace periods are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """The process that owned the run is gone; what it was sending is ambiguous."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The baseline was read."""

    node: str
    attempt_no: int
    baseline: Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareFailed:
    """The baseline could not be read, or shows that a start is pointless (`is_definite`)."""

    node: str
    attempt_no: int
    error: ErrorInfo
    is_definite: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """Its connection has been stopped for too long (bad credentials, a missing secret); nothing was sent."""

    node: str
    attempt_no: int
    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """The attempt may be sent, once. Committed before the send."""

    node: str
    attempt_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The vendor answered the start with a run."""

    node: str
    attempt_no: int
    ref: ExternalRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The vendor said no for good; nothing was started."""

    node: str
    attempt_no: int
    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The vendor said not now, or was never reached; nothing was started."""

    node: str
    attempt_no: int
    error: ErrorInfo
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The vendor said that something else is running there; nothing was started."""

    node: str
    attempt_no: int
    error: ErrorInfo
    running: ExternalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The start's answer is lost or unclear."""

    node: str
    attempt_no: int
    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look-up recognised our start."""

    node: str
    attempt_no: int
    ref: ExternalRef
    is_inferred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSeen:
    """A complete look-up did not show our start."""

    node: str
    attempt_no: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotSee:
    """A look-up could not tell."""

    node: str
    attempt_no: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A poll saw the vendor's run."""

    node: str
    attempt_no: int
    observation: Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswered:
    """The vendor took the request to cancel, or (`error`) did not."""

    node: str
    attempt_no: int
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun:
    """Stop the run: nothing more is started, what runs is cancelled at the vendor."""

    cause: CancelCause = CancelCause.USER
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelNode:
    """Stop one node."""

    node: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryFailed:
    """Run failed and cancelled nodes again, and what they blocked. Empty `nodes` means all of them."""

    nodes: tuple[str, ...] = ()
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunFrom:
    """Run a node again, and everything that depends on it."""

    node: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipNode:
    """Do not run a node (any more)."""

    node: str
    reason: str
    actor: str = ""


class Mark(StrEnum):
    """What a person may declare a node to be."""

    SUCCEEDED = "succeeded"
    """It is done, whatever we know."""
    FAILED = "failed"
    """It is not done, whatever we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkNode:
    """Declare how a node ended."""

    node: str
    state: Mark
    reason: str
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Start nothing more in this run; follow what runs."""

    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Start things again."""

    actor: str = ""


AttemptEvent = (
    Prepared
    | PrepareFailed
    | Barred
    | Permitted
    | Accepted
    | Rejected
    | Refused
    | Busy
    | Lost
    | Seen
    | NotSeen
    | CannotSee
    | Observed
    | CancelAnswered
)

Event = (
    AttemptEvent
    | Begin
    | Wake
    | Recovered
    | CancelRun
    | CancelNode
    | RetryFailed
    | RerunFrom
    | SkipNode
    | MarkNode
    | Pause
    | Resume
)
