"""A pipeline as the core sees it: validated, compiled, immutable. Made by the loader; one per pipeline version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from conductor.core.errors import ErrorClass
from conductor.core.vendor import Capabilities, Delivery, IfRunning, Json, OnUnknown

__all__ = [
    "Backoff",
    "ConcurrencyPolicy",
    "Expression",
    "Limits",
    "NodePlan",
    "OnFailure",
    "Plan",
    "Rendered",
    "RetryPolicy",
    "ScheduleSpec",
    "Template",
    "TriggerRule",
]


class TriggerRule(StrEnum):
    """When a node may begin, judged on the nodes it depends on."""

    ALL_SUCCESS = "all_success"
    """All succeeded (warned counts as succeeded). A failure upstream makes it upstream_failed, a skip skips it."""
    ALL_DONE = "all_done"
    """All have ended, however."""
    ONE_SUCCESS = "one_success"
    """One succeeded; does not wait for the others."""
    ONE_FAILED = "one_failed"
    """One failed; does not wait for the others. Skipped when none did."""
    NONE_FAILED = "none_failed"
    """All have ended and none failed; skipped ones are fine."""
    ALL_FAILED = "all_failed"
    """All failed. Skipped when one did not."""
    ALWAYS = "always"
    """At once, whatever the others do."""


class OnFailure(StrEnum):
    """What a node's final failure means for the run."""

    FAIL = "fail"
    """The node is failed and so is the run."""
    WARN = "warn"
    """The node is warned: what depends on it goes on and the run can succeed."""
    CONTINUE = "continue"
    """The node is failed and blocks what needs its success; neither makes the run fail."""


class Backoff(StrEnum):
    """How the delay between attempts grows."""

    CONSTANT = "constant"
    """Always `delay_s`."""
    LINEAR = "linear"
    """`delay_s` times the number of failures."""
    EXPONENTIAL = "exponential"
    """`delay_s` doubled with each failure."""


class ConcurrencyPolicy(StrEnum):
    """What a new run does when as many runs of its pipeline as allowed are active."""

    QUEUE = "queue"
    """It waits in `queued`, in order of creation."""
    SKIP = "skip"
    """It ends as cancelled at once, with the reason."""
    CANCEL_OLDER = "cancel_older"
    """The oldest active runs are cancelled to make room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when a failed attempt is followed by another.

    Attributes:
        attempts: Further attempts after the first; 0 for none.
        delay_s: Base delay in seconds.
        max_delay_s: No delay is longer.
        backoff: How the delay grows.
        jitter: Fraction by which a delay is stretched at random, 0 to 1; derived from the attempt's key.
        on: The error classes that are worth another attempt.
    """

    attempts: int = 0
    delay_s: float = 30.0
    max_delay_s: float = 3600.0
    backoff: Backoff = Backoff.EXPONENTIAL
    jitter: float = 0.1
    on: frozenset[ErrorClass] = frozenset(
        {ErrorClass.TRANSIENT, ErrorClass.QUOTA, ErrorClass.TIMEOUT, ErrorClass.UNKNOWN}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long one attempt may take, in seconds; None for no limit. On passing one, the vendor is asked to cancel.

    Attributes:
        total_s: From the permit to the end; for an adopted run without one, from when it was first followed.
        queued_s: In the vendor's queue.
        running_s: Running at the vendor.
        no_progress_s: Without any sign of progress.
        cancel_grace_s: How long a cancel waits for the vendor's confirmation before the attempt ends without it.
    """

    total_s: float | None = 86_400.0
    queued_s: float | None = None
    running_s: float | None = None
    no_progress_s: float | None = None
    cancel_grace_s: float = 120.0


class Expression(Protocol):
    """A compiled, side-effect-free expression."""

    @property
    def source(self) -> str:
        """What was written, without the braces."""
        ...

    def evaluate(self, context: Mapping[str, Json]) -> Json:
        """Its value on `context`.

        Raises:
            ExpressionError: The values do not fit.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A node's `with` on the values of one run.

    Attributes:
        settings: Validated and dumped to JSON.
        scope: The object that the start will occupy; empty for none.
    """

    settings: Mapping[str, Json]
    scope: str = ""


class Template(Protocol):
    """A node's `with`, compiled."""

    @property
    def constant(self) -> Rendered | None:
        """Its value when it holds no expression, else None."""
        ...

    def render(self, context: Mapping[str, Json]) -> Rendered:
        """The settings on `context`; pure.

        Raises:
            ExpressionError: An expression fails or the result does not fit the operation's model.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One node of a pipeline, every default resolved.

    Attributes:
        id: Unique in the pipeline, `^[a-z0-9][a-z0-9_-]{0,62}$`.
        uses: `<integration>.<operation>`.
        connection: The connection's name; the integration's kind where it needs none.
        settings: The compiled `with`.
        capabilities: Of the operation, for these settings.
        depends_on: Ids, in the order written.
        trigger_rule: When it may begin.
        condition: The `if`; None for always.
        retries: Further attempts.
        limits: Time limits of one attempt.
        on_failure: What its failure means for the run.
        delivery: What to do with a start of unknown fate.
        on_unknown: What to do when it stays unknown.
        if_running: What to do when the object is busy.
        settle_window_s: How long a start may stay invisible.
        resend_limit: Further sends under `at_least_once`.
        pools: Named pools that it takes one slot of, besides its connection's.
        priority: Higher goes first when slots are short.
        description: For people.
    """

    id: str
    uses: str
    connection: str
    settings: Template
    capabilities: Capabilities
    delivery: Delivery
    if_running: IfRunning
    on_unknown: OnUnknown
    settle_window_s: float
    depends_on: tuple[str, ...] = ()
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS
    condition: Expression | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = field(default_factory=Limits)
    on_failure: OnFailure = OnFailure.FAIL
    resend_limit: int = 1
    pools: tuple[str, ...] = ()
    priority: int = 0
    description: str = ""

    @property
    def operation(self) -> str:
        """The part of `uses` after the dot."""
        return self.uses.partition(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """When a pipeline runs by the clock.

    Attributes:
        cron: Five fields.
        timezone: IANA name.
        catchup: Run every slot missed during downtime; otherwise only the newest.
        max_catchup: Never more slots than this at once; older ones are dropped and recorded.
    """

    cron: str
    timezone: str = "UTC"
    catchup: bool = False
    max_catchup: int = 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One version of a pipeline.

    Attributes:
        name: `^[a-z0-9][a-z0-9_-]{0,62}$`.
        version: A digest of `definition`, 12 hexadecimal characters.
        definition: What was written, as JSON; `loader.compile_definition` makes an equal plan of it.
        nodes: By id, in a topological order that keeps the order written.
        params: Name → declared default (None without one), after type checks.
        param_types: Name → `string`, `integer`, `number`, `boolean`, `list` or `object`; without a default, required.
        required_params: Names that a trigger must give.
        schedule: None for manual only.
        timezone: The zone of `run.date`.
        concurrency: How many runs may be active at once; None for any number.
        concurrency_policy: What a run above that number does.
        run_timeout_s: Limit for a whole run; None for none.
        priority: Of its runs.
        owner: For people.
        description: For people.
        tags: For people and filters.
        environment: What expressions see as `env`.
    """

    name: str
    version: str
    definition: Mapping[str, Json]
    nodes: Mapping[str, NodePlan]
    params: Mapping[str, Json] = field(default_factory=dict)
    param_types: Mapping[str, str] = field(default_factory=dict)
    required_params: frozenset[str] = frozenset()
    schedule: ScheduleSpec | None = None
    timezone: str = "UTC"
    concurrency: int | None = None
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.QUEUE
    run_timeout_s: float | None = None
    priority: int = 0
    owner: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    environment: str = "default"

    @cached_property
    def downstream(self) -> Mapping[str, tuple[str, ...]]:
        """Node id → the ids that depend on it directly."""
        below: dict[str, list[str]] = {node: [] for node in self.nodes}
        for node in self.nodes.values():
            for upstream in node.depends_on:
                below[upstream].append(node.id)
        return {node: tuple(ids) for node, ids in below.items()}

    def closure(self, start: str) -> tuple[str, ...]:
        """`start` and everything that depends on it, directly or not, in topological order."""
        reached = {start}
        for node in self.nodes.values():
            if any(upstream in reached for upstream in node.depends_on):
                reached.add(node.id)
        return tuple(node for node in self.nodes if node in reached)
