"""What the core knows of a vendor: references, observations, answers and capabilities. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from conductor.core.errors import ErrorInfo

__all__ = [
    "Absent",
    "Baseline",
    "CancelSupport",
    "Capabilities",
    "Correlation",
    "Delivery",
    "ExternalRef",
    "ExternalState",
    "FindAnswer",
    "FindUnknown",
    "Found",
    "Health",
    "IfRunning",
    "Json",
    "LogExcerpt",
    "Observation",
    "OnUnknown",
    "Request",
]

Json = object
"""A JSON value: None, bool, int, float, str, list or a dict with str keys."""


class Correlation(StrEnum):
    """How a start that may have happened can be recognised later. Decides what Conductor can promise."""

    KEY = "key"
    """The vendor refuses or folds a second start with our key: class A, effectively once."""
    TAG = "tag"
    """Our key comes back in the vendor's list of runs: class B+, found by tag."""
    WINDOW = "window"
    """Runs can be listed by place and time only: class B-, found if exactly one fits."""
    NONE = "none"
    """Neither: class C. At most once or at least once, by explicit choice."""


class CancelSupport(StrEnum):
    """Whether the vendor can stop a run on request."""

    CONFIRMED = "confirmed"
    """A request exists and the vendor's state shows the result."""
    NONE = "none"
    """No request exists; a cancelled node says that the vendor's run goes on."""


class Delivery(StrEnum):
    """What to do with a start whose fate cannot be learnt."""

    EFFECTIVELY_ONCE = "effectively_once"
    """Send the same key again until a definite answer; needs an integration of class key."""
    PREFER_LOOKUP = "prefer_lookup"
    """Look it up and adopt it; if it stays out of sight, never send again: hold."""
    AT_MOST_ONCE = "at_most_once"
    """Never send again, not even with the same key; look it up, else hold."""
    AT_LEAST_ONCE = "at_least_once"
    """Look it up for the settle window; if it is not seen, send once more. May start twice."""


class OnUnknown(StrEnum):
    """What a node does when a start's fate stays unknown after every look-up."""

    HOLD = "hold"
    """Hold the node and ask a person."""
    FAIL = "fail"
    """Fail the node; it is not retried by itself."""
    ASSUME_STARTED = "assume_started"
    """Go on with a warning, as if it had been started and done."""


class IfRunning(StrEnum):
    """What a node does when the vendor's object is already busy with a run that is not ours."""

    ADOPT = "adopt"
    """Follow that run as if it were ours."""
    WAIT = "wait"
    """Wait until it has ended, then start."""
    FAIL = "fail"
    """Fail the attempt."""
    SKIP = "skip"
    """Skip the node."""


class ExternalState(StrEnum):
    """What the vendor says of its run, in our words."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    WARNED = "warned"
    """Finished, with part of it not done (rejected rows, warnings)."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    VANISHED = "vanished"
    """The vendor no longer knows it, or cannot say how it ended; never a success."""
    UNRECOGNISED = "unrecognised"
    """The vendor used a word that we do not know; keep polling."""

    @property
    def is_final(self) -> bool:
        """True when the vendor will not change its mind."""
        return self in _FINAL


_FINAL = frozenset(
    {
        ExternalState.SUCCEEDED,
        ExternalState.WARNED,
        ExternalState.FAILED,
        ExternalState.CANCELLED,
        ExternalState.VANISHED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRef:
    """Our handle on one run at the vendor. Persisted; an integration can poll from it alone, after any restart.

    Attributes:
        id: The vendor's id, unique within the connection. Where the vendor gives none, one that we derive.
        data: What else `poll`, `cancel` and `logs` need (parent ids, baselines, memory between polls): small JSON.
        link: The page where a person sees this run.
    """

    id: str
    data: Mapping[str, Json] = field(default_factory=dict)
    link: str | None = None

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the vendor showed before the start; read by `prepare` and persisted before the permit.

    Attributes:
        data: What `find` and `poll` compare with later: small JSON.
        is_busy: Something is already running where we want to start; the node's `if_running` decides.
        running: The run that is in the way, when it can be followed.
    """

    data: Mapping[str, Json] = field(default_factory=dict)
    is_busy: bool = False
    running: ExternalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One attempt's start, frozen before it is sent.

    Attributes:
        key: Deterministic, at most 52 characters of `[a-z0-9-]`, holds the attempt number, unique per attempt.
        operation: The part of `uses` after the dot, such as `sync`.
        settings: The node's `with`, rendered, validated against the operation's model and dumped to JSON.
        pipeline: The pipeline's name.
        node: The node's id.
        run_id: Our run's id.
        attempt_no: 1 for the first attempt of this node in this run.
        baseline: What `prepare` answered; None before that and where the integration needs none.
        permit_at: When this send was permitted (UTC); None before that.
        resume: The ref of the failed attempt whose work this attempt shall resume; None for a full start.
    """

    key: str
    operation: str
    settings: Mapping[str, Json]
    pipeline: str = ""
    node: str = ""
    run_id: str = ""
    attempt_no: int = 1
    baseline: Baseline | None = None
    permit_at: datetime | None = None
    resume: ExternalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one poll saw of one run.

    Attributes:
        state: The vendor's state in our words.
        word: The vendor's own word, verbatim.
        message: A short human text, secrets removed.
        progress: 0.0 to 1.0 when the vendor says so.
        marker: Any text that changes whenever there is progress; unchanged for longer than the node's
            no-progress limit means stuck. Empty when the vendor shows no progress.
        started_at: When the vendor says the work began (UTC).
        ended_at: When the vendor says it ended (UTC).
        outputs: Values for downstream nodes, shaped by the operation's outputs model; set on a final state.
        error: Why it failed; set on `failed`, `vanished` and, where there are words, `warned`.
        ref: The handle to use from now on, when it changed (a new id after a vendor-side retry, memory between polls).
    """

    state: ExternalState
    word: str = ""
    message: str | None = None
    progress: float | None = None
    marker: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outputs: Mapping[str, Json] = field(default_factory=dict)
    error: ErrorInfo | None = None
    ref: ExternalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`find` recognised our run.

    Attributes:
        ref: The run.
        is_inferred: True when place and time fit and nothing else does, but no tag or key proves it.
    """

    ref: ExternalRef
    is_inferred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """`find` looked at everything down to the baseline and our run is not there (yet).

    Attributes:
        reason: What was looked at, for people.
    """

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindUnknown:
    """`find` could not tell. An error while looking is this, never `Absent`.

    Attributes:
        reason: Why, for people.
    """

    reason: str = ""


FindAnswer = Found | Absent | FindUnknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What `check` found out about a connection.

    Attributes:
        is_ok: The credentials work and the permissions suffice.
        message: What was seen, or what is wrong and what to do.
        version: The vendor's version, when it says.
    """

    is_ok: bool
    message: str
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExcerpt:
    """The vendor's own words about one run, secrets removed.

    Attributes:
        lines: The last lines, oldest first.
        is_truncated: There is more than was returned.
        link: Where to read all of it.
    """

    lines: tuple[str, ...] = ()
    is_truncated: bool = False
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one operation of an integration can do and promise. Everything that Conductor decides from, declared.

    Attributes:
        correlation: How a lost start is recognised.
        delivery: The default delivery policy.
        if_running: The default for an already busy object.
        on_unknown: The default when a start's fate stays unknown.
        needs_baseline: `prepare` must run before each start.
        cancel: Whether the vendor can stop a run.
        batch_size: How many refs one `poll` call takes; the engine never passes more.
        poll_floor_s: Never poll one run more often than this, in seconds.
        settle_window_s: How long a start may stay invisible in the vendor's lists, in seconds.
        key_ttl_s: How long the vendor remembers our key, in seconds; used only with `Correlation.KEY`.
        not_found_grace_s: How long a 404 for a run that we started means "not yet", in seconds.
        is_exclusive: Attempts on one object (same `scope`) must not overlap, or `find` could not tell them apart.
        sends_nothing: The start has no effect anywhere (sensors, gates that only read); it may be repeated at will.
        resume: A failed run can be resumed inside the tool (`Request.resume` is honoured).
        maturity: `sandboxed` or `real server`: what its tests ran against.
    """

    correlation: Correlation
    delivery: Delivery
    if_running: IfRunning = IfRunning.WAIT
    on_unknown: OnUnknown = OnUnknown.HOLD
    needs_baseline: bool = False
    cancel: CancelSupport = CancelSupport.CONFIRMED
    batch_size: int = 1
    poll_floor_s: float = 1.0
    settle_window_s: float = 120.0
    key_ttl_s: float = 3600.0
    not_found_grace_s: float = 60.0
    is_exclusive: bool = False
    sends_nothing: bool = False
    resume: bool = False
    maturity: str = "sandboxed"
