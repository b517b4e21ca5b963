"""Writes one batch inside a transaction. Each update names the state it expects and the number of rows is checked.

The statements are compiled once per database and get their rows as they are: binding them through SQLAlchemy row by row
took as long as everything else. So every value here must be one that the driver takes: text, numbers, booleans, None.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.dml import Insert, Update

from conductor.core.errors import StaleVersionError
from conductor.core.owed import next_wake
from conductor.core.run import Run
from conductor.store import schema
from conductor.store.batch import Batch, RunChange
from conductor.store.codec import attempt_row, micros, node_row, run_row, storable, transition_row

__all__ = ["write_batch"]

_RUN_SET = ("state", "started_at", "ended_at", "wake_at", "is_paused", "cancel_cause", "revision", "seq", "reason")
_runs, _nodes, _attempts = schema.runs.c, schema.nodes.c, schema.attempts.c

_update_run: Update = (
    update(schema.runs)
    .where(
        _runs.id == bindparam("b_id"), _runs.revision == bindparam("b_revision"), _runs.epoch == bindparam("b_epoch")
    )
    .values({name: bindparam(f"v_{name}") for name in _RUN_SET})
)
_update_node: Update = (
    update(schema.nodes)
    .where(_nodes.run_id == bindparam("b_run_id"), _nodes.node == bindparam("b_node"))
    .values({name: bindparam(f"v_{name}") for name in ("state", "attempts", "body")})
)
_update_attempt: Update = (
    update(schema.attempts)
    .where(
        _attempts.run_id == bindparam("b_run_id"),
        _attempts.node == bindparam("b_node"),
        _attempts.no == bindparam("b_no"),
        _attempts.state == bindparam("b_state"),
    )
    .values({name: bindparam(f"v_{name}") for name in ("state", "outcome", "external_id", "body")})
)
_move_cursor: Update = (
    update(schema.pipelines)
    .where(schema.pipelines.c.name == bindparam("b_name"))
    .values(cursor_at=bindparam("v_cursor_at"))
)
_pause: Update = (
    update(schema.pipelines)
    .where(schema.pipelines.c.name == bindparam("b_name"))
    .values(is_paused=bindparam("v_is_paused"))
)


def _insert_into(table: Table) -> Insert:
    """All columns but the row number, which the database gives."""
    return insert(table).values({column.name: bindparam(column.name) for column in table.c if column.name != "id"})


_insert_run: Insert = insert(schema.runs).values({column.name: bindparam(column.name) for column in schema.runs.c})
_insert_node, _insert_attempt = _insert_into(schema.nodes), _insert_into(schema.attempts)
_insert_journal, _insert_drop = _insert_into(schema.journal), _insert_into(schema.drops)
_insert_duration = _insert_into(schema.durations)


class _Rows:
    """The rows of a batch, by statement."""

    __slots__ = ("attempts", "journal", "new_attempts", "new_nodes", "new_runs", "nodes", "runs")

    def __init__(self) -> None:
        self.new_runs: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.new_nodes: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        self.new_attempts: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []
        self.journal: list[dict[str, Any]] = []


def write_batch(connection: Connection, batch: Batch) -> None:
    """Write everything in `batch`; the caller commits.

    Raises:
        StaleVersionError: A run was changed by somebody else, or belongs to another owner now. Roll back.
    """
    rows = _Rows()
    for change in batch.runs.values():
        _collect(rows, change)
    _insert(connection, _insert_run, rows.new_runs)
    _guarded(connection, _update_run, rows.runs, "run")
    _insert(connection, _insert_node, rows.new_nodes)
    _guarded(connection, _update_node, rows.nodes, "node")
    _guarded(connection, _update_attempt, rows.attempts, "attempt")
    _insert(connection, _insert_attempt, rows.new_attempts)
    _insert(connection, _insert_journal, rows.journal)
    _write_rest(connection, batch)


def _collect(rows: _Rows, change: RunChange) -> None:
    run, before = change.after, change.before
    row = run_row(run, wake_at=next_wake(run))
    if before is None:
        rows.new_runs.append(row)
        rows.new_nodes.extend(node_row(run.id, node) for node in run.nodes.values())
    else:
        guard = {"b_id": run.id, "b_revision": before.revision, "b_epoch": before.epoch}
        rows.runs.append(guard | {f"v_{name}": row[name] for name in _RUN_SET})
        for node in change.nodes:
            made = node_row(run.id, run.nodes[node])
            rows.nodes.append(
                {
                    "b_run_id": run.id,
                    "b_node": node,
                    "v_state": made["state"],
                    "v_attempts": made["attempts"],
                    "v_body": made["body"],
                }
            )
    for (node, no), attempt in change.attempts.items():
        made = attempt_row(run, node, attempt)
        committed = _committed_state(before, node, no)
        if committed is None:
            rows.new_attempts.append(made)
            continue
        rows.attempts.append(
            {
                "b_run_id": run.id,
                "b_node": node,
                "b_no": no,
                "b_state": committed,
                "v_state": made["state"],
                "v_outcome": made["outcome"],
                "v_external_id": made["external_id"],
                "v_body": made["body"],
            }
        )
    rows.journal.extend(transition_row(run.id, transition) for transition in change.transitions)


def _committed_state(before: Run | None, node: str, no: int) -> str | None:
    if before is None:
        return None
    attempt = before.nodes[node].attempt
    return attempt.state.value if attempt is not None and attempt.no == no else None


@cache
def _sql(statement: Insert | Update, dialect: str) -> str:
    """The statement's text with named parameters, as the driver takes it."""
    if dialect == "sqlite":
        return str(statement.compile(dialect=SQLiteDialect_pysqlite(paramstyle="named")))
    return str(statement.compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]


def _insert(connection: Connection, statement: Insert, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.exec_driver_sql(_sql(statement, connection.dialect.name), rows)


def _guarded(connection: Connection, statement: Update, rows: list[dict[str, Any]], what: str) -> None:
    if not rows:
        return
    result = connection.exec_driver_sql(_sql(statement, connection.dialect.name), rows)
    if result.rowcount != len(rows):
        raise StaleVersionError(
            f"{len(rows) - result.rowcount} of {len(rows)} {what} rows were changed by another writer: "
            "nothing was written; another Conductor may have taken over this database"
        )


def _write_rest(connection: Connection, batch: Batch) -> None:
    cursors = [{"b_name": name, "v_cursor_at": micros(at)} for name, at in batch.cursors.items()]
    _guarded(connection, _move_cursor, cursors, "pipeline")
    paused = [{"b_name": name, "v_is_paused": is_paused} for name, is_paused in batch.paused.items()]
    _guarded(connection, _pause, paused, "pipeline")
    drops = [
        {"pipeline": pipeline, "until_at": micros(until), "slots": slots, "reason": storable(reason)}
        for pipeline, until, slots, reason in batch.drops
    ]
    _insert(connection, _insert_drop, drops)
    durations = [
        {"pipeline": pipeline, "node": node, "seconds": seconds} for pipeline, node, seconds in batch.durations
    ]
    _insert(connection, _insert_duration, durations)
