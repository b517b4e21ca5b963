"""How attempts end: cancels, limits and retries, each with its own cause, and never a verdict before the vendor's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conductor.core.errors import ErrorClass
from conductor.core.events import CancelNode, CancelRun, Pause, Resume, Wake
from conductor.core.node import retry_delay_s
from conductor.core.owed import next_wake
from conductor.core.plan import Backoff, Limits, OnFailure, RetryPolicy
from conductor.core.states import AttemptState, CancelCause, NodeState, Outcome, RunState
from conductor.core.vendor import Baseline, Capabilities, Delivery, ExternalRef, ExternalState, IfRunning
from tests.unit.core.worlds import BLIND, KEYED, SENSOR, TAGGED, WINDOWED, FakeTemplate, World, error, node, ref

_A = AttemptState
_N = NodeState
_RETRIES = RetryPolicy(attempts=2, delay_s=10, jitter=0.0)
_CANCEL = CancelNode(node="n", actor="ana", reason="wrong table")


def _world(caps: Capabilities = KEYED, **changes: Any) -> World:
    return World.begun(node("n", caps, **changes))


# --- cancels ---


@pytest.mark.parametrize(
    "world",
    [
        _world(),
        _world(WINDOWED).prepared(),
        _world().permit().refuse(),
        _world(TAGGED).permit().lose().later(120).not_seen(),
        _world(retries=_RETRIES).fail(error_class=ErrorClass.TRANSIENT),
    ],
    ids=["intended", "prepared", "refused", "held", "retrying"],
)
def test_what_is_not_at_the_vendor_is_cancelled_at_once(world: World) -> None:
    world.tell(_CANCEL)
    assert (world.node().state, world.attempt().state, world.owed()) == (_N.CANCELLED, _A.ENDED, [])
    assert world.run.state is RunState.FAILED


def test_a_cancel_while_sending_waits_for_the_answer_and_then_asks_the_vendor() -> None:
    world = _world().permit().tell(_CANCEL)
    assert (world.attempt().state, world.owed()) == (_A.SENDING, [])
    world.accept()
    assert world.owed() == ["Poll n", "Cancel n"]
    world.observe(ExternalState.CANCELLED)
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)


@pytest.mark.parametrize("answer", ["refused", "busy", "rejected"])
def test_a_cancel_while_sending_ends_it_when_nothing_was_started(answer: str) -> None:
    world = _world(retries=_RETRIES).permit().tell(_CANCEL)
    match answer:
        case "refused":
            world.refuse()
        case "busy":
            world.busy()
        case _:
            world.reject(why=error(ErrorClass.TRANSIENT))
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)


def test_a_cancel_while_ambiguous_cancels_what_is_found() -> None:
    world = _world(TAGGED).permit().lose().tell(_CANCEL).seen()
    assert world.owed() == ["Poll n", "Cancel n"]


@pytest.mark.parametrize("caps", [KEYED, TAGGED, BLIND], ids=["key", "tag", "none"])
def test_a_cancel_while_ambiguous_ends_when_nothing_is_found_and_never_sends_again(caps: Capabilities) -> None:
    world = _world(caps, delivery=caps.delivery).permit().lose().tell(_CANCEL).not_seen()
    assert world.attempt().state is _A.AMBIGUOUS
    world.later(120).not_seen()
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)
    assert "not known" in str(world.node().error)


def test_a_cancel_while_the_same_key_waits_to_be_sent_again_looks_for_the_first_send() -> None:
    world = _world().permit().lose().not_seen().tell(_CANCEL)
    assert (world.attempt().state, world.node().state, world.owed()) == (_A.AMBIGUOUS, _N.RUNNING, ["Find n"])
    assert world.seen().owed() == ["Poll n", "Cancel n"]


@pytest.mark.parametrize("answer", ["refused", "rejected", "busy"])
def test_a_cancel_during_the_second_send_looks_for_the_first(answer: str) -> None:
    world = _world().permit().lose().not_seen().wake_when_due().permit().tell(_CANCEL)
    match answer:
        case "refused":
            world.refuse()
        case "busy":
            world.busy()
        case _:
            world.reject()
    assert (world.attempt().state, world.owed()) == (_A.AMBIGUOUS, ["Find n"])


def test_the_vendor_is_asked_to_cancel_until_its_state_shows_it() -> None:
    world = _world().start().tell(_CANCEL)
    waits = []
    for _ in range(5):
        asked_at = world.now
        assert "Cancel n" in world.owed()
        world.cancel_answered()
        assert "Cancel n" not in world.owed()
        waits.append((world.wake_when_due().now - asked_at).total_seconds())
    assert waits == [5, 10, 20, 40, 45]
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)
    assert "did not confirm" in str(world.node().error)


def test_the_grace_of_a_cancel_counts_from_when_the_vendor_could_be_asked() -> None:
    world = _world().permit().tell(_CANCEL).later(500).accept().wake()
    assert world.attempt().state is _A.RUNNING
    assert world.wake(120).attempt().state is _A.ENDED


def test_a_vendor_that_cannot_cancel_is_watched_for_the_grace() -> None:
    world = _world(SENSOR).start().tell(_CANCEL)
    assert world.owed() == ["Poll n"]
    world.wake_when_due()
    assert world.node().state is _N.CANCELLED
    assert "no way to cancel" in str(world.node().error)


@pytest.mark.parametrize("state", [ExternalState.SUCCEEDED, ExternalState.WARNED])
def test_a_run_that_was_done_before_the_cancel_is_done(state: ExternalState) -> None:
    world = _world().start().tell(_CANCEL).observe(state)
    assert world.node().state.value == state.value


@pytest.mark.parametrize("state", [ExternalState.FAILED, ExternalState.VANISHED])
@pytest.mark.parametrize("caps", [KEYED, SENSOR], ids=["key", "sensor"])
def test_what_a_person_cancelled_is_never_retried_whatever_the_vendor_calls_it(
    state: ExternalState, caps: Capabilities
) -> None:
    world = _world(caps, retries=_RETRIES).start().tell(_CANCEL).later(60).observe(state, error=error())
    assert world.node().state is _N.FAILED


def test_a_cancel_by_a_person_outranks_a_limit_that_passed_before() -> None:
    world = _world(retries=_RETRIES, limits=Limits(total_s=60)).start().wake(60).tell(_CANCEL)
    world.observe(ExternalState.CANCELLED)
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)


def test_cancelling_twice_changes_nothing() -> None:
    world = _world().start().tell(_CANCEL).cancel_answered().later(2)
    assert world.try_step(_CANCEL).run is world.run


def test_a_cancel_at_the_vendor_is_told_apart_and_not_retried() -> None:
    world = _world(retries=_RETRIES).start().observe(ExternalState.CANCELLED)
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)
    assert world.node().reason == "cancelled at the vendor, not by Conductor"
    assert world.run.state is RunState.FAILED


# --- limits ---


_LIMITS: list[tuple[Limits, ExternalState | None, str]] = [
    (Limits(total_s=60), None, "longer than 1m"),
    (Limits(total_s=60), ExternalState.RUNNING, "longer than 1m"),
    (Limits(queued_s=60), ExternalState.QUEUED, "queued at the vendor for 1m"),
    (Limits(running_s=60), ExternalState.RUNNING, "running for longer than 1m"),
    (Limits(no_progress_s=60), ExternalState.RUNNING, "no sign of progress for 1m"),
]


@pytest.mark.parametrize(("limits", "state", "why"), _LIMITS)
def test_a_passed_limit_asks_the_vendor_to_cancel_and_says_which(
    limits: Limits, state: ExternalState | None, why: str
) -> None:
    world = _world(limits=limits).start()
    if state is not None:
        world.observe(state)
    world.wake(59)
    assert world.attempt().cancel_cause is None
    assert world.wake_when_due().owed() == ["Poll n", "Cancel n"]
    assert world.attempt().cancel_cause is CancelCause.TIMEOUT
    world.observe(ExternalState.CANCELLED)
    assert (world.attempt().outcome, world.node().state) == (Outcome.TIMED_OUT, _N.FAILED)
    trouble = world.node().error
    assert trouble is not None
    assert trouble.error_class is ErrorClass.TIMEOUT
    assert why in trouble.message


def test_a_limit_in_the_queue_does_not_count_the_work() -> None:
    world = _world(limits=Limits(queued_s=60)).start().observe(ExternalState.QUEUED).later(50)
    world.observe(ExternalState.RUNNING).wake(3600)
    assert world.attempt().cancel_cause is None


def test_a_limit_of_work_counts_from_the_vendor_s_own_start() -> None:
    world = _world(limits=Limits(running_s=60)).start()
    world.later(30).observe(ExternalState.RUNNING, started_at=world.now - timedelta(seconds=20)).wake(40)
    assert world.attempt().cancel_cause is CancelCause.TIMEOUT


@pytest.mark.parametrize("change", [{"marker": "b"}, {"progress": 0.5}])
def test_any_progress_gives_new_time(change: dict[str, Any]) -> None:
    world = _world(limits=Limits(no_progress_s=60)).start().observe(ExternalState.RUNNING, marker="a")
    world.later(50).observe(ExternalState.RUNNING, **({"marker": "a"} | change)).wake(50)
    assert world.attempt().cancel_cause is None
    assert world.wake(10).attempt().cancel_cause is CancelCause.TIMEOUT


def test_a_run_that_was_adopted_has_its_limit_too() -> None:
    world = _world(WINDOWED, if_running=IfRunning.ADOPT, limits=Limits(total_s=60))
    world.prepared(baseline=Baseline(is_busy=True, running=ref())).wake_when_due()
    assert world.attempt().cancel_cause is CancelCause.TIMEOUT


@pytest.mark.parametrize("state", [ExternalState.SUCCEEDED, ExternalState.WARNED])
def test_a_last_look_that_sees_success_beats_the_limit(state: ExternalState) -> None:
    world = _world(limits=Limits(total_s=60)).start().wake(60).cancel_answered().observe(state)
    assert world.node().state.value == state.value
    assert world.node().reason == ""


def test_the_words_of_a_limit_survive_what_the_cancel_says() -> None:
    world = _world(limits=Limits(total_s=60), retries=_RETRIES).start().wake(60)
    world.cancel_answered(why=error(ErrorClass.AUTH, "403")).observe(ExternalState.CANCELLED)
    trouble = world.node().error
    assert trouble is not None
    assert (trouble.error_class, trouble.detail) == (ErrorClass.TIMEOUT, "403")
    assert "longer than" in trouble.message
    assert world.node().state is _N.RETRYING


@pytest.mark.parametrize("has_been_seen", [True, False])
def test_a_timed_out_run_that_may_still_go_on_is_not_retried(has_been_seen: bool) -> None:
    world = _world(limits=Limits(total_s=60), retries=_RETRIES).start()
    if has_been_seen:
        world.observe(ExternalState.RUNNING)
    world.wake(60).cancel_answered(why=error()).wake(120)
    assert (world.attempt().outcome, world.node().state) == (Outcome.TIMED_OUT, _N.FAILED)
    assert "may go on there" in world.node().reason
    assert "longer than" in world.node().reason


@pytest.mark.parametrize("caps", [replace(TAGGED, delivery=Delivery.AT_LEAST_ONCE), SENSOR], ids=["again", "sensor"])
def test_a_timed_out_run_that_may_start_twice_is_retried_even_if_it_may_go_on(caps: Capabilities) -> None:
    world = _world(caps, limits=Limits(total_s=60), retries=_RETRIES).start().wake(60).wake(120)
    assert world.node().state is _N.RETRYING


def test_a_timed_out_run_that_the_vendor_stopped_is_retried() -> None:
    world = _world(limits=Limits(total_s=60), retries=_RETRIES).start().wake(60).observe(ExternalState.CANCELLED)
    assert world.node().state is _N.RETRYING


# --- the run's own limit ---


def test_the_run_s_limit_stops_everything_and_fails_the_run() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("c"), run_timeout_s=100.0)
    world.start("a").observe(ExternalState.RUNNING, "a").wake(99)
    assert world.owed() == ["Poll a", "Start c"]
    world.wake_when_due()
    assert world.run.cancel_cause is CancelCause.RUN_TIMEOUT
    assert world.states() == {"a": "running", "b": "cancelled", "c": "cancelled"}
    world.observe(ExternalState.CANCELLED, "a")
    assert (world.run.state, world.run.reason) == (RunState.FAILED, "the run's time limit passed")
    assert world.attempt("a").outcome is Outcome.TIMED_OUT
    assert "run's time limit" in world.node("a").reason


def test_the_run_s_limit_is_named_when_nobody_confirms_the_cancel() -> None:
    world = World.begun(node(), run_timeout_s=100.0).permit().wake(100).accept().wake(120)
    assert "run's time limit" in world.node().reason
    assert world.run.state is RunState.FAILED


def test_the_run_s_limit_ends_what_is_held() -> None:
    world = World.begun(node("n", TAGGED), run_timeout_s=500.0).permit().lose().later(120).not_seen()
    world.wake(380)
    assert (world.node().state, world.run.state) == (_N.CANCELLED, RunState.FAILED)


# --- retries ---


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_only_classes_that_may_heal_are_retried(error_class: ErrorClass) -> None:
    world = _world(retries=_RETRIES).fail(error_class=error_class)
    heals = error_class in {ErrorClass.TRANSIENT, ErrorClass.QUOTA, ErrorClass.TIMEOUT, ErrorClass.UNKNOWN}
    assert world.node().state is (_N.RETRYING if heals else _N.FAILED)


def test_a_failure_without_a_reason_counts_as_unknown() -> None:
    world = _world(retries=_RETRIES).finish(state=ExternalState.FAILED)
    assert world.node().state is _N.RETRYING
    assert world.node().reason == "the vendor gave no reason"


def test_each_retry_is_a_new_attempt_with_its_own_key_until_the_budget_is_spent() -> None:
    world = _world(retries=_RETRIES)
    keys = set()
    for no in (1, 2, 3):
        assert (world.attempt().no, world.attempt().state) == (no, _A.INTENDED)
        keys.add(world.attempt().key)
        world.fail(error_class=ErrorClass.TRANSIENT)
        if no < 3:
            assert world.node().state is _N.RETRYING
            world.wake_when_due()
    assert (len(keys), world.node().state, world.node().attempts) == (3, _N.FAILED, 3)


def test_a_rejected_start_is_retried_when_its_class_may_heal() -> None:
    world = _world(retries=_RETRIES).permit().reject(why=error(ErrorClass.UNKNOWN))
    assert world.node().state is _N.RETRYING


def test_a_baseline_that_failed_for_good_is_retried_when_its_class_may_heal() -> None:
    world = _world(WINDOWED, retries=_RETRIES).prepare_failed(is_definite=True)
    assert world.node().state is _N.RETRYING


@pytest.mark.parametrize("caps", [KEYED, TAGGED, WINDOWED, BLIND], ids=["key", "tag", "window", "none"])
def test_a_vanished_run_is_never_retried_by_itself(caps: Capabilities) -> None:
    world = _world(caps, retries=_RETRIES).start().later(60).observe(ExternalState.VANISHED)
    assert (world.attempt().outcome, world.node().state) == (Outcome.VANISHED, _N.FAILED)
    assert "no longer knows" in world.node().reason


@pytest.mark.parametrize("caps", [replace(TAGGED, delivery=Delivery.AT_LEAST_ONCE), SENSOR], ids=["again", "sensor"])
def test_a_vanished_run_that_may_start_twice_is_retried(caps: Capabilities) -> None:
    world = _world(caps, retries=_RETRIES).start().later(60).observe(ExternalState.VANISHED)
    assert world.node().state is _N.RETRYING


def test_a_run_that_the_vendor_does_not_show_yet_has_not_vanished() -> None:
    world = _world().start().later(59).observe(ExternalState.VANISHED)
    assert world.attempt().state is _A.RUNNING


def test_a_failed_run_is_resumed_by_the_retry_where_the_tool_can() -> None:
    caps = replace(KEYED, resume=True)
    world = _world(caps, retries=_RETRIES).fail(error_class=ErrorClass.TRANSIENT).wake_when_due()
    assert world.attempt().resume == ExternalRef(id="r-n-1", link="https://vendor.example/r-n-1")
    world = _world(retries=_RETRIES).fail(error_class=ErrorClass.TRANSIENT).wake_when_due()
    assert world.attempt().resume is None


def test_nothing_is_resumed_when_the_last_attempt_has_no_failed_run() -> None:
    world = _world(replace(KEYED, resume=True), retries=_RETRIES).permit().reject(why=error()).wake_when_due()
    assert world.attempt().resume is None


def test_a_retry_whose_settings_fail_ends_the_node() -> None:
    world = _world(retries=_RETRIES, settings=FakeTemplate(broken_from=2)).fail(error_class=ErrorClass.TRANSIENT)
    world.wake_when_due()
    assert (world.node().state, world.attempt().no) == (_N.FAILED, 1)
    assert "no such output" in world.node().reason


def test_no_retry_while_paused_and_at_once_after() -> None:
    world = _world(retries=_RETRIES).fail(error_class=ErrorClass.TRANSIENT).tell(Pause()).wake(1000)
    assert (world.node().state, next_wake(world.run)) == (_N.RETRYING, None)
    assert world.tell(Resume()).wake_when_due().owed() == ["Start n"]


def test_no_retry_once_the_run_is_being_cancelled() -> None:
    world = World.begun(node("n", retries=_RETRIES)).start().tell(CancelRun(actor="ana"))
    world.observe(ExternalState.FAILED, error=error())
    assert (world.node().state, world.run.state) == (_N.FAILED, RunState.CANCELLED)


def test_a_failure_that_only_warns_is_retried_first() -> None:
    world = _world(retries=RetryPolicy(attempts=1, delay_s=1), on_failure=OnFailure.WARN)
    world.fail(error_class=ErrorClass.TRANSIENT)
    assert world.node().state is _N.RETRYING
    world.wake_when_due().fail(error_class=ErrorClass.TRANSIENT)
    assert (world.node().state, world.run.state) == (_N.WARNED, RunState.SUCCEEDED)


def _delays(**changes: Any) -> list[float]:
    policy = RetryPolicy(**({"attempts": 9, "delay_s": 10, "max_delay_s": 100, "jitter": 0.0} | changes))
    return [retry_delay_s(policy, failures=failures, key="k") for failures in (1, 2, 3, 4, 5, 400)]


def test_delays_grow_as_told_and_never_above_the_longest() -> None:
    assert _delays(backoff=Backoff.CONSTANT) == [10, 10, 10, 10, 10, 10]
    assert _delays(backoff=Backoff.LINEAR) == [10, 20, 30, 40, 50, 100]
    assert _delays(backoff=Backoff.EXPONENTIAL) == [10, 20, 40, 80, 100, 100]


def test_jitter_stretches_by_its_fraction_at_most_and_is_the_same_every_time() -> None:
    for backoff in Backoff:
        stretched = _delays(backoff=backoff, jitter=0.5)
        assert stretched == _delays(backoff=backoff, jitter=0.5)
        plain = _delays(backoff=backoff)
        assert all(a <= b <= min(1.5 * a, 100) for a, b in zip(plain, stretched, strict=True))
    assert _delays(jitter=0.5)[0] != 10


# --- waking ---


def test_after_a_look_nothing_is_due_that_was_looked_at() -> None:
    worlds = [
        _world().permit().refuse(),
        _world(TAGGED).permit().lose(),
        _world(TAGGED).permit().lose().later(120).not_seen(),
        _world().start().tell(_CANCEL),
        _world().start(),
        _world(limits=Limits(total_s=5)).start(),
        _world(retries=_RETRIES).fail(error_class=ErrorClass.TRANSIENT),
        _world().permit().lose().not_seen(),
        World.begun(node(), run_timeout_s=5.0).start(),
    ]
    for world in worlds:
        for _ in range(20):
            due = next_wake(world.run, world.now)
            if due is None:
                break
            world.wake(max((due - world.now).total_seconds(), 0))
            assert world.try_step(Wake()).run is world.run
            after = next_wake(world.run, world.now)
            assert after is None or after > world.now
