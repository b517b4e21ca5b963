"""Explanations name the one thing that holds a run or node back, when that may change, and what a person can do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from conductor.core.admit import Limits, Usage
from conductor.core.cadence import Expected
from conductor.core.errors import ErrorClass, NotFoundError
from conductor.core.events import CancelRun, Pause
from conductor.core.plan import OnFailure, RetryPolicy
from conductor.core.states import RunState
from conductor.core.vendor import ExternalState, OnUnknown
from conductor.service.queue import usage_of
from conductor.service.reasons import Facts, Held
from conductor.service.why import explain, root_of
from tests.unit.core.worlds import BLIND, WINDOWED, FakeTemplate, World, error, node, plan


def facts(world: World, **changes: Any) -> Facts:
    given: dict[str, Any] = {"now": world.now, "is_served": True, "usage": usage_of([world.run])}
    return Facts(**(given | changes))


def test_a_queued_run_waits_for_other_runs_of_its_pipeline() -> None:
    world = World.queued(plan(node(), concurrency=1))
    why = explain(world.run, facts(world, active={"other": RunState.RUNNING, world.run.id: RunState.QUEUED}))
    assert why.held_by is Held.CONCURRENCY
    assert "1 of 1" in why.summary
    assert why.next[0] == "conductor why other"


@pytest.mark.parametrize(
    ("changes", "held_by", "first"),
    [
        ({"is_pipeline_paused": True}, Held.PAUSED, "conductor pipelines resume p"),
        ({"is_served": False}, Held.SERVICE, "conductor serve"),
        ({}, Held.NOTHING, "conductor runs cancel"),
    ],
)
def test_a_queued_run_says_what_must_happen_first(changes: Mapping[str, Any], held_by: Held, first: str) -> None:
    world = World.queued(plan(node()))
    why = explain(world.run, facts(world, **changes))
    assert (why.held_by, why.node) == (held_by, "")
    assert why.next[0].startswith(first)


@pytest.mark.parametrize(
    ("changes", "held_by", "words"),
    [
        ({"is_pipeline_paused": True}, Held.PAUSED, "pipeline p is paused"),
        ({"closed": {"fake": "401 Unauthorized"}}, Held.CONNECTION, "401 Unauthorized"),
        ({"is_served": False}, Held.SERVICE, "no service"),
        ({"limits": Limits(connections={"fake": 0})}, Held.POOL, "connection fake is full"),
        ({}, Held.NOTHING, "about to start"),
    ],
)
def test_a_queued_node_names_its_blocker(changes: Mapping[str, Any], held_by: Held, words: str) -> None:
    world = World.begun(node())
    why = explain(world.run, facts(world, **changes))
    assert (why.node, why.held_by) == ("n", held_by)
    assert words in why.summary


def test_a_full_pool_is_counted_from_the_states_of_all_active_runs() -> None:
    busy = World.begun(node(pools=("warehouse",))).start()
    world = World.begun(node(pools=("warehouse",)))
    usage = usage_of([busy.run, world.run])
    why = explain(world.run, facts(world, usage=usage, limits=Limits(pools={"warehouse": 1})))
    assert why.held_by is Held.POOL
    assert why.summary == "pool warehouse is full (1 at once)"


def test_an_exclusive_object_that_is_busy_is_named() -> None:
    settings = FakeTemplate(scope="orders")
    busy = World.begun(node(caps=WINDOWED, settings=settings)).start()
    world = World.begun(node(caps=WINDOWED, settings=settings))
    why = explain(world.run, facts(world, usage=usage_of([busy.run, world.run])))
    assert why.held_by is Held.POOL
    assert "orders" in why.summary


def test_a_refused_start_says_when_it_is_tried_again() -> None:
    world = World.begun(node()).permit().refuse(retry_after_s=90.0)
    why = explain(world.run, facts(world))
    assert why.held_by is Held.REFUSED
    assert why.until == world.attempt().not_before
    assert "HTTP 503" in why.summary


def test_a_waiting_node_names_the_node_at_the_bottom_of_it() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("c", after=["b"])).start("a")
    assert root_of(world.run, "c") == "a"
    why = explain(world.run, facts(world), "c")
    assert (why.held_by, why.root) == (Held.UPSTREAM, "a")
    assert "waits for a, which is running" in why.summary
    assert why.link == "https://vendor.example/r1"


def test_a_running_node_is_expected_to_end_by_its_history() -> None:
    world = World.begun(node()).start().observe(ExternalState.RUNNING, word="SYNCING")
    why = explain(world.run, facts(world, expected={"n": Expected(low_s=60, high_s=120)}))
    assert (why.held_by, why.until_is_estimate) == (Held.VENDOR, True)
    assert why.until is not None
    assert (why.until - world.now).total_seconds() == pytest.approx(90)
    assert "SYNCING" in why.summary


def test_without_history_there_is_no_estimate() -> None:
    world = World.begun(node()).start()
    assert explain(world.run, facts(world)).until is None


def test_a_lost_start_is_being_looked_up() -> None:
    world = World.begun(node()).permit().lose()
    why = explain(world.run, facts(world))
    assert why.held_by is Held.LOOKUP
    assert why.until == world.attempt().settle_until


def test_a_held_node_asks_a_person_and_says_how_to_decide() -> None:
    world = World.begun(node(caps=BLIND, on_unknown=OnUnknown.HOLD)).permit().lose()
    world.later(10_000).not_seen()
    why = explain(world.run, facts(world))
    assert (why.state, why.held_by) == ("held", Held.PERSON)
    assert any("runs mark" in line and "succeeded" in line for line in why.next)
    assert any("runs retry" in line for line in why.next)


def test_a_retrying_node_says_when_and_how_often() -> None:
    policy = RetryPolicy(attempts=2, delay_s=60.0, on=frozenset({ErrorClass.DATA}))
    world = World.begun(node(retries=policy)).fail()
    why = explain(world.run, facts(world))
    assert why.held_by is Held.RETRY
    assert why.until == world.node().retry_at
    assert "2 more allowed" in why.summary


def test_a_failed_run_leads_to_the_node_whose_failure_counts() -> None:
    world = World.begun(node("soft", on_failure=OnFailure.CONTINUE), node("hard"), node("below", after=["hard"]))
    world.fail("soft").fail("hard")
    assert world.run.state is RunState.FAILED
    why = explain(world.run, facts(world))
    assert (why.node, why.held_by) == ("hard", Held.FAILURE)
    assert why.error is not None
    assert why.error.error_class == "data"
    assert why.blocks == ("below",)
    assert any(line.startswith("conductor runs retry") for line in why.next)


def test_a_node_that_was_not_run_names_the_failure_above() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("c", after=["b"])).fail("a")
    why = explain(world.run, facts(world), "c")
    assert (why.state, why.root) == ("upstream_failed", "a")
    assert "it broke" in why.summary


def test_a_failure_by_credentials_leads_to_the_connection() -> None:
    world = World.begun(node()).permit().reject(why=error(ErrorClass.AUTH, "401"))
    assert explain(world.run, facts(world)).next[0] == "conductor connections test fake"


def test_a_paused_run_is_resumed_by_itself_unless_its_pipeline_is_paused() -> None:
    world = World.begun(node()).tell(Pause())
    why = explain(world.run, facts(world))
    assert (why.held_by, why.next[0]) == (Held.PAUSED, f"conductor runs resume {world.run.id}")


@pytest.mark.parametrize("is_served", [True, False])
def test_what_runs_at_a_vendor_without_a_service_is_said_not_to_be_followed(is_served: bool) -> None:
    world = World.begun(node()).start()
    assert bool(explain(world.run, facts(world, is_served=is_served)).note) is not is_served


def test_ended_runs_hold_nothing_back() -> None:
    done = World.begun(node()).finish()
    cancelled = World.queued(plan(node())).tell(CancelRun(actor="ana"))
    assert explain(done.run, facts(done)).held_by is Held.NOTHING
    assert "ana" in explain(cancelled.run, facts(cancelled)).summary


def test_an_unknown_node_is_named_with_those_that_exist() -> None:
    world = World.begun(node("a"))
    with pytest.raises(NotFoundError, match="its nodes are a"):
        explain(world.run, facts(world), "b")


def test_the_answer_is_a_versioned_object() -> None:
    world = World.begun(node()).fail()
    told = explain(world.run, facts(world)).to_json()
    assert (told["version"], told["kind"], told["held_by"]) == (1, "why", "failure")
    assert not any(isinstance(value, datetime) for value in told.values())


def test_usage_of_no_runs_blocks_nobody() -> None:
    assert isinstance(usage_of([]), Usage)
