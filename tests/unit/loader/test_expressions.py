"""Expressions keep their promises: plain JSON or an ExpressionError, in bounded time, with the types people expect."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.errors import ExpressionError
from conductor.core.vendor import Json
from conductor.loader.celscan import ScanError, scan
from conductor.loader.expressions import compile_expression, find_expressions
from tests.unit.loader.fakes import context, good

CONTEXT = context(
    params={"n": 3, "s": "text", "list": [1, 2], "map": {"k": "v"}, "none": None, "half": 0.5, "yes": True},
    nodes={"a": {"status": "succeeded", "outputs": {"rows": 7}}, "skipped": {"status": "skipped", "outputs": {}},
           "a-b": {"status": "failed", "outputs": {}}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("params.n", 3), ("params.n + 1", 4), ("params.half", 0.5), ("params.yes", True), ("params.none", None),
        ("params.list", [1, 2]), ("params.map", {"k": "v"}), ("params.map.k", "v"), ("params['s']", "text"),
        ("nodes['a-b'].status", "failed"), ("nodes.a.outputs.rows > 5 && params.yes", True),
        ("has(nodes.skipped.outputs.rows)", False), ("has(nodes.a.outputs.rows) ? nodes.a.outputs.rows : 0", 7),
        ("has(nodes.not_ended.outputs.rows)", False), ("params.list.map(x, x * 2)", [2, 4]),
        ("params.list.filter(x, x > 1).map(y, y + 1)", [3]), ("params.list.exists(x, x == 2)", True),
        ("size(params.s)", 4), ("params.s.matches('^t.*t$')", True), ("run.date + 'T00'", "2026-01-05T00"),
        ("timestamp('2026-01-05T06:00:00Z') + duration('1h')", "2026-01-05T07:00:00+00:00"), ("duration('90s')", "90s"),
        ("{'a': {'b': 1}}", {"a": {"b": 1}}), ("'}}'", "}}"), ("params.n == 3 ? 'x' : 'y'", "x"), ("env", "test"),
        ("type(params.n) == int", True), ("'a' in params.map", False), ("!params.yes", False), ("-params.n", -3),
    ],
)  # fmt: skip
def test_values_keep_their_types(source: str, value: Json) -> None:
    got = compile_expression(source).evaluate(CONTEXT)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "source",
    [
        "nodes.skipped.outputs.rows", "nodes.nobody.status", "params.missing", "params.n + 'x'", "params.n + 0.5",
        "1 / 0", "1 % 0", "9223372036854775807 + 1", "params.list[9]", "int('x')", "1.0 / 0.0", "b'x'", "{1: 2}",
        "params.s.matches('(')",
        "timestamp('x')", "params.n()", "params.s.__class__", "double('nan')", "-(-9223372036854775807 - 1) - 1",
        "timestamp('9999-12-31T23:59:59Z') + duration('99999h')", "uint(-1)", "int(1e300)",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_expression_error_that_says_what_to_do(source: str) -> None:
    with pytest.raises(ExpressionError, match=r"^\$\{\{ .*(; |: )"):
        compile_expression(source).evaluate(CONTEXT)


@pytest.mark.parametrize(
    "source",
    [
        "", "1 +", "(", "'a", "params.é", "x" * 501, "(" * 33, "[1].map(x, [2].map(y, 1))", "[1].map(x, x).map(y, y)",
        "[1].all(a, true) && [1].all(b, true) && [1].all(c, true)", "[''].exists(x, x.matches('a'))",
        "'a'.matches('a') && 'a'.matches('b') && 'a'.matches('c')", "99999999999999999999",
        "[1].filter(x, [2].exists(y, true))",
    ],
)  # fmt: skip
def test_what_is_not_cel_or_too_much_is_refused_when_compiled(source: str) -> None:
    with pytest.raises(ScanError):
        compile_expression(source)


def nested(depth: int) -> Json:
    value: Json = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("source", "params"),
    [
        ("params.l.map(x, x)", {"l": list(range(100_000))}),
        ("(params.l + params.l + params.l).map(x, x)", {"l": list(range(400))}),
        ("params.l.map(x, params.s)", {"l": list(range(400)), "s": "a" * 1_000_000}),
        ("params.s.matches('(a{1,100}){1,100}b')", {"s": "a" * 1_000_000}),
        ("+".join(["params.s"] * 40), {"s": "a" * 1_000_000}),
        ("params", {"l": [[]] * 1_000_000}),
        ("params.d", {"d": nested(500)}),
    ],
)
def test_values_that_would_take_long_are_refused_at_once(source: str, params: dict[str, Json]) -> None:
    before = time.process_time()
    with pytest.raises(ExpressionError):
        compile_expression(source).evaluate(context(params=params))
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    "source",
    [
        "params.l.map(x, [x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x])", "params.l.map(x, params.s)",
        "params.l.filter(x, params.s + params.s != params.s)", "params.s.matches('(a{1,100}){1,50}b')",
    ],
)  # fmt: skip
def test_the_most_that_is_allowed_stays_short(source: str) -> None:
    before = time.process_time()
    with contextlib.suppress(ExpressionError):
        compile_expression(source).evaluate(context(params={"l": list(range(490)), "s": "a" * 3_900}))
    assert time.process_time() - before < 3


def test_an_expression_sees_only_what_it_names() -> None:
    loud = {"status": "succeeded", "outputs": {"x": object()}}
    assert compile_expression("params.n").evaluate({**CONTEXT, "nodes": {"other": loud}}) == 3


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["params", ".n", ".list", ".map(", "x", ", ", ")", "(", "[", "]", "'a'", "1", "0.5", " + ", " == ", "?",
                 ":", "nodes", ".a", ".outputs", "has(", "size(", "{", "}", "!", "-", "&&", "||", "in",
                 "null", ".matches("]
            ),
            max_size=20,
        ).map("".join),
    )
)  # fmt: skip
def test_any_text_is_a_value_a_scan_error_or_an_expression_error(source: str) -> None:
    with contextlib.suppress(ScanError, ExpressionError):
        compile_expression(source).evaluate(CONTEXT)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("nodes.a.outputs.rows + params.x", ["nodes.a.outputs.rows", "params.x"]),
        ("params.list.map(params, params + run.id)", ["params.list", "run.id"]),
        ("nodes['a-b'].status", ["nodes['a-b'].status"]),
        ("'params.x' + \"nodes.y\"", []),
        ("x.y().z", ["x"]),
        ("params.x // nodes.y", ["params.x"]),
        ("nodes[params.which].status", ["nodes", "params.which"]),
    ],
)
def test_names_are_found_without_running_anything(source: str, names: list[str]) -> None:
    assert [str(reference) for reference in scan(source).references] == names


def test_an_escaped_opening_is_text() -> None:
    assert [part.text for part in find_expressions("a $${{ b }} ${{ c }}")] == ["a ${{ b }} ", "c"]


def test_a_whole_expression_keeps_its_type_and_one_inside_text_is_formatted() -> None:
    plan = good(
        '  a: {uses: vendor.sync, with: {target: "x-${{ params.n }}-${{ params.b }}", rows: "${{ params.n + 1 }}"}}\n',
        "params: {n: 3, b: true}\n",
    )
    template = plan.nodes["a"].settings
    assert template.constant is None
    rendered = template.render(context(params={"n": 5, "b": False}))
    assert rendered.settings["target"] == "x-5-false"
    assert rendered.settings["rows"] == 6
    assert rendered.scope == "x-5-false"


def test_a_result_that_does_not_fit_the_model_is_an_expression_error() -> None:
    plan = good('  a: {uses: vendor.sync, with: {target: "${{ params.t }}"}}\n', "params: {t: {type: string}}\n")
    with pytest.raises(ExpressionError, match=r"`target`: .*correct `with`"):
        plan.nodes["a"].settings.render(context(params={"t": ""}))


def test_values_are_never_evaluated_again() -> None:
    plan = good('  a: {uses: vendor.sync, with: {target: "${{ params.t }}"}}\n', "params: {t: {type: string}}\n")
    for payload in ("${{ 7 * 7 }}", "{{ 7*7 }}", "{% for x in y %}", "$${{ x }}", "#{7*7}", "${7*7}", "<%= 7 %>"):
        assert plan.nodes["a"].settings.render(context(params={"t": payload})).settings["target"] == payload
