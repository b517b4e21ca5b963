"""Every arrow of the state tables can be taken, and no event breaks a run in any state that can be reached.

Small worlds are walked through breadth first: every event in every state, states that differ only in detail once. The
walk is its own record of the arrows, so that it does not matter which other tests ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from conductor.core.errors import ConflictError, ErrorClass
from conductor.core.events import (
    Accepted,
    Begin,
    Busy,
    CancelAnswered,
    CancelNode,
    CancelRun,
    CannotSee,
    Event,
    Lost,
    Mark,
    MarkNode,
    NotSeen,
    Observed,
    Pause,
    Permitted,
    Prepared,
    PrepareFailed,
    Recovered,
    Refused,
    Rejected,
    RerunFrom,
    Resume,
    RetryFailed,
    Seen,
    SkipNode,
    Wake,
)
from conductor.core.owed import Start, next_wake, outstanding
from conductor.core.plan import Limits, OnFailure, Plan, RetryPolicy, TriggerRule
from conductor.core.run import Attempt, Run, Subject, Transition
from conductor.core.states import ATTEMPT_ARROWS, NODE_ARROWS, RUN_ARROWS, AttemptState, Cause, NodeState, RunState
from conductor.core.step import step
from conductor.core.vendor import Baseline, Delivery, ExternalState, IfRunning, Observation, OnUnknown
from tests.unit.core.worlds import (
    BLIND,
    KEYED,
    SENSOR,
    T0,
    TAGGED,
    WINDOWED,
    FakeExpression,
    FakeTemplate,
    World,
    check_step,
    error,
    node,
    plan,
    ref,
)

Arrow = tuple[Subject, str, str, Cause]

_STATES_MAX = 120
_RETRY = RetryPolicy(attempts=1, delay_s=1)
_LIMITS = Limits(total_s=600, cancel_grace_s=60)


def _worlds() -> Mapping[str, Plan]:
    """Few nodes each, so that the walk is short; together they hold every policy."""
    broken = FakeTemplate(broken_from=2)
    again = replace(TAGGED, delivery=Delivery.AT_LEAST_ONCE)
    one = {
        "key": node("n", KEYED, retries=_RETRY, limits=_LIMITS),
        "key, warn": node("n", KEYED, on_failure=OnFailure.WARN, limits=_LIMITS),
        "tag": node("n", TAGGED, limits=_LIMITS),
        "tag, again": node("n", again, retries=_RETRY, limits=_LIMITS, on_failure=OnFailure.WARN),
        "tag, gives up": node("n", TAGGED, on_unknown=OnUnknown.FAIL),
        "tag, gives up, warn": node("n", TAGGED, on_unknown=OnUnknown.FAIL, on_failure=OnFailure.WARN),
        "tag, assumes": node("n", TAGGED, on_unknown=OnUnknown.ASSUME_STARTED),
        "window, adopt": node("n", WINDOWED, if_running=IfRunning.ADOPT, limits=_LIMITS),
        "window, skip": node("n", WINDOWED, if_running=IfRunning.SKIP),
        "window, fail": node("n", WINDOWED, if_running=IfRunning.FAIL, retries=_RETRY, on_failure=OnFailure.WARN),
        "window, warn": node("n", WINDOWED, on_failure=OnFailure.WARN),
        "none": node("n", BLIND, limits=_LIMITS),
        "sensor": node("n", SENSOR, limits=_LIMITS),
        "broken later": node("n", KEYED, retries=_RETRY, settings=broken),
        "broken later, warn": node("n", KEYED, retries=_RETRY, settings=broken, on_failure=OnFailure.WARN),
        "never": node("n", condition=FakeExpression(False)),
        "broken": node("n", settings=FakeTemplate(broken_from=1)),
        "broken, warn": node("n", settings=FakeTemplate(broken_from=1), on_failure=OnFailure.WARN),
    }
    made = {name: plan(given, run_timeout_s=3000.0) for name, given in one.items()}
    made["two"] = plan(node("n", TAGGED), node("m", after=["n"]))
    made["rescue"] = plan(node("n"), node("m", after=["n"], trigger_rule=TriggerRule.ONE_FAILED))
    return made


def _answers(name: str, no: int) -> Iterator[Event]:
    at: dict[str, Any] = {"node": name, "attempt_no": no}
    yield Prepared(baseline=Baseline(), **at)
    yield Prepared(baseline=Baseline(is_busy=True, running=ref("theirs")), **at)
    yield PrepareFailed(error=error(), is_definite=True, **at)
    yield PrepareFailed(error=error(), is_definite=False, **at)
    yield Accepted(ref=ref(), **at)
    yield Rejected(error=error(), **at)
    yield Rejected(error=error(ErrorClass.CONFIG), **at)
    yield Refused(error=error(), **at)
    yield Busy(error=error(), running=ref("theirs"), **at)
    yield Lost(error=error(), **at)
    yield Seen(ref=ref(), **at)
    yield NotSeen(**at)
    yield CannotSee(**at)
    for state in ExternalState:
        yield Observed(observation=Observation(state=state, word=state.value), **at)
    yield CancelAnswered(error=error(), **at)


def _commands(name: str) -> Iterator[Event]:
    yield CancelNode(node=name)
    yield RerunFrom(node=name)
    yield RetryFailed(nodes=(name,))
    yield SkipNode(node=name, reason="r")
    yield MarkNode(node=name, state=Mark.SUCCEEDED, reason="r")
    yield MarkNode(node=name, state=Mark.FAILED, reason="r")


def _events(run: Run, now: datetime) -> Iterator[tuple[Event, datetime]]:
    """Everything that may happen next, and when."""
    anytime: list[Event] = [Begin(), Recovered(), CancelRun(), RetryFailed(), Pause(), Resume(), Wake()]
    for event in anytime:
        yield event, now
    due_at = next_wake(run, now)
    if due_at is not None:
        yield Wake(), max(due_at, now)
    for effect in outstanding(run, now):
        if isinstance(effect, Start):
            yield Permitted(node=effect.node, attempt_no=effect.attempt_no), now
    for name, seen in run.nodes.items():
        for event in _commands(name):
            yield event, now
        if seen.attempt is not None:
            for event in _answers(name, seen.attempt.no):
                yield event, now
            much_later = now + timedelta(seconds=700)
            yield NotSeen(node=name, attempt_no=seen.attempt.no), much_later
            yield CannotSee(node=name, attempt_no=seen.attempt.no), much_later


def _attempt_facts(attempt: Attempt | None, now: datetime) -> tuple[object, ...]:
    if attempt is None:
        return ()
    return (
        attempt.state,
        attempt.outcome,
        attempt.cancel_cause,
        attempt.baseline is None,
        min(attempt.send_no, 2),
        min(attempt.refusals, 1),
        attempt.settle_until is not None and attempt.settle_until <= now,
        attempt.not_before is not None and attempt.not_before > now,
        attempt.seen_state is not None and attempt.seen_state.is_final,
    )


def _facts(run: Run, now: datetime) -> object:
    """What tells two runs apart as far as the walk is concerned."""
    nodes = tuple((seen.state, min(seen.attempts, 2), _attempt_facts(seen.attempt, now)) for seen in run.nodes.values())
    return run.state, run.is_paused, run.cancel_cause, nodes


def _walk(plan: Plan) -> Iterator[Transition]:
    first = World.queued(plan)
    yield from first.journal
    queue = [(first.run, T0)]
    known = {_facts(*queue[0])}
    at = 0
    while at < len(queue) and at < _STATES_MAX:
        run, now = queue[at]
        at += 1
        for event, then in _events(run, now):
            try:
                made = step(run, event, then)
            except ConflictError:
                continue
            check_step(run, made)
            yield from made.transitions
            facts = _facts(made.run, then)
            if facts not in known:
                known.add(facts)
                queue.append((made.run, then))


@cache
def _taken() -> frozenset[Arrow]:
    return frozenset(
        (row.subject, row.before, row.after, row.cause) for made in _worlds().values() for row in _walk(made)
    )


def _named(
    subject: Subject, before: RunState | NodeState | AttemptState | None, after: str, cause: Cause
) -> tuple[Subject, str, str, Cause]:
    return subject, before.value if before is not None else "", str(after), cause


def _tables() -> frozenset[Arrow]:
    run = {_named(Subject.RUN, *arrow) for arrow in RUN_ARROWS}
    nodes = {_named(Subject.NODE, *arrow) for arrow in NODE_ARROWS}
    attempts = {_named(Subject.ATTEMPT, *arrow) for arrow in ATTEMPT_ARROWS}
    return frozenset(run | nodes | attempts)


def test_every_arrow_of_the_tables_can_be_taken() -> None:
    dead = sorted(f"{subject}: {before} → {after} ({cause})" for subject, before, after, cause in _tables() - _taken())
    assert not dead, "no event takes these arrows; remove them, or add the world that does:\n" + "\n".join(dead)


def test_no_arrow_leads_to_sending_but_a_permit_from_intended() -> None:
    into = {arrow for arrow in ATTEMPT_ARROWS if arrow[1] is AttemptState.SENDING}
    assert into == {(AttemptState.INTENDED, AttemptState.SENDING, Cause.PERMITTED)}


def test_final_states_are_left_by_a_person_only() -> None:
    for before, _, cause in NODE_ARROWS:
        assert not before.is_final or cause in {Cause.DECIDED, Cause.RERUN}
    for run, _, cause in RUN_ARROWS:
        assert run is None or not run.is_final or cause is Cause.RERUN
    assert all(before is not AttemptState.ENDED for before, _, _ in ATTEMPT_ARROWS)
