"""What people may ask of a run: it happens whole or is refused with the way out, and nothing starts unasked."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from conductor.core.errors import ConflictError, ErrorClass, NotFoundError
from conductor.core.events import (
    Begin,
    CancelNode,
    CancelRun,
    Event,
    Mark,
    MarkNode,
    Pause,
    RerunFrom,
    Resume,
    RetryFailed,
    SkipNode,
)
from conductor.core.plan import NodePlan, OnFailure, RetryPolicy, TriggerRule
from conductor.core.run import Subject
from conductor.core.states import AttemptState, CancelCause, NodeState, Outcome, RunState
from conductor.core.vendor import ExternalState
from tests.unit.core.worlds import TAGGED, FakeExpression, World, node, plan

_N = NodeState


def _chain() -> World:
    """a → b → c, begun."""
    return World.begun(node("a"), node("b", after=["a"]), node("c", after=["b"]))


def _refused(world: World, event: Event, words: str) -> None:
    before = world.run
    with pytest.raises(ConflictError, match=words):
        world.tell(event)
    assert world.run is before


def _skip(name: str) -> SkipNode:
    return SkipNode(node=name, reason="not today", actor="ana")


def _mark(name: str, state: Mark = Mark.SUCCEEDED) -> MarkNode:
    return MarkNode(node=name, state=state, reason="loaded by hand", actor="ana")


# --- cancel ---


def test_a_queued_run_is_cancelled_at_once_with_all_its_nodes() -> None:
    world = World.queued(plan(node("a"), node("b", after=["a"]))).tell(CancelRun(actor="ana"))
    assert (world.run.state, world.states()) == (RunState.CANCELLED, {"a": "cancelled", "b": "cancelled"})
    assert world.journal[-1].detail == {"by": "user", "actor": "ana", "reason": ""}


@pytest.mark.parametrize("first", [_skip("a"), _mark("a"), CancelNode(node="a")], ids=["skip", "mark", "cancel"])
def test_a_queued_run_can_be_cancelled_after_a_decision_about_a_node(first: Event) -> None:
    world = World.queued(plan(node("a"), node("b", after=["a"]))).tell(first).tell(CancelRun())
    assert world.run.state is RunState.CANCELLED


def test_a_running_run_is_cancelled_when_the_vendor_confirms_the_last_of_it() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("c"), node("d", retries=RetryPolicy(attempts=1)))
    world.start("a").fail("d", ErrorClass.TRANSIENT).tell(CancelRun(actor="ana", reason="wrong day"))
    assert world.states() == {"a": "running", "b": "cancelled", "c": "cancelled", "d": "cancelled"}
    assert world.owed() == ["Poll a", "Cancel a"]
    world.observe(ExternalState.CANCELLED, "a")
    assert (world.run.state, world.run.reason) == (RunState.CANCELLED, "wrong day")


def test_a_cancelled_run_is_cancelled_even_if_its_last_node_succeeds_or_fails() -> None:
    for state in (ExternalState.SUCCEEDED, ExternalState.FAILED):
        world = World.begun(node("a")).start("a").tell(CancelRun()).observe(state, "a")
        assert (world.run.state, world.node("a").state.value) == (RunState.CANCELLED, state.value)


def test_clean_up_does_not_begin_in_a_run_that_is_being_cancelled() -> None:
    world = World.begun(node("a"), node("z", after=["a"], trigger_rule=TriggerRule.ALL_DONE))
    world.start("a").tell(CancelRun()).observe(ExternalState.CANCELLED, "a")
    assert world.states() == {"a": "cancelled", "z": "cancelled"}


def test_the_concurrency_policy_cancels_like_a_person_and_says_so() -> None:
    world = World.begun(node("a")).start("a").tell(CancelRun(cause=CancelCause.CONCURRENCY))
    world.observe(ExternalState.CANCELLED, "a")
    assert (world.run.state, world.run.reason) == (RunState.CANCELLED, "cancelled by concurrency")
    assert world.attempt("a").cancel_cause is CancelCause.CONCURRENCY


def test_what_has_ended_cannot_be_cancelled() -> None:
    world = _chain().finish("a")
    _refused(world, CancelNode(node="a"), "has ended")
    world.finish("b").finish("c")
    _refused(world, CancelRun(), "has ended")


def test_a_node_that_waits_is_cancelled_with_what_needs_it() -> None:
    world = _chain().tell(CancelNode(node="b", actor="ana", reason="no"))
    assert world.states() == {"a": "queued", "b": "cancelled", "c": "upstream_failed"}
    assert world.finish("a").run.state is RunState.FAILED


def test_nothing_begins_in_a_queued_run_whatever_is_decided_about_its_nodes() -> None:
    nodes = (node("a"), node("b", after=["a"], trigger_rule=TriggerRule.ALL_DONE), node("c", after=["a"]))
    for decision in (_skip("a"), _mark("a"), CancelNode(node="a")):
        world = World.queued(plan(*nodes)).tell(decision)
        assert world.states() | {"a": ""} == {"a": "", "b": "waiting", "c": "waiting"}
        assert "Start b" in world.tell(Begin()).owed()


# --- pause ---


def test_a_paused_run_starts_nothing_and_follows_what_runs() -> None:
    world = World.begun(node("a"), node("b"), node("c", after=["b"])).start("a").start("b").tell(Pause())
    world.observe(ExternalState.SUCCEEDED, "b")
    assert world.owed() == ["Poll a"]
    assert world.node("c").state is _N.QUEUED
    assert world.tell(Resume()).owed() == ["Poll a", "Start c"]


def test_pausing_twice_changes_nothing_and_an_ended_run_cannot_be_paused() -> None:
    world = World.begun(node("a")).tell(Pause())
    assert world.try_step(Pause()).run is world.run
    world.tell(Resume()).finish("a")
    _refused(world, Pause(), "has ended")
    _refused(world, Resume(), "has ended")


def test_a_queued_run_may_be_paused_before_it_begins() -> None:
    world = World.queued(plan(node("a"))).tell(Pause(), Begin())
    assert (world.run.state, world.owed()) == (RunState.RUNNING, [])


# --- retry ---


def test_retry_failed_runs_failures_and_what_they_blocked_and_nothing_else() -> None:
    world = World.begun(node("x"), node("a"), node("b", after=["a", "x"]), node("c", after=["b"]))
    world.finish("x").fail("a").tell(RetryFailed(actor="ana"))
    assert world.states() == {"x": "succeeded", "a": "queued", "b": "waiting", "c": "waiting"}
    assert (world.run.state, world.run.ended_at, world.run.reason) == (RunState.RUNNING, None, "")
    world.finish("a").finish("b").finish("c")
    assert world.run.state is RunState.SUCCEEDED
    assert world.path(Subject.RUN) == ["queued", "running", "failed", "running", "succeeded"]


def test_a_retry_by_a_person_gives_the_whole_budget_again_and_keeps_counting_attempts() -> None:
    world = World.begun(node(retries=RetryPolicy(attempts=1)))
    for _ in range(2):
        world.fail(error_class=ErrorClass.TRANSIENT).wake_when_due().fail(error_class=ErrorClass.TRANSIENT)
        assert world.run.state is RunState.FAILED
        world.tell(RetryFailed())
    assert world.attempt().no == 5
    keys = {row.detail["key"] for row in world.journal if row.after == "intended" and "key" in row.detail}
    assert len(keys) == 5


def test_a_cancelled_run_can_be_taken_up_again() -> None:
    world = _chain().finish("a").tell(CancelRun()).tell(RetryFailed())
    assert world.states() == {"a": "succeeded", "b": "queued", "c": "waiting"}
    assert (world.run.state, world.run.cancel_cause) == (RunState.RUNNING, None)


def test_the_run_s_limit_counts_anew_after_a_retry() -> None:
    world = World.begun(node("a"), run_timeout_s=100.0).later(90).fail("a").later(90).tell(RetryFailed()).wake()
    assert world.run.state is RunState.RUNNING


def test_a_held_node_is_retried_as_a_person_decides() -> None:
    world = World.begun(node("n", TAGGED)).permit().lose().later(120).not_seen().tell(RetryFailed(nodes=("n",)))
    assert (world.attempt().no, world.attempt().state, world.node().state) == (2, AttemptState.INTENDED, _N.QUEUED)
    assert world.attempt_path() == ["intended", "sending", "ambiguous", "unknown", "ended", "intended"]


def test_a_retry_is_refused_where_nothing_failed() -> None:
    world = _chain()
    _refused(world, RetryFailed(), "no failed, cancelled or held node")
    _refused(world, RetryFailed(nodes=("a",)), "use rerun instead")
    with pytest.raises(NotFoundError, match="its nodes are a, b, c"):
        world.tell(RetryFailed(nodes=("nope",)))


def test_nothing_can_be_taken_up_again_while_the_run_is_being_cancelled() -> None:
    world = World.begun(node("a"), node("b"), node("c", after=["b"])).start("a").fail("b").tell(CancelRun())
    for event in (RetryFailed(nodes=("b",)), RerunFrom(node="b"), RetryFailed()):
        _refused(world, event, "being cancelled")


def test_deciding_about_a_node_starts_nothing_while_the_run_is_being_cancelled() -> None:
    world = World.begun(node("a"), node("b"), node("c", after=["b"]), node("d", after=["b"])).start("a")
    world.tell(CancelNode(node="d")).fail("b").tell(CancelRun()).tell(_mark("b"))
    assert world.owed() == ["Poll a", "Cancel a"]
    assert world.node("b").state is _N.SUCCEEDED


def test_a_run_that_has_not_begun_has_nothing_to_run_again() -> None:
    world = World.queued(plan(node("a"))).tell(_skip("a"))
    _refused(world, RerunFrom(node="a"), "not begun")


# --- rerun ---


def test_rerun_sets_a_node_and_everything_below_it_back() -> None:
    world = _chain().finish("a").finish("b", outputs={"x": 1}).finish("c").tell(RerunFrom(node="b"))
    assert world.states() == {"a": "succeeded", "b": "queued", "c": "waiting"}
    assert (world.node("b").outputs, world.node("b").ended_at) == ({}, None)
    assert world.finish("b").finish("c").run.state is RunState.SUCCEEDED


def test_rerun_is_refused_while_something_below_is_going_on() -> None:
    world = _chain().finish("a").start("b")
    _refused(world, RerunFrom(node="a"), "b is running: cancel it first")


def test_rerun_does_not_mind_nodes_that_wait_after_an_earlier_rerun() -> None:
    world = World.begun(node("a"), node("b"), node("c", after=["a", "b"])).finish("a").finish("b").finish("c")
    world.tell(RerunFrom(node="a")).tell(RerunFrom(node="b"))
    assert world.states() == {"a": "queued", "b": "queued", "c": "waiting"}


def test_rerun_from_a_held_node_closes_its_unknown_start() -> None:
    world = World.begun(node("n", TAGGED)).permit().lose().later(120).not_seen().tell(RerunFrom(node="n"))
    assert (world.attempt().no, world.node().state) == (2, _N.QUEUED)


def test_a_rerun_judges_the_rules_anew() -> None:
    world = World.begun(node("a"), node("b", after=["a"])).fail("a").tell(RerunFrom(node="b"))
    assert world.states() == {"a": "failed", "b": "upstream_failed"}
    assert world.run.state is RunState.FAILED


@pytest.mark.parametrize("order", [("h1", "h2", "h3"), ("h3", "h1", "h2")])
def test_the_journal_of_a_retry_is_in_the_plan_s_order(order: Iterable[str]) -> None:
    world = World.begun(*(node(name, TAGGED) for name in ("h1", "h2", "h3")))
    for name in ("h1", "h2", "h3"):
        world.permit(name).lose(name)
    world.later(120)
    for name in ("h1", "h2", "h3"):
        world.not_seen(name)
    rows = world.try_step(RetryFailed(nodes=tuple(order))).transitions
    assert [row.node for row in rows if row.after == "ended"] == ["h1", "h2", "h3"]


# --- skip and mark ---


@pytest.mark.parametrize("event", [SkipNode(node="a", reason=" "), MarkNode(node="a", state=Mark.FAILED, reason="")])
def test_a_decision_needs_a_reason(event: Event) -> None:
    _refused(_chain(), event, "reason is needed")


def test_a_running_node_is_not_decided_about() -> None:
    world = _chain().start("a")
    _refused(world, _skip("a"), "is running: cancel it first")
    _refused(world, _mark("a"), "is running: cancel it first")


def test_the_same_decision_twice_is_refused() -> None:
    _refused(_chain().finish("a"), _mark("a"), "is succeeded already")


def test_an_unknown_node_is_named_with_those_that_exist() -> None:
    for event in (CancelNode(node="q"), RerunFrom(node="q"), _skip("q"), _mark("q")):
        with pytest.raises(NotFoundError, match="its nodes are a, b, c"):
            _chain().tell(event)


def test_a_skipped_node_skips_what_needs_it_and_the_reason_is_kept() -> None:
    world = _chain().tell(_skip("a"))
    assert world.states() == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert world.node("a").reason == "not today (ana)"
    assert (world.attempt("a").outcome, world.run.state) == (Outcome.CANCELLED, RunState.SUCCEEDED)


def test_a_held_node_that_a_person_decides_about_closes_its_start_as_unresolved() -> None:
    for event, state in ((_skip("n"), _N.SKIPPED), (_mark("n"), _N.SUCCEEDED), (_mark("n", Mark.FAILED), _N.FAILED)):
        world = World.begun(node("n", TAGGED)).permit().lose().later(120).not_seen().tell(event)
        assert (world.node().state, world.attempt().outcome) == (state, Outcome.UNRESOLVED)


def test_a_start_that_waits_to_send_its_key_again_is_closed_as_unresolved() -> None:
    world = World.begun(node()).permit().lose().not_seen().tell(_mark("n"))
    assert (world.node().state, world.attempt().outcome) == (_N.SUCCEEDED, Outcome.UNRESOLVED)


def test_marking_a_failure_as_done_runs_what_it_blocked() -> None:
    world = _chain().fail("a").tell(_mark("a"))
    assert world.states() == {"a": "succeeded", "b": "queued", "c": "waiting"}
    assert world.run.state is RunState.RUNNING
    assert world.finish("b").finish("c").run.state is RunState.SUCCEEDED


def test_marking_the_last_failure_as_done_makes_the_run_succeed() -> None:
    world = World.begun(node("a"), node("b")).finish("a").fail("b").tell(_mark("b"))
    assert (world.run.state, world.run.reason) == (RunState.SUCCEEDED, "")


def test_skipping_the_last_failure_makes_the_run_succeed() -> None:
    world = World.begun(node("a")).fail("a").tell(_skip("a"))
    assert world.run.state is RunState.SUCCEEDED


def test_marking_a_success_as_failed_makes_the_run_fail() -> None:
    world = _chain().finish("a").finish("b").finish("c").tell(_mark("c", Mark.FAILED))
    assert (world.run.state, world.run.reason) == (RunState.FAILED, "c failed: loaded by hand (ana)")


def test_a_cancelled_run_stays_cancelled_when_a_decision_leaves_nothing_to_run() -> None:
    world = World.begun(node("a")).tell(CancelRun()).tell(_mark("a"))
    assert world.run.state is RunState.CANCELLED


def test_marking_a_node_as_failed_blocks_what_waits_for_it() -> None:
    world = _chain().tell(_mark("a", Mark.FAILED))
    assert world.states() == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed"}


def test_a_retrying_node_can_be_decided_about() -> None:
    world = World.begun(node(retries=RetryPolicy(attempts=1))).fail(error_class=ErrorClass.TRANSIENT).tell(_skip("n"))
    assert (world.node().state, world.node().retry_at) == (_N.SKIPPED, None)


def test_every_decision_is_in_the_journal_with_who_and_why() -> None:
    world = _chain().tell(_skip("a"))
    row = next(row for row in world.journal if row.node == "a" and row.after == "skipped")
    assert row.detail == {"actor": "ana", "reason": "not today"}


def _diamond(on_failure: OnFailure) -> tuple[NodePlan, ...]:
    return (
        node("a"),
        node("b", after=["a"], on_failure=on_failure),
        node("c", after=["a"]),
        node("d", after=["b", "c"]),
    )


def test_a_retry_judges_conditions_below_anew() -> None:
    world = World.begun(node("a"), node("b", after=["a"], condition=FakeExpression(False))).fail("a")
    assert world.tell(RetryFailed()).finish("a").states() == {"a": "succeeded", "b": "skipped"}


def test_a_failure_in_one_arm_leaves_the_other_arm_alone() -> None:
    world = World.begun(*_diamond(OnFailure.CONTINUE)).finish("a").finish("c").fail("b")
    assert (world.node("d").state, world.run.state) == (_N.UPSTREAM_FAILED, RunState.SUCCEEDED)
    assert world.tell(RetryFailed()).finish("b").finish("d").run.state is RunState.SUCCEEDED
    assert world.node("c").attempts == 1
