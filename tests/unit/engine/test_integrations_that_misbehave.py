"""Third-party code behind the protocol: whatever it raises or returns, the engine goes on and no node moves for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import pytest

from conductor.core.errors import ErrorClass, RefusedError
from conductor.core.events import RerunFrom
from conductor.core.vendor import (
    Baseline,
    ExternalRef,
    ExternalState,
    FindAnswer,
    Health,
    IfRunning,
    Observation,
    Request,
)
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, TAGGED, WINDOWED, FakeVendor, Sin
from tests.simulation.world import World, node, pipeline

MakeWorld = Callable[..., World]


class Odd(FakeVendor):
    """A vendor whose integration answers some calls with what it was told to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.odd: dict[str, Callable[[Any], Any]] = {}

    async def start(self, request: Request) -> ExternalRef:
        ref = await super().start(request)
        return cast("ExternalRef", self.odd["start"](ref)) if "start" in self.odd else ref

    async def prepare(self, request: Request) -> Baseline:
        baseline = await super().prepare(request)
        return cast("Baseline", self.odd["prepare"](baseline)) if "prepare" in self.odd else baseline

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        seen = await super().poll(refs)
        return cast("Mapping[str, Observation]", self.odd["poll"](seen)) if "poll" in self.odd else seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        found = await super().find(request, baseline)
        return cast("FindAnswer", self.odd["find"](found)) if "find" in self.odd else found

    async def check(self) -> Health:
        health = await super().check()
        return cast("Health", self.odd["check"](health)) if "check" in self.odd else health


def _fail(error: BaseException) -> Callable[[Any], Any]:
    def act(_: Any) -> Any:
        raise error

    return act


@pytest.mark.parametrize("sin", [Sin.RAISE_AFTER, Sin.CANCELLED])
def test_a_start_that_trips_over_its_answer_is_looked_up_and_adopted(make_world: MakeWorld, sin: Sin) -> None:
    vendor = FakeVendor("vendor", TAGGED, SimClock())
    world = make_world(pipeline(node("a", TAGGED)), vendors=(vendor,))
    vendor.will("start", sin)
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert world.attempt(run_id, "a").adopted == "found"
    assert len(vendor.ledger) == 1


@pytest.mark.parametrize("answer", [None, "job-7", ExternalRef(id=cast("str", 7)), ExternalRef(id="")])
def test_a_start_that_answers_no_reference_is_looked_up(make_world: MakeWorld, answer: object) -> None:
    vendor = Odd("vendor", TAGGED, SimClock())
    world = make_world(pipeline(node("a", TAGGED)), vendors=(vendor,))
    vendor.odd["start"] = lambda _: answer
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert len(vendor.ledger) == 1


@pytest.mark.parametrize("call", ["prepare", "poll", "find"])
@pytest.mark.parametrize("sin", [Sin.RAISE, Sin.CANCELLED, Sin.FAIL])
def test_a_read_that_raises_is_made_again(make_world: MakeWorld, call: str, sin: Sin) -> None:
    vendor = FakeVendor("vendor", WINDOWED, SimClock())
    world = make_world(pipeline(node("a", WINDOWED, scope="t")), vendors=(vendor,))
    vendor.will("start", Sin.LOSE_ANSWER)
    vendor.will(call, sin, sin, sin)
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert vendor.calls[call] > 3


@pytest.mark.parametrize("call", ["prepare", "poll", "find"])
def test_a_read_that_answers_nonsense_is_made_again(make_world: MakeWorld, call: str) -> None:
    vendor = Odd("vendor", WINDOWED, SimClock())
    world = make_world(pipeline(node("a", WINDOWED, scope="t")), vendors=(vendor,))
    vendor.will("start", Sin.LOSE_ANSWER)
    vendor.odd[call] = lambda _: {"vendor-1": "running"} if vendor.calls[call] < 4 else _
    if call != "poll":
        vendor.odd[call] = lambda answer: None if vendor.calls[call] < 4 else answer
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": {"at": datetime(2026, 1, 1), "bad": "\ud800", "nan": float("nan"), "set": {1}}},  # noqa: DTZ001
        {"started_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - what a careless integration makes of a vendor's time
        {"progress": float("nan")},
        {"word": "\x00\ud800"},
        {"outputs": None},
    ],
)
def test_an_observation_with_odd_values_ends_the_node_all_the_same(
    make_world: MakeWorld, changes: dict[str, Any]
) -> None:
    vendor = Odd("vendor", KEYED, SimClock())
    world = make_world(pipeline(node("a", KEYED), node("b", KEYED)), vendors=(vendor,))
    vendor.odd["poll"] = lambda seen: {ref: Observation(**{"state": one.state, **changes}) for ref, one in seen.items()}
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
    world.crash().boot()
    assert not world.engine.runs


@pytest.mark.parametrize("retry_after_s", [-5.0, 0.0, 1e9, 1e18, float("nan"), float("inf")])
@pytest.mark.parametrize("call", ["start", "poll", "prepare"])
def test_an_absurd_retry_after_is_bounded_to_an_hour(make_world: MakeWorld, call: str, retry_after_s: float) -> None:
    vendor = FakeVendor("vendor", WINDOWED, SimClock())
    world = make_world(pipeline(node("a", WINDOWED, scope="t")), vendors=(vendor,))
    vendor.retry_after_s = retry_after_s
    vendor.will(call, Sin.REFUSE)
    run_id = world.trigger()
    world.until_done(within_s=4200)
    assert world.states(run_id) == {"a": "succeeded"}
    assert vendor.calls["start"] + vendor.calls["prepare"] <= 4


def test_a_check_that_raises_leaves_the_connection_closed_and_is_made_again(make_world: MakeWorld) -> None:
    vendor = Odd("vendor", KEYED, SimClock())
    world = make_world(pipeline(node("a", KEYED)), vendors=(vendor,))
    world.engine.connections.close("vendor", "the token was refused")
    vendor.odd["check"] = lambda health: _fail(ValueError("?"))(0) if vendor.calls["check"] < 3 else health
    run_id = world.trigger()
    world.pass_time(100)
    assert world.states(run_id) == {"a": "queued"}
    world.until_done()
    assert vendor.calls["check"] == 3


def test_an_integration_that_cannot_be_built_closes_its_connection_and_no_other(make_world: MakeWorld) -> None:
    clock = SimClock()
    fine = FakeVendor("fine", KEYED, clock)
    world = make_world(
        pipeline(node("a", KEYED, on="missing"), name="one"),
        pipeline(node("b", KEYED, on="fine"), name="two"),
        vendors=(fine,),
    )
    broken, other = world.trigger("one"), world.trigger("two")
    world.pass_time(200)
    assert world.states(other) == {"b": "succeeded"}
    assert world.states(broken) == {"a": "queued"}
    assert "missing" in world.engine.connections.closed
    assert world.engine.blocker(broken, "a")
    world.vendors["missing"] = FakeVendor("missing", KEYED, clock)
    world.until_done()
    assert world.states(broken) == {"a": "succeeded"}


def test_an_external_run_is_never_tied_to_two_attempts(make_world: MakeWorld) -> None:
    vendor = Odd("vendor", TAGGED, SimClock())
    world = make_world(pipeline(node("a", TAGGED), node("b", TAGGED, ["a"])), vendors=(vendor,))
    vendor.odd["start"] = lambda _: ExternalRef(id="vendor-1")
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded", "b": "succeeded"}
    assert world.attempt(run_id, "b").adopted == "found"


def test_a_baseline_that_names_a_run_of_ours_is_waited_for_not_adopted_again(make_world: MakeWorld) -> None:
    vendor = Odd("vendor", WINDOWED, SimClock())
    plan = pipeline(node("a", WINDOWED, scope="t", if_running=IfRunning.ADOPT))
    world = make_world(plan, vendors=(vendor,))
    run_id = world.trigger()
    world.until_done()
    vendor.odd["prepare"] = lambda baseline: (
        Baseline(data=baseline.data, is_busy=True, running=ExternalRef(id="vendor-1"))
        if vendor.calls["prepare"] < 4
        else baseline
    )
    world.command(run_id, RerunFrom(node="a"))
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert len(vendor.ledger) == 2


def test_a_run_of_somebody_else_is_adopted_where_the_node_says_so(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", WINDOWED, SimClock())
    world = make_world(pipeline(node("a", WINDOWED, scope="t", if_running=IfRunning.ADOPT)), vendors=(vendor,))
    theirs = vendor.foreign("t", duration_s=50)
    run_id = world.trigger()
    world.until_done()
    attempt = world.attempt(run_id, "a")
    assert attempt.ref is not None
    assert (attempt.ref.id, attempt.adopted, vendor.ledger) == (theirs.id, "busy", [])


def test_an_unknown_word_is_followed_until_it_is_a_known_one(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s, vendor.plan.strange_s = (lambda _: 100.0), (lambda _: 60.0)
    run_id = world.trigger()
    world.pass_time(30)
    assert world.attempt(run_id, "a").seen_state is ExternalState.UNRECOGNISED
    assert world.states(run_id) == {"a": "running"}
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}


def test_a_refusal_by_quota_never_uses_up_patience(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.will("start", *[Sin.REFUSE] * 30)
    run_id = world.trigger()
    world.until_done()
    assert world.states(run_id) == {"a": "succeeded"}
    assert vendor.calls["start"] == 31
    assert RefusedError.error_class is ErrorClass.TRANSIENT
