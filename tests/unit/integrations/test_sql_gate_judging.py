"""The pure part of a gate: one statement only, values as JSON, and a verdict that is a pass or no success."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from conductor.core.errors import ErrorClass
from conductor.core.keys import canonical
from conductor.core.vendor import ExternalState, Json
from integrations.sql.config import GateSettings
from integrations.sql.database import QueryResult
from integrations.sql.mapping import json_value, judge, table
from integrations.sql.statement import single_select


def _one(value: object) -> QueryResult:
    return QueryResult(columns=("v",), rows=((value,),), row_count=1)


def _asserted(value: object, **comparison: Json) -> ExternalState:
    return judge(GateSettings.model_validate({"assert": {"sql": "SELECT 1", **comparison}}), _one(value)).state


@pytest.mark.parametrize(
    ("sql", "kept"),
    [
        ("SELECT 1", "SELECT 1"),
        ("select 1 ; -- bye", "select 1"),
        ("-- why; really\nSELECT ';' FROM t;", "-- why; really\nSELECT ';' FROM t"),
        ("( (select 1) )", "( (select 1) )"),
        ("WITH a AS (SELECT 1) SELECT 'it''s; fine' FROM a", "WITH a AS (SELECT 1) SELECT 'it''s; fine' FROM a"),
        ("SELECT $x$a;b$x$ /* ; */ ; /* ; */", "SELECT $x$a;b$x$ /* ; */"),
        ('FROM "a;b"', 'FROM "a;b"'),
    ],
)
def test_one_question_is_accepted(sql: str, kept: str) -> None:
    assert single_select(sql) == kept


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "  -- nothing",
        "DELETE FROM t",
        "/* SELECT */ DROP TABLE t",
        "SELECT 1; DROP TABLE t",
        "SELECT 1;;",
        "SELECT 1 -- x\r; DROP TABLE t",
        "SELECT 'open",
        "SELECT /* open",
        "SELECT $a$ open",
        "COPY t TO '/tmp/x'",
        "ATTACH 'x.db'",
        "PRAGMA writable_schema = 1",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECTED",
    ],
)
def test_anything_else_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match=r"statement|closed"):
        single_select(sql)


@given(text=st.text(alphabet="SELECT 1;'\"$-/*\n()x", max_size=60))
def test_reading_a_statement_is_total(text: str) -> None:
    try:
        kept = single_select(text)
    except ValueError:
        return
    assert kept in text


@pytest.mark.parametrize(
    ("value", "comparison", "state"),
    [
        (Decimal("0.3"), {"equals": 0.3}, ExternalState.SUCCEEDED),
        (True, {"equals": 1}, ExternalState.SUCCEEDED),
        (1, {"equals": True}, ExternalState.SUCCEEDED),
        ("ok", {"equals": "ok"}, ExternalState.SUCCEEDED),
        ("42", {"at_least": 40}, ExternalState.SUCCEEDED),
        (None, {"at_most": 5}, ExternalState.FAILED),
        (float("nan"), {"at_least": 0}, ExternalState.FAILED),
        (Decimal("NaN"), {"equals": 0}, ExternalState.FAILED),
        (float("inf"), {"at_most": 5}, ExternalState.FAILED),
        (date(2026, 1, 5), {"at_least": "2026-01-05"}, ExternalState.SUCCEEDED),
        (datetime(2026, 1, 5, 7, tzinfo=UTC), {"at_least": "2026-01-05T09:00:00+01:00"}, ExternalState.FAILED),
        (datetime(2026, 1, 5, 8), {"at_least": "2026-01-05T09:00:00+01:00"}, ExternalState.SUCCEEDED),  # noqa: DTZ001
        ("2026-01-05", {"between": ["2026-01-01", "2026-01-31"]}, ExternalState.SUCCEEDED),
    ],
)
def test_values_are_compared_by_kind(value: object, comparison: dict[str, Json], state: ExternalState) -> None:
    assert _asserted(value, **comparison) is state


@pytest.mark.parametrize(
    ("value", "comparison"),
    [
        ("many", {"at_least": 1}),
        (5, {"at_least": "2026-01-01"}),
        (date(2026, 1, 1), {"equals": 3}),
        (b"x", {"equals": 1}),
    ],
)
def test_what_cannot_be_compared_is_a_mistake_of_the_question(value: object, comparison: dict[str, Json]) -> None:
    seen = judge(GateSettings.model_validate({"assert": {"sql": "SELECT 1", **comparison}}), _one(value))
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.CONFIG


def test_an_assertion_needs_exactly_one_value() -> None:
    gate = GateSettings.model_validate({"assert": {"sql": "SELECT 1", "equals": 0}, "severity": "warn"})
    for result in (
        QueryResult(columns=("a",), rows=(), row_count=0),
        QueryResult(columns=("a",), rows=((0,), (0,)), row_count=2),
        QueryResult(columns=("a", "b"), rows=((0, 0),), row_count=1),
    ):
        assert judge(gate, result).state is ExternalState.FAILED


_ANY = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
    | st.timedeltas()
    | st.lists(st.integers())
)


@given(value=_ANY, bound=st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
def test_any_value_gives_a_verdict_that_can_be_kept(value: object, bound: Json) -> None:
    canonical(json_value(value))
    assert _asserted(value, at_least=bound) in {ExternalState.SUCCEEDED, ExternalState.FAILED}
    assert len(table(("v",), ((value,),), row_count=1).split("\n")) == 3


def test_a_table_is_aligned_and_bounded() -> None:
    rows = [(1, "a"), (20, "line\nbreak"), (None, "x" * 90)]
    lines = table(("n", "n"), rows, row_count=100_000, has_more=True).splitlines()
    assert lines[0].split() == ["n", "n_2"]
    assert lines[2].startswith("   1")
    assert lines[3] == "  20  line break"
    assert lines[4].startswith("NULL")
    assert lines[4].endswith("…")
    assert lines[5] == "… and more than 99997 more rows"
    wide = table(tuple(f"c{no}" for no in range(50)), [tuple("y" * 80 for _ in range(50))] * 200, row_count=200)
    assert len(wide) <= 16_000


def test_durations_and_big_numbers_are_text() -> None:
    assert json_value(timedelta(hours=1)) == "1:00:00"
    assert json_value(Decimal("1E+400")) == "1E+400"
    assert json_value(Decimal("12.50")) == 12.5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sql": "SELECT 1", "assert": {"sql": "SELECT 1", "equals": 1}},
        {"assert": {"sql": "SELECT 1"}},
        {"assert": {"sql": "SELECT 1", "equals": 1, "at_least": 0}},
        {"sql": "SELECT 1", "severity": "ignore"},
        {"sql": "TRUNCATE t"},
    ],
)
def test_half_a_question_is_refused(settings: dict[str, Json]) -> None:
    with pytest.raises(ValidationError):
        GateSettings.model_validate(settings)
