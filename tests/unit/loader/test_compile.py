"""A definition becomes the plan that it says, the same one from text and from stored JSON, and nothing is guessed."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.errors import DefinitionError, ErrorClass, RequestError
from conductor.core.params import bind_params, parse_param
from conductor.core.plan import Backoff, ConcurrencyPolicy, OnFailure, ScheduleSpec, TriggerRule
from conductor.core.vendor import Delivery, IfRunning, OnUnknown
from conductor.loader import compile_definition
from conductor.loader.durations import format_duration, parse_duration
from conductor.loader.scope import ProjectFacts
from conductor.loader.synonyms import NODE_WORDS, PIPELINE_WORDS
from tests.unit.loader.fakes import FACTS, PLUGINS, context, good, load, pipeline

FULL = """
  last:
    uses: vendor.sync
    connection: main
    with: {target: "t${{ nodes.first.outputs.rows }}", schema: raw}
    depends_on: [first, other]
    if: ${{ nodes.first.outputs.rows > 0 }}
    trigger_rule: none_failed
    retries: {attempts: 3, on: [quota]}
    timeout: {queued: 5m, cancel_grace: 10s}
    on_failure: warn
    delivery: at_most_once
    on_unknown: fail
    if_running: skip
    settle_window: 1m30s
    resend_limit: 2
    pools: [heavy]
    priority: 7
    description: the end
  first: {uses: vendor.sync, with: {target: t}}
  other: {uses: local.wait, with: {target: t}}
"""
HEAD = """
description: all of it
owner: me
tags: [x]
schedule: {cron: "30 2 * * 1-5", timezone: Europe/London, catchup: true, max_catchup: 5}
timezone: Europe/Paris
params:
  regions: {type: list, default: [a]}
  ratio: {type: number, default: 1}
defaults: {retries: {attempts: 1, delay: 60s, backoff: linear}, timeout: 1h}
concurrency: {limit: 2, policy: skip}
run_timeout: 1d
priority: 3
"""


def test_everything_written_is_in_the_plan() -> None:
    plan = good(FULL, HEAD)
    assert list(plan.nodes) == ["first", "other", "last"]
    assert plan.schedule == ScheduleSpec(cron="30 2 * * 1-5", timezone="Europe/London", catchup=True, max_catchup=5)
    assert (plan.timezone, plan.owner, plan.tags, plan.priority) == ("Europe/Paris", "me", ("x",), 3)
    assert (plan.concurrency, plan.concurrency_policy) == (2, ConcurrencyPolicy.SKIP)
    assert plan.run_timeout_s == 86_400
    assert plan.params == {"regions": ["a"], "ratio": 1.0}
    assert type(plan.params["ratio"]) is float
    assert plan.param_types == {"regions": "list", "ratio": "number"}
    last = plan.nodes["last"]
    assert (last.connection, last.trigger_rule, last.on_failure) == ("main", TriggerRule.NONE_FAILED, OnFailure.WARN)
    assert (last.delivery, last.on_unknown, last.if_running) == (Delivery.AT_MOST_ONCE, OnUnknown.FAIL, IfRunning.SKIP)
    assert (last.settle_window_s, last.resend_limit, last.pools, last.priority) == (90, 2, ("heavy",), 7)
    assert last.condition is not None
    assert last.condition.evaluate(context(nodes={"first": {"outputs": {"rows": 0}}})) is False


def test_defaults_are_merged_field_by_field_and_the_operation_gives_the_rest() -> None:
    plan = good(FULL, HEAD)
    last, first = plan.nodes["last"], plan.nodes["first"]
    assert (last.retries.attempts, last.retries.delay_s, last.retries.backoff) == (3, 60, Backoff.LINEAR)
    assert last.retries.on == {ErrorClass.QUOTA}
    assert (last.limits.total_s, last.limits.queued_s, last.limits.cancel_grace_s) == (3600, 300, 10)
    assert (first.retries.attempts, first.limits.total_s, first.settle_window_s) == (1, 3600, 77)
    assert (first.delivery, first.if_running) == (Delivery.PREFER_LOOKUP, IfRunning.WAIT)


def test_a_constant_node_is_rendered_once_by_the_names_that_users_write() -> None:
    constant = good(FULL, HEAD).nodes["first"].settings.constant
    assert constant is not None
    assert constant.scope == "t"
    assert constant.settings == {"target": "t", "rows": 0, "full": False, "labels": [], "schema": "public"}
    escaped = good('  a: {uses: vendor.sync, with: {target: "$${{ x }}"}}\n').nodes["a"].settings.constant
    assert escaped is not None
    assert escaped.settings["target"] == "${{ x }}"


def test_a_stored_definition_gives_an_equal_plan() -> None:
    plan = good(FULL, HEAD)
    stored = json.loads(json.dumps(plan.definition))
    assert compile_definition(stored, plugins=PLUGINS, project=FACTS) == plan


def test_the_version_depends_on_the_content_and_not_on_the_order_of_keys() -> None:
    plan = good("  a: {uses: vendor.sync, with: {target: t}}\n", "owner: me\n")
    turned = {key: plan.definition[key] for key in reversed(list(plan.definition))}
    assert compile_definition(turned, plugins=PLUGINS, project=FACTS).version == plan.version
    assert len(plan.version) == 12
    other = good("  a: {uses: vendor.sync, with: {target: u}}\n", "owner: me\n")
    assert other.version != plan.version


def test_a_definition_without_text_is_refused_by_name_and_without_lines() -> None:
    with pytest.raises(DefinitionError, match=r"pipeline x cannot be used: .*did you mean `vendor.sync`") as caught:
        compile_definition(
            {"version": 1, "name": "x", "nodes": {"a": {"uses": "vendr.go"}}}, plugins=PLUGINS, project=FACTS
        )
    assert [getattr(diagnostic, "line", None) for diagnostic in caught.value.diagnostics] == [0]


def test_a_definition_of_any_depth_is_refused_without_recursion() -> None:
    deep: object = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DefinitionError, match="CND007"):
        compile_definition({"name": "x", "nodes": deep}, plugins=PLUGINS, project=FACTS)
    while isinstance(deep, list):
        deep = deep.pop()


def test_all_mistakes_are_named_at_once_in_order_of_position() -> None:
    text = pipeline(
        "  a: {uses: vendor.sync, with: {target: t, extra: 1}, needs: [b]}\n"
        "  b: {uses: vendor.snc, depends_on: [c]}\n"
        "  d: {uses: vendor.sync, with: {target: '${{ params.x }}'}, timeout: PT5M}\n",
        "timezone: Mars/North\n",
    )
    diagnostics = load(text)[1]
    assert [diagnostic.code for diagnostic in diagnostics] == [
        "CND013", "CND002", "CND002", "CND031", "CND020", "CND051", "CND011",
    ]  # fmt: skip
    assert [diagnostic.line for diagnostic in diagnostics] == sorted(diagnostic.line for diagnostic in diagnostics)


def test_the_only_connection_of_a_type_is_used_and_several_must_be_chosen_from() -> None:
    node = pipeline("  a: {uses: vendor.sync, with: {target: t}}\n")
    two = {"one": "vendor", "two": "vendor"}
    assert {found.code for found in load(node, ProjectFacts(connections=two))[1]} == {"CND032"}
    plan, _ = load(node, ProjectFacts(connections=two, default_connections={"vendor": "two"}))
    assert plan is not None
    assert plan.nodes["a"].connection == "two"
    assert good("  a: {uses: local.wait, with: {target: t}}\n").nodes["a"].connection == "local"


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
def test_a_vendor_that_recognises_nothing_needs_a_choice(delivery: str) -> None:
    node = f"  a: {{uses: vendor.fire, with: {{target: t}}, delivery: {delivery}}}\n"
    assert good(node).nodes["a"].delivery == delivery
    keyed = "  a: {uses: vendor.keyed, with: {target: t}, delivery: effectively_once}\n"
    assert good(keyed).nodes["a"].delivery is Delivery.EFFECTIVELY_ONCE


def test_nodes_below_a_dead_branch_are_warned_of_but_not_refused() -> None:
    plan, diagnostics = load(
        pipeline(
            "  a: {uses: vendor.sync, with: {target: t}, if: false}\n"
            "  b: {uses: vendor.sync, with: {target: t}, depends_on: [a]}\n"
            "  c: {uses: vendor.sync, with: {target: t}, depends_on: [b], trigger_rule: all_done}\n"
        )
    )
    assert plan is not None
    assert [(found.code, found.line, found.severity) for found in diagnostics] == [
        ("CND025", 4, "warning"),
        ("CND025", 5, "warning"),
    ]


@pytest.mark.parametrize("word", [*NODE_WORDS])
def test_words_of_other_tools_get_our_word(word: str) -> None:
    found = load(pipeline(f"  a: {{uses: vendor.sync, with: {{target: t}}, {word}: x}}\n"))[1]
    assert [(one.code, one.help) for one in found if one.code == "CND002"] == [("CND002", NODE_WORDS[word])]


@pytest.mark.parametrize("word", [*PIPELINE_WORDS])
def test_words_of_other_tools_get_our_word_also_at_the_top(word: str) -> None:
    found = load(pipeline("  a: {uses: vendor.sync, with: {target: t}}\n", f"'{word}': x\n"))[1]
    assert [(one.code, one.help) for one in found] == [("CND002", PIPELINE_WORDS[word])]


@given(st.integers(0, 365 * 86_400))
def test_durations_are_read_as_they_are_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "1.5h", "-1m", "1m1h", "1 h", "PT", "366d", "٣m", "1h\n", "9" * 30 + "s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|365|ISO"):
        parse_duration(text)


def test_a_run_gets_all_parameters_checked_and_in_order() -> None:
    plan = good(
        "  a: {uses: vendor.sync, with: {target: t}}\n",
        "params: {n: {type: integer}, r: {type: number, default: 1}, s: x}\n",
    )
    assert bind_params(plan, {"n": 1, "r": 2}) == {"n": 1, "r": 2.0, "s": "x"}
    with pytest.raises(RequestError, match=r"`m` is not a parameter.*`s`: expected string.*`n` is required"):
        bind_params(plan, {"m": 1, "s": True})
    assert parse_param(plan, "s", "1") == "1"
    assert parse_param(plan, "r", "1") == 1.0
    with pytest.raises(RequestError, match="expected integer, found boolean"):
        parse_param(plan, "n", "true")


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["nodes", "a", "uses", "with", "depends_on", "if", "retries", "timeout", "params", "name"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_plan_or_a_definition_error(body: object) -> None:
    definition = {"version": 1, "name": "x", "nodes": {"a": {"uses": "vendor.sync", "with": {"target": "t"}}}}
    if isinstance(body, dict):
        definition |= body
    else:
        definition["nodes"] = body
    with contextlib.suppress(DefinitionError):
        compile_definition(definition, plugins=PLUGINS, project=FACTS)
