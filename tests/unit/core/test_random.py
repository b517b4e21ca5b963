"""Random graphs, vendors, crashes and people: whatever happens, a start happens once, and every run ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.errors import ConflictError, ErrorClass, NotFoundError
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
from conductor.core.node import judge
from conductor.core.owed import Cancel, Effect, Find, Poll, Prepare, Start, next_wake, outstanding
from conductor.core.plan import Limits, NodePlan, OnFailure, Plan, RetryPolicy, TriggerRule
from conductor.core.run import Attempt, Run, Subject
from conductor.core.states import AttemptState, Cause, NodeState, RunState
from conductor.core.step import step
from conductor.core.vendor import (
    Baseline,
    Capabilities,
    Correlation,
    Delivery,
    ExternalState,
    IfRunning,
    Observation,
    OnUnknown,
)
from tests.unit.core.worlds import BLIND, KEYED, SENSOR, TAGGED, WINDOWED, World, error, node, plan, ref

_ONCE = frozenset({Delivery.EFFECTIVELY_ONCE, Delivery.PREFER_LOOKUP, Delivery.AT_MOST_ONCE})
_TURNS_MAX = 3_000
_CALM_AFTER = 250
"""Turns after which people leave the run alone and the vendor answers plainly, so that it must come to its end."""

_KINDS = [
    KEYED,
    replace(KEYED, needs_baseline=True, key_ttl_s=90.0),
    TAGGED,
    WINDOWED,
    replace(TAGGED, delivery=Delivery.AT_LEAST_ONCE),
    replace(BLIND, delivery=Delivery.AT_LEAST_ONCE),
    BLIND,
    SENSOR,
]


@st.composite
def _plans(draw: st.DrawFn) -> Plan:
    nodes: list[NodePlan] = []
    for n in range(draw(st.integers(1, 12))):
        above = [f"n{m}" for m in range(n)]
        caps: Capabilities = draw(st.sampled_from(_KINDS))
        nodes.append(
            node(
                f"n{n}",
                caps,
                after=draw(st.lists(st.sampled_from(above), unique=True, max_size=3)) if above else (),
                trigger_rule=draw(st.sampled_from(TriggerRule)),
                on_failure=draw(st.sampled_from(OnFailure)),
                on_unknown=draw(st.sampled_from(OnUnknown)),
                if_running=draw(st.sampled_from(IfRunning)),
                retries=RetryPolicy(attempts=draw(st.integers(0, 2)), delay_s=5.0),
                limits=Limits(total_s=900.0, no_progress_s=draw(st.sampled_from([None, 120.0])), cancel_grace_s=60.0),
            )
        )
    return plan(*nodes, run_timeout_s=draw(st.sampled_from([None, 2_000.0])))


@dataclass(slots=True)
class _External:
    """One run at the vendor."""

    id: str
    node: str
    key: str
    looks_left: int
    end: ExternalState
    is_over: bool = False


@dataclass(slots=True)
class _Vendor:
    """What the vendor accepted, and what it answers. Its word about a run, once final, stays."""

    dice: Random
    runs: dict[str, _External] = field(default_factory=dict)
    by_key: dict[str, list[_External]] = field(default_factory=lambda: defaultdict(list))
    is_calm: bool = False
    turns_down: int = 0
    """How many turns more it does not answer at all."""

    @property
    def is_down(self) -> bool:
        return self.turns_down > 0 and not self.is_calm

    def begin(self, name: str, attempt: Attempt, caps: Capabilities) -> _External:
        if caps.sends_nothing:
            return self._new(name, attempt)
        if caps.correlation is Correlation.KEY and self.by_key[attempt.key]:
            return self.by_key[attempt.key][0]
        return self._new(name, attempt)

    def _new(self, name: str, attempt: Attempt) -> _External:
        ends = [ExternalState.SUCCEEDED] * 4 + [ExternalState.FAILED] * 2 + [ExternalState.WARNED]
        ends += [ExternalState.CANCELLED, ExternalState.VANISHED]
        made = _External(
            id=f"x{len(self.runs)}",
            node=name,
            key=attempt.key,
            looks_left=self.dice.randrange(4),
            end=self.dice.choice(ends),
        )
        self.runs[made.id] = made
        self.by_key[attempt.key].append(made)
        return made

    def chance(self, share: float) -> bool:
        return not self.is_calm and self.dice.random() < share

    def fall(self) -> None:
        """Go down for a while: long enough, now and then, to wear out any patience."""
        self.turns_down = self.dice.choice([3, 20, 150])


@dataclass(slots=True)
class _Story:
    """One run's life: what is owed is done by the vendor, time passes, people and crashes interfere."""

    world: World
    vendor: _Vendor
    dice: Random
    permits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    has_people: bool = True
    is_interfered: bool = False

    def tell(self, *events: Event) -> None:
        for event in events:
            before = self.world.run
            again = step(before, event, self.world.now)
            self.world.tell(event)
            assert again.run == self.world.run, "the same event gave something else"
            self._check(before)

    def _check(self, before: Run) -> None:
        for name, seen in self.world.run.nodes.items():
            was = before.nodes[name]
            begins = was.state is NodeState.WAITING and seen.state is NodeState.QUEUED
            if begins:
                plan = self.world.run.plan.nodes[name]
                above = [self.world.run.nodes[upstream].state for upstream in plan.depends_on]
                assert judge(plan.trigger_rule, above) is NodeState.QUEUED, f"{name} begins before its rule allows"

    # --- what is owed ---

    def perform(self, effect: Effect) -> None:
        match effect:
            case Prepare():
                self._prepare(effect)
            case Start():
                self._start(effect)
            case Find():
                self._find(effect)
            case Poll():
                self._poll(effect)
            case Cancel():
                self._cancel(effect)

    def _prepare(self, effect: Prepare) -> None:
        at: dict[str, Any] = {"node": effect.node, "attempt_no": effect.attempt_no}
        if self.vendor.is_down:
            self.tell(PrepareFailed(error=error(), is_definite=False, **at))
        elif self.vendor.chance(0.15):
            self.tell(PrepareFailed(error=error(), is_definite=self.vendor.chance(0.3), **at))
        elif self.vendor.chance(0.15):
            self.tell(Prepared(baseline=Baseline(is_busy=True, running=self._foreign(effect.node)), **at))
        else:
            self.tell(Prepared(baseline=Baseline(), **at))

    def _foreign(self, name: str) -> Any:
        if self.dice.random() < 0.5:
            return None
        attempt = replace(self.world.attempt(name), key=f"foreign-{len(self.vendor.runs)}")
        return ref(self.vendor._new(name, attempt).id)

    def _start(self, effect: Start) -> None:
        name = effect.node
        at: dict[str, Any] = {"node": name, "attempt_no": effect.attempt_no}
        self.tell(Permitted(**at))
        self.permits[self.world.attempt(name).key] += 1
        if self.has_people and self.vendor.chance(0.1):
            self.command()
        caps = self.world.run.plan.nodes[name].capabilities
        if self.vendor.is_down or self.vendor.chance(0.15):
            self.tell(Refused(error=error(), **at))
        elif self.vendor.chance(0.08):
            self.tell(Rejected(error=error(self.dice.choice(list(ErrorClass))), **at))
        elif self.vendor.chance(0.08):
            self.tell(Busy(error=error(), running=self._foreign(name), **at))
        elif self.vendor.chance(0.4):
            if self.dice.random() < 0.5:
                self.vendor.begin(name, self.world.attempt(name), caps)
            if self.dice.random() < 0.3:
                self.vendor.fall()
            self.tell(Recovered() if self.dice.random() < 0.5 else Lost(error=error(), **at))
        else:
            made = self.vendor.begin(name, self.world.attempt(name), caps)
            if self.vendor.chance(0.1):
                self.vendor.fall()
            self.tell(Accepted(ref=ref(made.id), **at))

    def _find(self, effect: Find) -> None:
        at: dict[str, Any] = {"node": effect.node, "attempt_no": effect.attempt_no}
        plan = self.world.run.plan.nodes[effect.node]
        found = self.vendor.by_key[self.world.attempt(effect.node).key]
        if plan.capabilities.correlation is Correlation.NONE or self.vendor.is_down or self.vendor.chance(0.3):
            self.tell(CannotSee(**at))
        elif found:
            self.tell(Seen(ref=ref(found[0].id), **at))
        else:
            self.tell(NotSeen(**at))

    def _poll(self, effect: Poll) -> None:
        attempt = self.world.attempt(effect.node)
        if attempt.state is not AttemptState.RUNNING or self.vendor.is_down or self.vendor.chance(0.3):
            return
        assert attempt.ref is not None
        there = self.vendor.runs[attempt.ref.id]
        state = there.end
        if there.looks_left > 0 and not there.is_over:
            there.looks_left -= 1
            state = self.dice.choice([ExternalState.QUEUED, ExternalState.RUNNING, ExternalState.UNRECOGNISED])
        elif state is not ExternalState.VANISHED:
            there.is_over = True
        why = error(self.dice.choice(list(ErrorClass))) if self.dice.random() < 0.5 else None
        seen = Observation(state=state, word=state.value, error=why if state.is_final else None)
        self.tell(Observed(node=effect.node, attempt_no=effect.attempt_no, observation=seen))

    def _cancel(self, effect: Cancel) -> None:
        attempt = self.world.attempt(effect.node)
        if attempt.state is not AttemptState.RUNNING:
            return
        assert attempt.ref is not None
        there = self.vendor.runs[attempt.ref.id]
        if self.vendor.is_down or self.vendor.chance(0.4):
            self.tell(CancelAnswered(node=effect.node, attempt_no=effect.attempt_no, error=error()))
            return
        if not there.is_over:
            there.end, there.looks_left = self.dice.choice([ExternalState.CANCELLED, ExternalState.FAILED]), 0
        self.tell(CancelAnswered(node=effect.node, attempt_no=effect.attempt_no))

    # --- people ---

    def command(self) -> None:
        name = self.dice.choice([*self.world.run.nodes, "nope"])
        events: list[Event] = [
            CancelNode(node=name),
            RetryFailed(),
            RetryFailed(nodes=(name,)),
            RerunFrom(node=name),
            SkipNode(node=name, reason="r"),
            MarkNode(node=name, state=self.dice.choice(list(Mark)), reason="r"),
            Pause(),
            Resume(),
            Recovered(),
        ]
        if self.dice.random() < 0.2:
            events.append(CancelRun())
        event = self.dice.choice(events)
        self.is_interfered = self.is_interfered or isinstance(event, RetryFailed | RerunFrom)
        try:
            self.tell(event)
        except (ConflictError, NotFoundError):
            return

    # --- the loop ---

    def live(self) -> None:
        self.tell(Begin())
        for turn in range(_TURNS_MAX):
            self.vendor.is_calm = turn > _CALM_AFTER
            self.vendor.turns_down -= 1
            if self.has_people and self.vendor.chance(0.1):
                self.command()
            if self.vendor.is_calm and self.world.run.is_paused and not self.world.run.state.is_final:
                self.tell(Resume())
            if self.world.run.state.is_final:
                if not self.has_people or self.vendor.is_calm or self.dice.random() < 0.5:
                    return
                self.command()
                continue
            self._turn()
        raise AssertionError(f"the run does not end: {self.world.states()}, owed {self.world.owed()}")

    def _turn(self) -> None:
        now = self.world.now
        owed = [effect for effect in outstanding(self.world.run, now) if self._is_current(effect)]
        self.dice.shuffle(owed)
        for effect in owed:
            if self._is_current(effect) and effect in outstanding(self.world.run, now):
                self.perform(effect)
        self.tell(Wake())
        due_at = next_wake(self.world.run, now)
        assert due_at is None or due_at > now, "a look changed nothing and asks for another at once"
        left = outstanding(self.world.run, now)
        if due_at is None and not left and not self.world.run.state.is_final:
            self._ask_a_person()
        if any(isinstance(effect, Poll) for effect in left) or due_at is None:
            self.world.later(7)
        elif not left:
            self.world.later((due_at - now).total_seconds())

    def _is_current(self, effect: Effect) -> bool:
        attempt = self.world.run.nodes[effect.node].attempt
        return attempt is not None and attempt.no == effect.attempt_no

    def _ask_a_person(self) -> None:
        """Nothing is owed and nothing will happen by itself: it must be paused, or held for a person."""
        if self.world.run.is_paused:
            self.tell(Resume())
            return
        held = [name for name, seen in self.world.run.nodes.items() if seen.state is NodeState.HELD]
        assert held, f"the run is stuck: {self.world.states()}"
        self.tell(MarkNode(node=held[0], state=Mark.FAILED, reason="nobody knows"))


def _arrivals(story: _Story) -> Iterator[tuple[str, int]]:
    """Each key and how many runs the vendor began for it."""
    return ((key, len(made)) for key, made in story.vendor.by_key.items() if not key.startswith("foreign"))


def _check_story(story: _Story) -> None:
    run, journal = story.world.run, story.world.journal
    plans = run.plan.nodes
    assert [row.seq for row in journal] == list(range(1, len(journal) + 1))
    planned = [(row.node, row.attempt_no, str(row.detail["key"])) for row in journal if row.cause is Cause.PLANNED]
    keys = [key for _, _, key in planned]
    assert len(set(keys)) == len(keys)
    for row in journal:
        if row.subject is Subject.NODE and NodeState(row.before).is_final:
            assert row.cause in {Cause.DECIDED, Cause.RERUN}, f"{row.node} left {row.before} by itself"
    delivery = {key: plans[name].delivery for name, _, key in planned}
    is_free = {key: plans[name].capabilities.sends_nothing for name, _, key in planned}
    for key, begun in _arrivals(story):
        if delivery[key] in _ONCE and not is_free[key]:
            assert begun <= 1, f"{key} was begun {begun} times"
    for name, no, key in planned:
        of = plans[name]
        if of.capabilities.sends_nothing or of.delivery is Delivery.EFFECTIVELY_ONCE:
            continue
        causes = [row.cause for row in journal if (row.node, row.attempt_no) == (name, no)]
        sends = causes.count(Cause.PERMITTED)
        excused = causes.count(Cause.REFUSED) + sum(
            row.cause is Cause.BUSY and row.after == "intended"
            for row in journal
            if (row.node, row.attempt_no) == (name, no)
        )
        allowed = of.resend_limit if of.delivery is Delivery.AT_LEAST_ONCE else 0
        assert sends <= 1 + excused + allowed, f"{key} was permitted {sends} times"
        assert story.permits[key] == sends


def _check_no_overlap(story: _Story) -> None:
    """Without a person's word, nothing is begun anew while an earlier run of the node may still be going."""
    if story.is_interfered:
        return
    plans = story.world.run.plan.nodes
    for name, of in plans.items():
        if of.delivery not in _ONCE or of.capabilities.sends_nothing:
            continue
        mine = [run for run in story.vendor.runs.values() if run.node == name and not run.key.startswith("foreign")]
        for earlier in mine[:-1]:
            assert earlier.is_over, f"{name}: {earlier.id} was left behind and {mine[-1].id} begun"


def _told(made: Plan, seed: int, *, has_people: bool = True) -> _Story:
    dice = Random(seed)
    story = _Story(world=World.queued(made), vendor=_Vendor(dice=dice), dice=dice, has_people=has_people)
    story.live()
    return story


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(made=_plans(), seed=st.integers(0, 2**32), has_people=st.booleans())
def test_whatever_happens_a_start_happens_once_and_the_run_comes_to_its_end(
    made: Plan, seed: int, has_people: bool
) -> None:
    story = _told(made, seed, has_people=has_people)
    assert story.world.run.state in {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
    assert outstanding(story.world.run, story.world.now + timedelta(days=1)) == ()
    _check_story(story)
    _check_no_overlap(story)


@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(made=_plans(), seed=st.integers(0, 2**32))
def test_the_same_story_told_twice_has_the_same_journal(made: Plan, seed: int) -> None:
    assert _told(made, seed).world.journal == _told(made, seed).world.journal


@pytest.mark.parametrize("caps", _KINDS, ids=lambda caps: f"{caps.correlation}-{caps.delivery}")
def test_no_outage_makes_a_lonely_node_start_anew_while_an_earlier_start_may_go_on(caps: Capabilities) -> None:
    for seed in range(40):
        lonely = node(
            "n0",
            caps,
            if_running=list(IfRunning)[seed % 4],
            retries=RetryPolicy(attempts=2, delay_s=5.0),
            limits=Limits(total_s=900.0, cancel_grace_s=60.0),
        )
        story = _told(plan(lonely), seed, has_people=False)
        _check_story(story)
        _check_no_overlap(story)
