"""Writes one batch inside a transaction. Each update names the state it expects and the number of rows is checked."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.sql.dml import Insert, Update

from conductor.core.errors import StaleVersionError
from conductor.core.owed import next_wake
from conductor.core.run import Run
from conductor.store import schema
from conductor.store.batch import Batch, RunChange
from conductor.store.codec import attempt_row, micros, node_row, run_row, transition_row

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
_INSERTS: dict[str, Insert] = {
    "runs": insert(schema.runs),
    "node_runs": insert(schema.nodes),
    "attempts": insert(schema.attempts),
    "journal": insert(schema.journal),
}


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
    _insert(connection, "runs", rows.new_runs)
    _guarded(connection, _update_run, rows.runs, "run")
    _insert(connection, "node_runs", rows.new_nodes)
    _guarded(connection, _update_node, rows.nodes, "node")
    _guarded(connection, _update_attempt, rows.attempts, "attempt")
    _insert(connection, "attempts", rows.new_attempts)
    _insert(connection, "journal", rows.journal)
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


def _insert(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_INSERTS[table], rows)


def _guarded(connection: Connection, statement: Update, rows: list[dict[str, Any]], what: str) -> None:
    if not rows:
        return
    result = connection.execute(statement, rows)
    if result.rowcount != len(rows):
        raise StaleVersionError(
            f"{len(rows) - result.rowcount} of {len(rows)} {what} rows were changed by another writer: "
            "nothing was written; another Conductor may have taken over this database"
        )


def _write_rest(connection: Connection, batch: Batch) -> None:
    pipelines = schema.pipelines
    for name, cursor_at in batch.cursors.items():
        connection.execute(update(pipelines).where(pipelines.c.name == name).values(cursor_at=micros(cursor_at)))
    for name, is_paused in batch.paused.items():
        connection.execute(update(pipelines).where(pipelines.c.name == name).values(is_paused=is_paused))
    if batch.drops:
        connection.execute(
            insert(schema.drops),
            [
                {"pipeline": pipeline, "until_at": micros(until), "slots": slots, "reason": reason}
                for pipeline, until, slots, reason in batch.drops
            ],
        )
    if batch.durations:
        connection.execute(
            insert(schema.durations),
            [{"pipeline": pipeline, "node": node, "seconds": seconds} for pipeline, node, seconds in batch.durations],
        )
