"""Tiny worlds for tests of the pure core: plans from a line, capabilities by class, a run that one drives by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from conductor.core.draft import Step
from conductor.core.errors import ErrorClass, ErrorInfo, ExpressionError
from conductor.core.events import (
    Accepted,
    Begin,
    Busy,
    CancelAnswered,
    CannotSee,
    Event,
    Lost,
    NotSeen,
    Observed,
    Permitted,
    Prepared,
    PrepareFailed,
    Refused,
    Rejected,
    Seen,
    Wake,
)
from conductor.core.owed import next_wake, outstanding
from conductor.core.plan import NodePlan, Plan, Rendered
from conductor.core.run import Attempt, NodeRun, Run, Subject, Transition, Trigger
from conductor.core.states import AttemptState, NodeState
from conductor.core.step import new_run, step
from conductor.core.vendor import (
    Baseline,
    CancelSupport,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    Json,
    Observation,
)

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

KEYED = Capabilities(correlation=Correlation.KEY, delivery=Delivery.EFFECTIVELY_ONCE)
TAGGED = Capabilities(correlation=Correlation.TAG, delivery=Delivery.PREFER_LOOKUP)
WINDOWED = Capabilities(
    correlation=Correlation.WINDOW, delivery=Delivery.PREFER_LOOKUP, needs_baseline=True, is_exclusive=True
)
BLIND = Capabilities(correlation=Correlation.NONE, delivery=Delivery.AT_MOST_ONCE)
SENSOR = Capabilities(
    correlation=Correlation.NONE,
    delivery=Delivery.AT_LEAST_ONCE,
    cancel=CancelSupport.NONE,
    sends_nothing=True,
)


class FakeTemplate:
    """A `with` that gives what it was told; with `broken_from` it fails from that attempt on."""

    def __init__(self, settings: Mapping[str, Json] | None = None, *, scope: str = "", broken_from: int = 0) -> None:
        self._rendered = Rendered(settings=settings or {}, scope=scope)
        self._broken_from = broken_from
        self.constant: Rendered | None = None if broken_from else self._rendered

    def render(self, context: Mapping[str, Json]) -> Rendered:
        run = context["run"]
        assert isinstance(run, dict)
        if run["attempt"] >= self._broken_from:
            raise ExpressionError("with.table: no such output; name one that the node has")
        return self._rendered


class EchoTemplate:
    """A `with` whose settings are what another node gave."""

    def __init__(self, source: str) -> None:
        self.constant: Rendered | None = None
        self._source = source

    def render(self, context: Mapping[str, Json]) -> Rendered:
        nodes = context["nodes"]
        assert isinstance(nodes, dict)
        return Rendered(settings=dict(nodes[self._source]["outputs"]))


class FakeExpression:
    """An `if` that gives what it was told, or fails when told an error."""

    def __init__(self, value: Json) -> None:
        self.source = "x"
        self._value = value

    def evaluate(self, context: Mapping[str, Json]) -> Json:
        if isinstance(self._value, ExpressionError):
            raise self._value
        return self._value


def node(name: str = "n", caps: Capabilities = KEYED, after: Iterable[str] = (), **changes: Any) -> NodePlan:
    """A node with every default taken from its capabilities."""
    given: dict[str, Any] = {
        "settings": FakeTemplate(),
        "delivery": caps.delivery,
        "if_running": caps.if_running,
        "on_unknown": caps.on_unknown,
        "settle_window_s": caps.settle_window_s,
    }
    return NodePlan(
        id=name, uses="fake.job", connection="fake", capabilities=caps, depends_on=tuple(after), **(given | changes)
    )


def plan(*nodes: NodePlan, **changes: Any) -> Plan:
    """A pipeline of these nodes, given in topological order."""
    return Plan(name="p", version="0" * 12, definition={}, nodes={node.id: node for node in nodes}, **changes)


def error(error_class: ErrorClass = ErrorClass.TRANSIENT, message: str = "HTTP 503") -> ErrorInfo:
    return ErrorInfo(error_class=error_class, message=message)


def ref(name: str = "r1") -> ExternalRef:
    return ExternalRef(id=name, link=f"https://vendor.example/{name}")


@dataclass(slots=True)
class World:
    """One run, its time and its journal. Every method changes them and returns the world, so that calls chain."""

    run: Run
    now: datetime
    journal: list[Transition]

    @classmethod
    def queued(cls, plan: Plan, **changes: Any) -> World:
        given: dict[str, Any] = {"run_id": "ab" * 8, "trigger": Trigger.MANUAL, "now": T0, "params": {}}
        made = new_run(plan, **(given | changes))
        return cls(run=made.run, now=T0, journal=list(made.transitions))

    @classmethod
    def begun(cls, *nodes: NodePlan, **changes: Any) -> World:
        return cls.queued(plan(*nodes, **changes)).tell(Begin())

    def try_step(self, event: Event) -> Step:
        """What the event would make of the run; the world stays as it is."""
        return step(self.run, event, self.now)

    def tell(self, *events: Event) -> World:
        for event in events:
            made = self.try_step(event)
            check_step(self.run, made)
            self.run = made.run
            self.journal.extend(made.transitions)
        return self

    def later(self, seconds: float) -> World:
        """Let time pass without a look at it."""
        self.now += timedelta(seconds=seconds)
        return self

    def wake(self, seconds: float = 0) -> World:
        return self.later(seconds).tell(Wake())

    def wake_when_due(self) -> World:
        """Let time pass until the run asks to be looked at."""
        due = next_wake(self.run)
        assert due is not None, "nothing will happen by itself"
        return self.wake(max((due - self.now).total_seconds(), 0.0))

    # The answers, always to the node's current attempt.

    def permit(self, node: str = "n") -> World:
        if self.run.plan.nodes[node].capabilities.needs_baseline and self.attempt(node).baseline is None:
            self.prepared(node)
        return self.tell(Permitted(node=node, attempt_no=self.attempt(node).no))

    def prepared(self, node: str = "n", baseline: Baseline | None = None) -> World:
        return self.tell(
            Prepared(node=node, attempt_no=self.attempt(node).no, baseline=baseline or Baseline(data={"newest": 7}))
        )

    def prepare_failed(self, node: str = "n", *, is_definite: bool = False, why: ErrorInfo | None = None) -> World:
        return self.tell(
            PrepareFailed(node=node, attempt_no=self.attempt(node).no, error=why or error(), is_definite=is_definite)
        )

    def accept(self, node: str = "n", external: str = "r1") -> World:
        return self.tell(Accepted(node=node, attempt_no=self.attempt(node).no, ref=ref(external)))

    def start(self, node: str = "n", external: str = "r1") -> World:
        return self.permit(node).accept(node, external)

    def reject(self, node: str = "n", why: ErrorInfo | None = None) -> World:
        return self.tell(Rejected(node=node, attempt_no=self.attempt(node).no, error=why or error(ErrorClass.CONFIG)))

    def refuse(self, node: str = "n", why: ErrorInfo | None = None, retry_after_s: float | None = None) -> World:
        event = Refused(node=node, attempt_no=self.attempt(node).no, error=why or error(), retry_after_s=retry_after_s)
        return self.tell(event)

    def busy(self, node: str = "n", running: ExternalRef | None = None) -> World:
        return self.tell(Busy(node=node, attempt_no=self.attempt(node).no, error=error(), running=running))

    def lose(self, node: str = "n") -> World:
        return self.tell(Lost(node=node, attempt_no=self.attempt(node).no, error=error(message="read timeout")))

    def seen(self, node: str = "n", external: str = "r1", *, is_inferred: bool = False) -> World:
        event = Seen(node=node, attempt_no=self.attempt(node).no, ref=ref(external), is_inferred=is_inferred)
        return self.tell(event)

    def not_seen(self, node: str = "n") -> World:
        return self.tell(NotSeen(node=node, attempt_no=self.attempt(node).no))

    def cannot_see(self, node: str = "n") -> World:
        return self.tell(CannotSee(node=node, attempt_no=self.attempt(node).no))

    def observe(self, state: ExternalState, node: str = "n", **changes: Any) -> World:
        observation = Observation(state=state, **changes)
        return self.tell(Observed(node=node, attempt_no=self.attempt(node).no, observation=observation))

    def cancel_answered(self, node: str = "n", why: ErrorInfo | None = None) -> World:
        return self.tell(CancelAnswered(node=node, attempt_no=self.attempt(node).no, error=why))

    def finish(self, node: str = "n", state: ExternalState = ExternalState.SUCCEEDED, **changes: Any) -> World:
        """Start the node and let the vendor end it so."""
        return self.start(node, external=f"r-{node}-{self.attempt(node).no}").observe(state, node, **changes)

    def fail(self, node: str = "n", error_class: ErrorClass = ErrorClass.DATA) -> World:
        return self.finish(node, ExternalState.FAILED, error=error(error_class, "it broke"))

    # What one sees.

    def node(self, name: str = "n") -> NodeRun:
        return self.run.nodes[name]

    def attempt(self, node: str = "n") -> Attempt:
        attempt = self.run.nodes[node].attempt
        assert attempt is not None, f"{node} has no attempt"
        return attempt

    def states(self) -> dict[str, str]:
        return {name: node.state.value for name, node in self.run.nodes.items()}

    def owed(self) -> list[str]:
        return [f"{type(effect).__name__} {effect.node}" for effect in outstanding(self.run, self.now)]

    def path(self, subject: Subject, node: str = "") -> list[str]:
        """The states that a subject went through."""
        return [row.after for row in self.journal if row.subject is subject and row.node == node]

    def attempt_path(self, node: str = "n") -> list[str]:
        return self.path(Subject.ATTEMPT, node)


def check_step(before: Run, made: Step) -> None:
    """What holds for every step, whatever the event."""
    seqs = [row.seq for row in made.transitions]
    assert seqs == list(range(before.seq + 1, before.seq + 1 + len(seqs))), "the journal has a gap"
    assert made.run.seq == before.seq + len(seqs)
    changed = {name for name, node in made.run.nodes.items() if node != before.nodes[name]}
    moved = {row.node for row in made.transitions if row.node}
    assert changed <= made.changed <= changed | moved, "a node is told to have changed and has not, or the other way"
    if made.run.state.is_final:
        assert outstanding(made.run, before.created_at + timedelta(days=3650)) == (), "an ended run owes something"
        assert next_wake(made.run) is None
        assert all(node.state.is_final for node in made.run.nodes.values())
    for node in made.run.nodes.values():
        _check_node(node)


_SHOWN = {
    AttemptState.INTENDED: NodeState.QUEUED,
    AttemptState.SENDING: NodeState.RUNNING,
    AttemptState.AMBIGUOUS: NodeState.RUNNING,
    AttemptState.RUNNING: NodeState.RUNNING,
    AttemptState.UNKNOWN: NodeState.HELD,
}


def _check_node(node: NodeRun) -> None:
    has_open_attempt = node.attempt is not None and node.attempt.outcome is None
    is_open = node.state in {NodeState.QUEUED, NodeState.RUNNING, NodeState.HELD}
    if node.attempt is not None and is_open:
        assert node.state is _SHOWN[node.attempt.state], f"{node.id} is {node.state}, its attempt {node.attempt.state}"
    assert has_open_attempt == is_open, f"{node.id} is {node.state} and its attempt is {node.attempt}"
    assert (node.ended_at is not None) == node.state.is_final
    assert (node.retry_at is not None) == (node.state is NodeState.RETRYING)
