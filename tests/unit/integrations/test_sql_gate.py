"""A gate reads, judges, and can do nothing else: on SQLite and DuckDB files and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import create_engine, text

from conductor.core.errors import ErrorClass
from conductor.core.vendor import ExternalState, Json, Observation, Request
from conductor.sdk import IntegrationError, RefusedError
from conductor.sdk.testing import FakeClock, context_for
from integrations.sql.config import Connection, GateSettings
from integrations.sql.integration import SqlIntegration
from integrations.sql.sandbox import SqlSandbox

_FILES = ("sqlite", "duckdb")


def _integration(url: str, folder: Path, **more: Json) -> SqlIntegration:
    sandbox_app = SqlSandbox(folder / "unused.sqlite").app
    context = context_for(sandbox_app, clock=FakeClock(), state_dir=folder, connection="warehouse")
    return SqlIntegration(context, Connection.model_validate({"url": url, **more}))


def _decide(gate: SqlIntegration, **settings: Json) -> Observation:
    dumped = GateSettings.model_validate(settings).model_dump(mode="json")

    async def decided() -> Observation:
        ref = await gate.start(Request(key="cnd-gate-1", operation="gate", settings=dumped))
        return (await gate.poll([ref]))[ref.id]

    return asyncio.run(decided())


def _file(folder: Path, dialect: str) -> tuple[SqlIntegration, SqlSandbox]:
    sandbox = SqlSandbox(folder / f"w.{dialect}", dialect=dialect)
    return _integration(str(sandbox.connection("")["url"]), folder), sandbox


@pytest.mark.parametrize("dialect", _FILES)
def test_no_rows_pass_and_rows_fail_with_a_table(tmp_path: Path, dialect: str) -> None:
    gate, sandbox = _file(tmp_path, dialect)
    question = "SELECT id, customer, amount FROM orders WHERE amount < 0 ORDER BY id"
    passed = _decide(gate, sql=question)
    assert (passed.state, passed.outputs) == (ExternalState.SUCCEEDED, {"row_count": 0, "value": None, "rows": []})
    sandbox.advance("orders", ExternalState.FAILED)
    failed = _decide(gate, sql=question, message="orders must not be negative", max_rows=1)
    assert failed.state is ExternalState.FAILED
    assert failed.message == "orders must not be negative: expected no rows, 2 came back"
    assert failed.error is not None
    assert failed.error.error_class is ErrorClass.DATA
    assert failed.error.detail == "id  customer  amount\n--  --------  ------\n 3  west       -7.25\n… and 1 more rows"
    assert failed.outputs["rows"] == [{"id": 3, "customer": "west", "amount": -7.25}]
    assert _decide(gate, sql=question, severity="warn").state is ExternalState.WARNED


@pytest.mark.parametrize("dialect", _FILES)
@pytest.mark.parametrize(
    ("comparison", "state"),
    [
        ({"equals": 2}, ExternalState.SUCCEEDED),
        ({"equals": 3}, ExternalState.FAILED),
        ({"at_least": 2}, ExternalState.SUCCEEDED),
        ({"at_most": 1.5}, ExternalState.FAILED),
        ({"between": [1, 2]}, ExternalState.SUCCEEDED),
        ({"between": [3, 9]}, ExternalState.FAILED),
    ],
)
def test_a_value_is_compared_as_asserted(
    tmp_path: Path, dialect: str, comparison: dict[str, Json], state: ExternalState
) -> None:
    gate, _ = _file(tmp_path, dialect)
    seen = _decide(gate, **{"assert": {"sql": "SELECT count(*) FROM orders", **comparison}})
    assert (seen.state, seen.outputs["value"]) == (state, 2)


@pytest.mark.parametrize("dialect", _FILES)
@pytest.mark.parametrize(
    "question",
    ["SELECT * FROM no_such_table", "SELECT FROM WHERE", "WITH x AS (SELECT 1) INSERT INTO orders SELECT 9, 'x', 1"],
)
def test_a_question_that_cannot_be_asked_fails_as_config_even_where_the_gate_only_warns(
    tmp_path: Path, dialect: str, question: str
) -> None:
    gate, _ = _file(tmp_path, dialect)
    seen = _decide(gate, sql=question, severity="warn")
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.CONFIG
    assert _decide(gate, sql="SELECT * FROM orders WHERE id > 2").state is ExternalState.SUCCEEDED


def test_duckdb_neither_writes_nor_reads_files_outside_unless_it_is_allowed(tmp_path: Path) -> None:
    gate, _ = _file(tmp_path, "duckdb")
    (tmp_path / "secret.csv").write_text("a\n1\n", encoding="utf-8")
    question = f"SELECT * FROM read_csv('{tmp_path}/secret.csv') WHERE a = 0"
    assert _decide(gate, sql=question).state is ExternalState.FAILED
    allowed = _integration(f"duckdb:///{tmp_path}/w.duckdb", tmp_path, external_files=True)
    assert _decide(allowed, sql=question).state is ExternalState.SUCCEEDED


def test_percent_and_colon_signs_are_text(tmp_path: Path) -> None:
    gate, _ = _file(tmp_path, "sqlite")
    assert _decide(gate, sql="SELECT 1 WHERE 'a:b%c' NOT LIKE 'a:b%'").state is ExternalState.SUCCEEDED


def test_a_database_that_is_missing_or_locked_decides_nothing(tmp_path: Path) -> None:
    missing = _integration(f"sqlite:///{tmp_path}/none.db", tmp_path)
    with pytest.raises(RefusedError, match="warehouse: the database cannot be reached"):
        _decide(missing, sql="SELECT 1")
    assert not (tmp_path / "none.db").exists()
    gate, _ = _file(tmp_path, "sqlite")
    with closing(sqlite3.connect(tmp_path / "w.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RefusedError, match="cannot answer now"):
            _decide(gate, sql="SELECT * FROM orders")


@pytest.mark.parametrize("dialect", _FILES)
def test_a_query_that_takes_too_long_is_stopped_and_fails_as_a_timeout(tmp_path: Path, dialect: str) -> None:
    gate, _ = _file(tmp_path, dialect)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    seen = _decide(gate, sql=endless, timeout_s=0.2)
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.TIMEOUT


def test_a_relative_file_lies_in_the_project(tmp_path: Path) -> None:
    SqlSandbox(tmp_path / "w.sqlite")
    assert _decide(_integration("sqlite:///w.sqlite", tmp_path), sql="SELECT 1 WHERE 1 = 0").state.value == "succeeded"


def test_a_password_is_in_no_error(tmp_path: Path) -> None:
    gate = _integration("postgresql://reader:s3cret-pw@127.0.0.1:9/none", tmp_path, connect_timeout_s=2)
    with pytest.raises(IntegrationError) as caught:
        _decide(gate, sql="SELECT 's3cret-pw'")
    health = asyncio.run(gate.check())
    assert not health.is_ok
    assert "s3cret-pw" not in str(caught.value) + repr(caught.value) + health.message + repr(gate)
    with pytest.raises(ValidationError) as refused:
        Connection.model_validate({"url": "mysql://reader:s3cret-pw@h/db"})
    assert "s3cret-pw" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=rwc", "sqlite:///x?mode=rw", "duckdb:///md:db", "x", ""],
)
def test_only_what_can_be_opened_read_only_is_a_connection(url: str) -> None:
    with pytest.raises(ValidationError):
        Connection.model_validate({"url": url})


@pytest.fixture
def pg_gate(pg_url: str, tmp_path: Path) -> SqlIntegration:
    engine = create_engine(pg_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int, amount numeric(8, 2), at timestamptz)"))
        connection.execute(text("INSERT INTO orders SELECT n, n * 1.5, now() FROM generate_series(1, 5000) n"))
        connection.execute(text("CREATE FUNCTION spoil() RETURNS int LANGUAGE sql AS 'DELETE FROM orders RETURNING 1'"))
    engine.dispose()
    return _integration(pg_url, tmp_path)


def test_postgresql_counts_and_shows_rows(pg_gate: SqlIntegration) -> None:
    seen = _decide(pg_gate, sql="SELECT id, amount FROM orders WHERE id % 2 = 0 ORDER BY id;", max_rows=2)
    assert seen.outputs["row_count"] == 2500
    assert seen.outputs["rows"] == [{"id": 2, "amount": 3}, {"id": 4, "amount": 6}]
    fresh: Json = {"sql": "SELECT max(at) FROM orders", "at_least": "2020-01-01T00:00:00Z"}
    assert _decide(pg_gate, **{"assert": fresh}).state is ExternalState.SUCCEEDED


@pytest.mark.parametrize(
    "question",
    [
        "WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone",
        "SELECT spoil()",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT 1 INTO orders_copy",
        "SELECT * FROM orders FOR UPDATE",
    ],
)
def test_postgresql_refuses_questions_that_write(pg_gate: SqlIntegration, question: str) -> None:
    seen = _decide(pg_gate, sql=question)
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.CONFIG
    count: Json = {"sql": "SELECT count(*) FROM orders", "equals": 5000}
    assert _decide(pg_gate, **{"assert": count}).state is ExternalState.SUCCEEDED


def test_postgresql_takes_one_statement_even_if_ours_were_fooled(pg_gate: SqlIntegration) -> None:
    fooled = GateSettings.model_construct(sql="SELECT 1 WHERE 1 = 0; DELETE FROM orders", max_rows=1, timeout_s=5.0)
    with pytest.raises(Exception, match="multiple commands"):
        asyncio.run(pg_gate._ask(fooled.query, keep_rows=1, timeout_s=5.0))


def test_postgresql_stops_a_long_query_itself(pg_gate: SqlIntegration) -> None:
    seen = _decide(pg_gate, sql="SELECT pg_sleep(30)", timeout_s=0.3)
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.TIMEOUT
