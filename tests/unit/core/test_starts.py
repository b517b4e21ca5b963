"""A start happens once: what each answer makes of an attempt, for each class of vendor and each delivery."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conductor.core.attempt import LATE_FIND_S
from conductor.core.errors import ErrorClass, InvalidTransitionError
from conductor.core.events import (
    Accepted,
    Busy,
    CancelAnswered,
    CancelNode,
    CannotSee,
    Event,
    Lost,
    NotSeen,
    Observed,
    Permitted,
    Prepared,
    PrepareFailed,
    Recovered,
    Refused,
    Rejected,
    Seen,
    Wake,
)
from conductor.core.plan import RetryPolicy
from conductor.core.states import AttemptState, NodeState, Outcome, RunState
from conductor.core.vendor import (
    Baseline,
    Capabilities,
    Delivery,
    ExternalState,
    IfRunning,
    Observation,
    OnUnknown,
)
from tests.unit.core.worlds import BLIND, KEYED, SENSOR, TAGGED, WINDOWED, World, error, node, ref

_A = AttemptState
_N = NodeState

_ONCE_ONLY = [
    (KEYED, Delivery.PREFER_LOOKUP),
    (KEYED, Delivery.AT_MOST_ONCE),
    (TAGGED, Delivery.PREFER_LOOKUP),
    (TAGGED, Delivery.AT_MOST_ONCE),
    (WINDOWED, Delivery.PREFER_LOOKUP),
    (WINDOWED, Delivery.AT_MOST_ONCE),
    (BLIND, Delivery.AT_MOST_ONCE),
    (BLIND, Delivery.PREFER_LOOKUP),
]


def _world(caps: Capabilities = KEYED, **changes: Any) -> World:
    return World.begun(node("n", caps, **changes))


def _phase(world: World) -> tuple[AttemptState, NodeState]:
    return world.attempt().state, world.node().state


# --- the straight way ---


@pytest.mark.parametrize("caps", [KEYED, TAGGED, BLIND, SENSOR], ids=["key", "tag", "none", "sensor"])
def test_an_accepted_start_is_followed_to_its_end(caps: Capabilities) -> None:
    world = _world(caps)
    assert (_phase(world), world.owed()) == ((_A.INTENDED, _N.QUEUED), ["Start n"])
    world.permit()
    assert (_phase(world), world.owed()) == ((_A.SENDING, _N.RUNNING), [])
    world.accept()
    assert (_phase(world), world.owed()) == ((_A.RUNNING, _N.RUNNING), ["Poll n"])
    world.observe(ExternalState.SUCCEEDED, outputs={"rows": 7})
    assert (_phase(world), world.owed()) == ((_A.ENDED, _N.SUCCEEDED), [])
    assert world.node().outputs == {"rows": 7}
    assert world.run.state is RunState.SUCCEEDED
    assert world.attempt_path() == ["intended", "sending", "running", "ended"]


def test_a_vendor_that_needs_a_baseline_is_read_before_the_permit() -> None:
    world = _world(WINDOWED)
    assert world.owed() == ["Prepare n"]
    assert not world.attempt().holds_slot
    world.prepared(baseline=Baseline(data={"newest": 41}))
    assert world.owed() == ["Start n"]
    assert world.attempt().holds_slot
    assert world.attempt().baseline == Baseline(data={"newest": 41})


def test_a_permit_without_its_baseline_is_a_bug() -> None:
    world = _world(WINDOWED)
    with pytest.raises(InvalidTransitionError, match="baseline"):
        world.tell(Permitted(node="n", attempt_no=1))


def test_a_second_permit_for_one_intent_is_a_bug() -> None:
    world = _world().permit()
    with pytest.raises(InvalidTransitionError):
        world.permit()


def test_a_late_second_baseline_does_not_replace_the_first() -> None:
    world = _world(WINDOWED).prepared(baseline=Baseline(data={"newest": 1}))
    world.prepared(baseline=Baseline(data={"newest": 2}))
    world.prepare_failed(is_definite=True)
    assert world.attempt().baseline == Baseline(data={"newest": 1})


def test_a_run_that_began_is_told_with_its_link() -> None:
    world = _world().start(external="r9")
    assert world.journal[-1].detail == {"external": "r9", "link": "https://vendor.example/r9", "adopted": ""}


# --- definite answers ---


def test_a_rejected_start_ends_the_attempt_and_the_node() -> None:
    world = _world().permit().reject(why=error(ErrorClass.CONFIG, "no such job"))
    assert _phase(world) == (_A.ENDED, _N.FAILED)
    assert world.attempt().outcome is Outcome.REJECTED
    assert world.node().reason == "no such job"
    assert world.run.state is RunState.FAILED


def test_a_refused_start_waits_as_long_as_the_vendor_asks() -> None:
    world = _world().permit().refuse(retry_after_s=90)
    assert (_phase(world), world.owed()) == ((_A.INTENDED, _N.QUEUED), [])
    assert world.attempt().not_before == world.now + timedelta(seconds=90)
    assert world.wake_when_due().owed() == ["Start n"]


def test_a_refused_start_without_advice_waits_longer_each_time_up_to_a_minute() -> None:
    world = _world(TAGGED)
    waits = []
    for _ in range(9):
        asked_at = world.permit().now
        world.refuse(why=error(ErrorClass.QUOTA)).wake_when_due()
        waits.append((world.now - asked_at).total_seconds())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_refusals_by_quota_never_wear_out_the_patience() -> None:
    world = _world(TAGGED)
    for _ in range(1_100):
        world.permit().refuse(why=error(ErrorClass.QUOTA)).wake_when_due()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)


def test_the_eighth_refusal_in_a_row_ends_the_attempt() -> None:
    world = _world()
    for _ in range(7):
        world.permit().refuse().wake_when_due()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)
    world.permit().refuse()
    assert world.attempt().outcome is Outcome.REJECTED


def test_a_refused_start_reads_its_baseline_anew() -> None:
    world = _world(WINDOWED).permit().refuse().wake_when_due()
    assert world.owed() == ["Prepare n"]


def test_a_baseline_that_cannot_be_read_is_tried_again_later() -> None:
    world = _world(WINDOWED).prepare_failed()
    assert (_phase(world), world.owed()) == ((_A.INTENDED, _N.QUEUED), [])
    assert world.wake_when_due().owed() == ["Prepare n"]


def test_a_baseline_that_shows_that_a_start_is_pointless_ends_the_attempt() -> None:
    world = _world(WINDOWED).prepare_failed(is_definite=True, why=error(ErrorClass.AUTH, "401"))
    assert (world.attempt().outcome, world.node().state) == (Outcome.REJECTED, _N.FAILED)


def test_a_baseline_that_stays_out_of_reach_ends_the_attempt() -> None:
    world = _world(WINDOWED)
    for _ in range(7):
        world.prepare_failed().wake_when_due()
    world.prepare_failed()
    assert world.attempt().outcome is Outcome.REJECTED


# --- busy ---


_BUSY_ANSWERS = [
    (IfRunning.WAIT, True, _A.INTENDED, _N.QUEUED, None),
    (IfRunning.WAIT, False, _A.INTENDED, _N.QUEUED, None),
    (IfRunning.ADOPT, True, _A.RUNNING, _N.RUNNING, None),
    (IfRunning.ADOPT, False, _A.INTENDED, _N.QUEUED, None),
    (IfRunning.FAIL, True, _A.ENDED, _N.FAILED, Outcome.REJECTED),
    (IfRunning.SKIP, True, _A.ENDED, _N.SKIPPED, Outcome.SKIPPED),
]


@pytest.mark.parametrize("is_sent", [True, False], ids=["on the start", "on the baseline"])
@pytest.mark.parametrize("case", _BUSY_ANSWERS)
def test_the_node_decides_what_a_busy_object_means(
    case: tuple[IfRunning, bool, AttemptState, NodeState, Outcome | None], is_sent: bool
) -> None:
    policy, is_named, attempt, state, outcome = case
    running = ref("theirs") if is_named else None
    world = _world(WINDOWED, if_running=policy)
    if is_sent:
        world.permit().busy(running=running)
    else:
        world.prepared(baseline=Baseline(is_busy=True, running=running))
    assert _phase(world) == (attempt, state)
    assert world.attempt().outcome is outcome
    if state is _N.QUEUED:
        assert world.node().reason
        assert not world.attempt().holds_slot
        assert world.wake_when_due().owed() == ["Prepare n"]
    if attempt is _A.RUNNING:
        assert (world.attempt().ref, world.attempt().adopted) == (running, "busy")


def test_the_reason_for_waiting_is_gone_once_it_goes() -> None:
    world = _world().permit().busy().wake_when_due().permit()
    assert world.node().reason == ""


# --- lost answers: never a second send without the vendor's help or the user's word ---


@pytest.mark.parametrize("caps", [KEYED, TAGGED, WINDOWED, BLIND], ids=["key", "tag", "window", "none"])
@pytest.mark.parametrize("is_crash", [True, False], ids=["crash", "lost answer"])
def test_a_lost_start_is_looked_up_at_once_and_never_sent_from_there(caps: Capabilities, is_crash: bool) -> None:
    world = _world(caps).permit()
    if is_crash:
        world.tell(Recovered())
    else:
        world.lose()
    assert (_phase(world), world.owed()) == ((_A.AMBIGUOUS, _N.RUNNING), ["Find n"])
    with pytest.raises(InvalidTransitionError):
        world.tell(Permitted(node="n", attempt_no=1))
    assert world.seen(external="r3").owed() == ["Poll n"]
    assert (world.attempt().ref, world.attempt().adopted) == (ref("r3"), "found")


def test_recovery_touches_nothing_but_what_was_being_sent() -> None:
    for world in (_world(), _world().start(), _world().permit().lose(), _world().finish()):
        assert world.try_step(Recovered()).run is world.run


def test_recovery_reads_the_baseline_anew_before_a_start() -> None:
    world = _world(WINDOWED).prepared().tell(Recovered())
    assert world.owed() == ["Prepare n"]


def test_an_inferred_find_is_marked_as_such() -> None:
    world = _world(WINDOWED).permit().lose().seen(is_inferred=True)
    assert world.attempt().adopted == "inferred"


@pytest.mark.parametrize(("caps", "delivery"), _ONCE_ONLY)
@pytest.mark.parametrize("answer", ["not seen", "cannot see"])
def test_a_start_that_stays_out_of_sight_is_held_and_never_sent_again(
    caps: Capabilities, delivery: Delivery, answer: str
) -> None:
    world = _world(caps, delivery=delivery).permit().lose()
    for _ in range(200):
        assert world.attempt().send_no == 1
        assert "Start n" not in world.owed()
        if world.attempt().state is _A.UNKNOWN:
            break
        world.not_seen() if answer == "not seen" else world.cannot_see()
        if world.attempt().state is _A.AMBIGUOUS:
            world.wake_when_due()
    assert _phase(world) == (_A.UNKNOWN, _N.HELD)
    assert "not known" in world.node().reason
    assert world.run.state is RunState.RUNNING
    assert world.attempt().holds_slot


def test_a_start_counts_as_not_seen_only_when_the_settle_window_is_over() -> None:
    world = _world(TAGGED).permit().lose().later(119.9).not_seen()
    assert world.attempt().state is _A.AMBIGUOUS
    assert world.later(0.1).not_seen().attempt().state is _A.UNKNOWN


def test_looking_goes_on_longer_when_the_vendor_cannot_be_asked() -> None:
    world = _world(TAGGED).permit().lose().later(599.9).cannot_see()
    assert world.attempt().state is _A.AMBIGUOUS
    assert world.later(0.1).cannot_see().attempt().state is _A.UNKNOWN


def test_looks_grow_sparser_up_to_half_a_minute() -> None:
    world = _world(TAGGED, settle_window_s=86_400).permit().lose()
    waits = []
    for _ in range(8):
        looked_at = world.now
        waits.append((world.not_seen().wake_when_due().now - looked_at).total_seconds())
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_day_of_looks_ends_well() -> None:
    world = _world(TAGGED, settle_window_s=86_400).permit().lose()
    while world.attempt().state is _A.AMBIGUOUS:
        world.not_seen()
        if world.attempt().state is _A.AMBIGUOUS:
            world.wake_when_due()
    assert world.node().state is _N.HELD


# --- class A: the same key again ---


@pytest.mark.parametrize("answer", ["not seen", "cannot see"])
def test_the_same_key_is_sent_again_with_the_same_frozen_request(answer: str) -> None:
    world = _world().permit().lose()
    before = world.attempt()
    world.not_seen() if answer == "not seen" else world.cannot_see()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)
    world.wake_when_due().permit()
    after = world.attempt()
    assert (after.key, after.settings, after.no) == (before.key, before.settings, before.no)
    assert after.send_no == 2
    assert world.accept().attempt().ref == ref()


def test_the_same_key_is_never_sent_after_the_vendor_may_have_forgotten_it() -> None:
    world = _world().permit().lose().later(3600).not_seen()
    assert _phase(world) == (_A.UNKNOWN, _N.HELD)


def test_a_resend_that_was_kept_waiting_until_the_key_expired_is_looked_up_instead() -> None:
    world = _world().permit().later(3590).lose().not_seen()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)
    world.later(10)
    assert world.owed() == []
    with pytest.raises(InvalidTransitionError, match="key"):
        world.permit()
    world.wake()
    assert (_phase(world), world.owed()) == ((_A.AMBIGUOUS, _N.RUNNING), ["Find n"])
    assert world.later(120).not_seen().attempt().state is _A.UNKNOWN


def test_the_run_asks_to_be_looked_at_when_a_waiting_key_expires_even_when_paused() -> None:
    world = _world().permit().lose().not_seen().wake_when_due()
    world.later(3600 - (world.now - world.journal[0].at).total_seconds())
    assert world.wake_when_due().attempt().state is _A.AMBIGUOUS


def test_a_refused_first_send_does_not_use_up_the_life_of_the_key() -> None:
    world = _world().permit().refuse(retry_after_s=4000).wake_when_due().permit().lose().not_seen()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)


@pytest.mark.parametrize("answer", ["rejected", "busy"])
@pytest.mark.parametrize("policy", [IfRunning.FAIL, IfRunning.SKIP, IfRunning.WAIT, IfRunning.ADOPT])
def test_a_no_to_the_second_send_says_nothing_about_the_first(answer: str, policy: IfRunning) -> None:
    world = _world(if_running=policy, retries=RetryPolicy(attempts=3)).permit().lose().not_seen().wake_when_due()
    world.permit()
    world.reject(why=error()) if answer == "rejected" else world.busy(running=ref("whose"))
    assert _phase(world) == (_A.AMBIGUOUS, _N.RUNNING)
    assert world.seen().attempt().ref == ref()


def test_an_outage_after_a_lost_start_never_leads_to_a_new_key() -> None:
    world = _world(retries=RetryPolicy(attempts=5)).permit().lose().not_seen().wake_when_due()
    for _ in range(20):
        world.permit().refuse().wake_when_due()
    assert world.attempt().no == 1
    assert world.permit().accept().node().attempts == 1


def test_a_lost_start_keeps_its_first_baseline_and_its_slot() -> None:
    caps = replace(KEYED, needs_baseline=True)
    world = _world(caps).prepared(baseline=Baseline(data={"newest": 1})).permit().lose().not_seen()
    assert world.attempt().holds_slot
    world.wake_when_due().permit().refuse().tell(Recovered()).wake_when_due()
    assert world.owed() == ["Start n"]
    assert world.attempt().baseline == Baseline(data={"newest": 1})


def test_at_most_once_does_not_even_trust_the_key() -> None:
    world = _world(delivery=Delivery.AT_MOST_ONCE).permit().lose().not_seen()
    assert world.attempt().state is _A.AMBIGUOUS


# --- at least once ---


@pytest.mark.parametrize("caps", [TAGGED, WINDOWED, BLIND, KEYED], ids=["tag", "window", "none", "key"])
def test_at_least_once_sends_again_only_when_the_window_is_over_and_only_as_often_as_allowed(
    caps: Capabilities,
) -> None:
    world = _world(caps, delivery=Delivery.AT_LEAST_ONCE, resend_limit=2)
    for send in (1, 2):
        world.permit().lose().later(119).not_seen()
        assert world.attempt().state is _A.AMBIGUOUS
        world.later(1).not_seen()
        assert (world.attempt().state, world.attempt().send_no) == (_A.INTENDED, send)
        world.wake_when_due()
    world.permit().lose().later(120).not_seen()
    assert _phase(world) == (_A.UNKNOWN, _N.HELD)
    assert world.attempt_path().count("sending") == 3


def test_refused_sends_do_not_use_up_the_resends() -> None:
    world = _world(TAGGED, delivery=Delivery.AT_LEAST_ONCE)
    for _ in range(3):
        world.permit().refuse().wake_when_due()
    world.permit().busy().wake_when_due().permit().lose().later(120).not_seen()
    assert world.attempt().state is _A.INTENDED


def test_at_least_once_does_not_send_again_while_the_vendor_cannot_be_asked() -> None:
    world = _world(TAGGED, delivery=Delivery.AT_LEAST_ONCE).permit().lose().later(10_000).cannot_see()
    assert _phase(world) == (_A.UNKNOWN, _N.HELD)


def test_at_least_once_sends_again_where_nobody_can_ever_look() -> None:
    world = _world(BLIND, delivery=Delivery.AT_LEAST_ONCE).permit().lose().cannot_see()
    assert world.attempt().state is _A.AMBIGUOUS
    assert world.later(120).cannot_see().attempt().state is _A.INTENDED


# --- sensors ---


@pytest.mark.parametrize("is_crash", [True, False])
def test_a_start_that_sends_nothing_is_simply_repeated(is_crash: bool) -> None:
    world = _world(SENSOR).permit()
    if is_crash:
        world.tell(Recovered())
    else:
        world.lose()
    assert _phase(world) == (_A.INTENDED, _N.QUEUED)
    assert world.attempt_path() == ["intended", "sending", "ambiguous", "intended"]


def test_a_start_that_sends_nothing_may_be_repeated_for_a_day() -> None:
    world = _world(SENSOR)
    for _ in range(1_500):
        world.permit().lose().wake_when_due()
    assert world.attempt().state is _A.INTENDED


def test_a_start_that_sends_nothing_is_not_repeated_once_it_is_cancelled() -> None:
    world = _world(SENSOR).permit().tell(CancelNode(node="n")).lose()
    assert (world.attempt().outcome, world.node().state) == (Outcome.CANCELLED, _N.CANCELLED)


# --- unknown ---


@pytest.mark.parametrize(
    ("policy", "state", "outcome", "run"),
    [
        (OnUnknown.HOLD, _N.HELD, None, RunState.RUNNING),
        (OnUnknown.FAIL, _N.FAILED, Outcome.UNRESOLVED, RunState.FAILED),
        (OnUnknown.ASSUME_STARTED, _N.WARNED, Outcome.WARNED, RunState.SUCCEEDED),
    ],
)
def test_the_node_decides_what_an_unknown_start_means(
    policy: OnUnknown, state: NodeState, outcome: Outcome | None, run: RunState
) -> None:
    world = _world(TAGGED, on_unknown=policy, retries=RetryPolicy(attempts=3)).permit().lose().later(120).not_seen()
    assert (world.node().state, world.attempt().outcome, world.run.state) == (state, outcome, run)
    trouble = world.node().error
    assert trouble is not None
    assert trouble.error_class is ErrorClass.UNKNOWN
    assert world.attempt().no == 1


def test_a_late_find_adopts_a_held_start_and_clears_its_trouble() -> None:
    world = _world(TAGGED).permit().lose().later(120).not_seen()
    assert world.wake_when_due().owed() == ["Find n"]
    world.seen(external="late")
    assert (_phase(world), world.attempt().ref) == ((_A.RUNNING, _N.RUNNING), ref("late"))
    assert (world.node().reason, world.node().error) == ("", None)
    assert world.observe(ExternalState.SUCCEEDED).run.state is RunState.SUCCEEDED


def test_a_held_start_is_looked_up_for_a_day_and_then_left_to_people() -> None:
    world = _world(TAGGED).permit().lose().later(120).not_seen()
    looks = 0
    while world.attempt().find_at is not None:
        world.wake_when_due().not_seen() if looks % 2 else world.wake_when_due().cannot_see()
        looks += 1
    assert looks == LATE_FIND_S // 300
    assert (world.owed(), world.node().state) == ([], _N.HELD)


def test_where_nobody_can_look_a_held_start_is_left_to_people_at_once() -> None:
    world = _world(BLIND).permit().lose().later(120).cannot_see()
    assert (world.owed(), world.attempt().find_at) == ([], None)


# --- late and repeated answers ---


def _answers(no: int = 1) -> list[Event]:
    at: dict[str, Any] = {"node": "n", "attempt_no": no}
    return [
        Prepared(baseline=Baseline(data={"newest": 9}), **at),
        PrepareFailed(error=error(), is_definite=True, **at),
        Accepted(ref=ref("other"), **at),
        Rejected(error=error(), **at),
        Refused(error=error(), **at),
        Busy(error=error(), running=ref("other"), **at),
        Lost(error=error(), **at),
        Seen(ref=ref("other"), **at),
        NotSeen(**at),
        CannotSee(**at),
        Observed(observation=Observation(state=ExternalState.FAILED), **at),
        CancelAnswered(**at),
    ]


_NAMES = [type(answer).__name__ for answer in _answers()]
# Which answers each phase listens to; all others are late or repeated, and change nothing.
_HEARD = {
    "intended": {"Prepared", "PrepareFailed"},
    "sending": {"Accepted", "Rejected", "Refused", "Busy", "Lost"},
    "ambiguous": {"Accepted", "Seen", "NotSeen", "CannotSee"},
    "unknown": {"Accepted", "Seen", "NotSeen", "CannotSee"},
    "running": {"Observed"},
    "ended": set[str](),
}


def _in_phase(phase: str) -> World:
    match phase:
        case "intended":
            return _world(WINDOWED)
        case "sending":
            return _world(TAGGED).permit()
        case "ambiguous":
            return _world(TAGGED).permit().lose()
        case "unknown":
            return _world(TAGGED).permit().lose().later(120).not_seen()
        case "running":
            return _world(TAGGED).start()
        case _:
            return _world(TAGGED).finish()


@pytest.mark.parametrize("phase", list(_HEARD))
@pytest.mark.parametrize("answer", _answers(), ids=_NAMES)
def test_each_phase_listens_to_its_own_answers_only(phase: str, answer: Event) -> None:
    world = _in_phase(phase)
    made = world.try_step(answer)
    assert (made.run is not world.run) is (type(answer).__name__ in _HEARD[phase])


@pytest.mark.parametrize("answer", _answers(), ids=_NAMES)
def test_an_answer_to_an_earlier_attempt_changes_nothing(answer: Event) -> None:
    world = _world(retries=RetryPolicy(attempts=1)).fail(error_class=ErrorClass.TRANSIENT).wake_when_due()
    assert world.attempt().no == 2
    for _ in range(2):
        assert world.try_step(answer).run is world.run
        world.start(external="second") if world.attempt().state is _A.INTENDED else world


def test_a_late_acceptance_settles_what_was_being_looked_up() -> None:
    assert _phase(_world(TAGGED).permit().lose().accept()) == (_A.RUNNING, _N.RUNNING)
    assert _phase(_world(TAGGED).permit().lose().later(120).not_seen().accept()) == (_A.RUNNING, _N.RUNNING)


@pytest.mark.parametrize("repeat", [Wake(), Recovered()], ids=["wake", "recovered"])
def test_a_look_at_the_clock_alone_changes_nothing(repeat: Event) -> None:
    for phase in _HEARD:
        if phase == "sending" and isinstance(repeat, Recovered):
            continue
        world = _in_phase(phase)
        assert world.try_step(repeat).run is world.run


def test_polls_that_see_nothing_new_change_nothing() -> None:
    world = _world().start().observe(ExternalState.RUNNING, word="RUNNING", progress=0.5, marker="7")
    at = {"node": "n", "attempt_no": 1}
    same = Observation(state=ExternalState.RUNNING, word="RUNNING", progress=0.5, marker="7")
    assert world.later(30).try_step(Observed(observation=same, **at)).run is world.run  # type: ignore[arg-type]


def test_an_unknown_word_is_followed_on_and_never_a_success() -> None:
    world = _world().start().observe(ExternalState.UNRECOGNISED, word="FROBNICATING")
    assert (_phase(world), world.owed()) == ((_A.RUNNING, _N.RUNNING), ["Poll n"])
    assert world.journal[-1].detail["word"] == "FROBNICATING"
