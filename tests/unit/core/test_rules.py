"""The graph: when a node begins, what an end means downstream, and what the run makes of it all."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations_with_replacement
from typing import Any

import pytest

from conductor.core.context import NodeFacts, RunFacts, build_context
from conductor.core.errors import ErrorClass, ExpressionError
from conductor.core.events import Begin, CancelNode
from conductor.core.node import judge
from conductor.core.plan import OnFailure, TriggerRule
from conductor.core.run import Trigger
from conductor.core.states import NodeState, RunState
from conductor.core.vendor import ExternalState, IfRunning
from tests.unit.core.worlds import KEYED, EchoTemplate, FakeExpression, FakeTemplate, World, node, plan

_N = NodeState
_GO, _SKIP, _BLOCK = _N.QUEUED, _N.SKIPPED, _N.UPSTREAM_FAILED
_WAIT: NodeState | None = None

# What one upstream node may be, by what the rules make of it.
_GOOD = (_N.SUCCEEDED, _N.WARNED)
_BAD = (_N.FAILED, _N.UPSTREAM_FAILED, _N.CANCELLED)
_PASSED = (_N.SKIPPED,)
_OPEN = (_N.WAITING, _N.QUEUED, _N.RUNNING, _N.RETRYING, _N.HELD)

# (kinds upstream) → what each rule says, in the order of _RULES.
_RULES = (
    TriggerRule.ALL_SUCCESS,
    TriggerRule.ALL_DONE,
    TriggerRule.ONE_SUCCESS,
    TriggerRule.ONE_FAILED,
    TriggerRule.NONE_FAILED,
    TriggerRule.ALL_FAILED,
    TriggerRule.ALWAYS,
)
_TABLE: dict[tuple[tuple[NodeState, ...], ...], tuple[NodeState | None, ...]] = {
    (_GOOD,): (_GO, _GO, _GO, _SKIP, _GO, _SKIP, _GO),
    (_BAD,): (_BLOCK, _GO, _BLOCK, _GO, _BLOCK, _GO, _GO),
    (_PASSED,): (_SKIP, _GO, _SKIP, _SKIP, _GO, _SKIP, _GO),
    (_OPEN,): (_WAIT, _WAIT, _WAIT, _WAIT, _WAIT, _WAIT, _GO),
    (_GOOD, _GOOD): (_GO, _GO, _GO, _SKIP, _GO, _SKIP, _GO),
    (_GOOD, _BAD): (_BLOCK, _GO, _GO, _GO, _BLOCK, _SKIP, _GO),
    (_GOOD, _PASSED): (_SKIP, _GO, _GO, _SKIP, _GO, _SKIP, _GO),
    (_GOOD, _OPEN): (_WAIT, _WAIT, _GO, _WAIT, _WAIT, _SKIP, _GO),
    (_BAD, _BAD): (_BLOCK, _GO, _BLOCK, _GO, _BLOCK, _GO, _GO),
    (_BAD, _PASSED): (_BLOCK, _GO, _BLOCK, _GO, _BLOCK, _SKIP, _GO),
    (_BAD, _OPEN): (_WAIT, _WAIT, _WAIT, _GO, _WAIT, _WAIT, _GO),
    (_PASSED, _PASSED): (_SKIP, _GO, _SKIP, _SKIP, _GO, _SKIP, _GO),
    (_PASSED, _OPEN): (_WAIT, _WAIT, _WAIT, _WAIT, _WAIT, _SKIP, _GO),
    (_OPEN, _OPEN): (_WAIT, _WAIT, _WAIT, _WAIT, _WAIT, _WAIT, _GO),
}


def test_the_table_of_rules_is_whole() -> None:
    kinds = (_GOOD, _BAD, _PASSED, _OPEN)
    assert set(_TABLE) == {(kind,) for kind in kinds} | set(combinations_with_replacement(kinds, 2))
    assert set(_RULES) == set(TriggerRule)
    assert {state for kind in kinds for state in kind} == set(NodeState)


@pytest.mark.parametrize("upstream", list(_TABLE), ids=lambda kinds: "+".join(kind[0].value for kind in kinds))
@pytest.mark.parametrize(("rule", "column"), [(rule, n) for n, rule in enumerate(_RULES)])
def test_each_rule_judges_every_mix_of_states_in_any_order(
    rule: TriggerRule, column: int, upstream: tuple[tuple[NodeState, ...], ...]
) -> None:
    expected = _TABLE[upstream][column]
    mixes: list[list[NodeState]] = [[]]
    for kind in upstream:
        mixes = [[*mix, state] for mix in mixes for state in kind]
    for mix in mixes:
        assert judge(rule, mix) is expected, mix
        assert judge(rule, reversed(mix)) is expected, mix


def test_a_node_that_depends_on_nothing_begins_when_its_rule_can_be_kept() -> None:
    assert [judge(rule, []) for rule in _RULES] == [_GO, _GO, _SKIP, _SKIP, _GO, _GO, _GO]


# --- a run of several nodes ---


def test_nodes_begin_as_soon_as_what_they_need_is_done() -> None:
    world = World.begun(node("a"), node("b"), node("c", after=["a", "b"]), node("d", after=["a"]))
    assert world.owed() == ["Start a", "Start b"]
    world.finish("a")
    assert world.owed() == ["Start b", "Start d"]
    world.finish("b")
    assert world.owed() == ["Start c", "Start d"]
    world.finish("c")
    assert world.run.state is RunState.RUNNING
    world.finish("d")
    assert (world.run.state, world.run.ended_at) == (RunState.SUCCEEDED, world.now)


def test_nothing_begins_before_the_run_does() -> None:
    world = World.queued(plan(node("a", trigger_rule=TriggerRule.ALWAYS)))
    assert (world.states(), world.owed()) == ({"a": "waiting"}, [])


def test_beginning_twice_changes_nothing() -> None:
    world = World.begun(node("a"))
    assert world.try_step(Begin()).run is world.run


def test_a_run_of_no_nodes_is_done_when_it_begins() -> None:
    assert World.begun().run.state is RunState.SUCCEEDED


def test_a_failure_blocks_everything_that_needs_it_and_names_the_culprit() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("c", after=["b"]), node("d")).fail("a")
    assert world.states() == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed", "d": "queued"}
    assert world.node("c").reason == "b is upstream_failed"
    assert world.run.state is RunState.RUNNING
    world.finish("d")
    assert (world.run.state, world.run.reason) == (RunState.FAILED, "a failed: it broke")


def test_a_skip_passes_on_and_does_not_fail_the_run() -> None:
    world = World.begun(node("a", condition=FakeExpression(False)), node("b", after=["a"]), node("c", after=["b"]))
    assert world.states() == {"a": "skipped", "b": "skipped", "c": "skipped"}
    assert world.run.state is RunState.SUCCEEDED
    assert world.node("a").reason == "if: x is false"


def test_a_skip_because_of_a_busy_object_passes_on() -> None:
    world = World.begun(node("a", if_running=IfRunning.SKIP), node("b", after=["a"])).permit("a").busy("a")
    assert world.states() == {"a": "skipped", "b": "skipped"}


def test_a_rescue_runs_when_something_failed_and_the_run_fails_all_the_same() -> None:
    rescue = node("c", after=["a", "b"], trigger_rule=TriggerRule.ONE_FAILED)
    world = World.begun(node("a"), node("b"), rescue).fail("a")
    assert "Start c" in world.owed()
    world.finish("b").finish("c")
    assert world.run.state is RunState.FAILED


def test_a_clean_up_runs_whatever_happened_before() -> None:
    world = World.begun(node("a"), node("b", after=["a"]), node("z", after=["b"], trigger_rule=TriggerRule.ALL_DONE))
    world.fail("a")
    assert world.owed() == ["Start z"]


def test_a_node_cancelled_by_a_person_counts_as_failed_downstream() -> None:
    world = World.begun(node("a"), node("b", after=["a"])).tell(CancelNode(node="a"))
    assert world.states() == {"a": "cancelled", "b": "upstream_failed"}
    assert world.run.state is RunState.FAILED


# --- on_failure ---


@pytest.mark.parametrize(
    ("on_failure", "a", "b", "run"),
    [
        (OnFailure.FAIL, "failed", "upstream_failed", RunState.FAILED),
        (OnFailure.WARN, "warned", "succeeded", RunState.SUCCEEDED),
        (OnFailure.CONTINUE, "failed", "upstream_failed", RunState.SUCCEEDED),
    ],
)
def test_the_node_decides_what_its_failure_means(on_failure: OnFailure, a: str, b: str, run: RunState) -> None:
    world = World.begun(node("a", on_failure=on_failure), node("b", after=["a"])).fail("a")
    if on_failure is OnFailure.WARN:
        world.finish("b")
    assert (world.states(), world.run.state) == ({"a": a, "b": b}, run)


def test_a_failure_that_counts_is_not_hidden_by_one_that_does_not() -> None:
    world = World.begun(node("a", on_failure=OnFailure.CONTINUE), node("b"), node("c", after=["a", "b"]))
    world.fail("a").fail("b")
    assert (world.run.state, world.run.reason) == (RunState.FAILED, "b failed: it broke")


def test_a_harmless_failure_stays_harmless_all_the_way_down() -> None:
    world = World.begun(
        node("a", on_failure=OnFailure.CONTINUE), node("b", after=["a"]), node("c", after=["b"]), node("d")
    )
    assert world.fail("a").finish("d").run.state is RunState.SUCCEEDED


@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_a_rejected_start_is_a_failure_like_any_other(on_failure: OnFailure) -> None:
    world = World.begun(node("a", on_failure=on_failure)).permit("a").reject("a")
    assert world.node("a").state is (_N.WARNED if on_failure is OnFailure.WARN else _N.FAILED)


def test_a_warning_of_the_vendor_counts_as_success_and_keeps_its_words() -> None:
    world = World.begun(node("a"), node("b", after=["a"]))
    world.finish("a", ExternalState.WARNED, message="3 rows rejected", outputs={"rows": 9}).finish("b")
    assert (world.node("a").reason, world.node("a").outputs) == ("3 rows rejected", {"rows": 9})
    assert world.run.state is RunState.SUCCEEDED


# --- conditions, expressions, outputs ---


def test_a_true_condition_lets_the_node_go() -> None:
    assert World.begun(node("a", condition=FakeExpression(True))).owed() == ["Start a"]


@pytest.mark.parametrize("value", ["yes", 1, None, ExpressionError("nodes.b: no such node")])
@pytest.mark.parametrize("on_failure", [OnFailure.FAIL, OnFailure.WARN])
def test_a_condition_that_is_neither_true_nor_false_fails_the_node(value: Any, on_failure: OnFailure) -> None:
    world = World.begun(node("a", condition=FakeExpression(value), on_failure=on_failure))
    assert world.node("a").state is (_N.FAILED if on_failure is OnFailure.FAIL else _N.WARNED)
    trouble = world.node("a").error
    assert trouble is not None
    assert trouble.error_class is ErrorClass.CONFIG


def test_settings_that_do_not_fit_the_run_s_values_fail_the_node_without_an_attempt() -> None:
    world = World.begun(node("a", settings=FakeTemplate(broken_from=1)), node("b", after=["a"]))
    assert world.states() == {"a": "failed", "b": "upstream_failed"}
    assert world.node("a").attempt is None


def test_outputs_reach_the_settings_downstream() -> None:
    world = World.begun(node("a"), node("b", after=["a"], settings=EchoTemplate("a")))
    world.finish("a", outputs={"table": "orders"})
    assert world.attempt("b").settings == {"table": "orders"}


def test_settings_are_frozen_when_the_attempt_is_planned() -> None:
    world = World.begun(node("a", settings=FakeTemplate({"table": "t"}, scope="t")))
    planned = world.attempt("a")
    world.permit("a").lose("a").not_seen("a").wake_when_due().permit("a")
    assert (world.attempt("a").settings, world.attempt("a").scope) == (planned.settings, "t")


def test_expressions_see_ended_nodes_only_and_the_date_in_the_pipeline_s_zone() -> None:
    seen: dict[str, Any] = {}

    class Spy:
        source = "spy"

        def evaluate(self, context: Any) -> bool:
            seen.update(context)
            return True

    spy = node("c", after=["a", "b"], trigger_rule=TriggerRule.ONE_SUCCESS, condition=Spy())
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    world = World.queued(
        plan(node("a"), node("b"), spy, timezone="Europe/London", owner="data"),
        trigger=Trigger.BACKFILL,
        slot=datetime(2026, 7, 1, 23, 30, tzinfo=UTC),
        params={"day": 1},
    )
    world.tell(Begin()).finish("a", outputs={"rows": 1})
    assert seen["nodes"] == {"a": {"status": "succeeded", "outputs": {"rows": 1}}}
    assert seen["run"] == {
        "id": world.run.id,
        "date": "2026-07-02",
        "logical_time": "2026-07-01T23:30:00+00:00",
        "scheduled_for": "2026-07-01T23:30:00+00:00",
        "trigger": "backfill",
        "attempt": 1,
        "is_backfill": True,
    }
    assert seen["params"] == {"day": 1}
    assert seen["pipeline"] == {"name": "p", "version": "0" * 12, "owner": "data"}
    facts = RunFacts(id="r", logical_at=late, scheduled_for=None, trigger="manual")
    winter = build_context(params={}, run=facts, nodes={"a": NodeFacts(status="failed")}, plan=world.run.plan)
    run = winter["run"]
    assert isinstance(run, dict)
    assert (run["date"], run["scheduled_for"]) == ("2026-03-01", None)


def test_a_run_begins_with_the_facts_of_its_trigger() -> None:
    world = World.queued(plan(node("a", KEYED), priority=3), actor="ana", reason="late data")
    run = world.run
    assert (run.state, run.seq, run.priority, run.actor, run.reason) == (RunState.QUEUED, 1, 3, "ana", "late data")
    assert world.journal[0].detail == {"trigger": "manual", "actor": "ana", "slot": None}
    assert run.logical_at == run.created_at
