"""The first schema. Frozen: a later change is a later revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0001"
down_revision: str | None = None
_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table."""
    _facts()
    _runs()
    _history()


def _facts() -> None:
    op.create_table(
        "meta", sa.Column("key", sa.String(64), primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    op.create_table(
        "pipelines",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("version", sa.String(12), nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        sa.Column("cursor_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pipeline_versions",
        sa.Column("pipeline", sa.String(63), primary_key=True),
        sa.Column("version", sa.String(12), primary_key=True),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("pipeline", sa.String(63), nullable=False),
        sa.Column("version", sa.String(12), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("slot", sa.BigInteger),
        sa.Column("logical_at", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("wake_at", sa.BigInteger),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        sa.Column("cancel_cause", sa.String(16)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.UniqueConstraint("pipeline", "slot", name="one_run_per_slot"),
    )
    op.create_index("runs_by_state", "runs", ["state", "created_at"])
    op.create_index("runs_by_pipeline", "runs", ["pipeline", "created_at"])
    op.create_table(
        "node_runs",
        sa.Column("run_id", sa.String(16), primary_key=True),
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(16), primary_key=True),
        sa.Column("node", sa.String(63), primary_key=True),
        sa.Column("no", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(52), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16)),
        sa.Column("connection", sa.String(63), nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("key", name="one_attempt_per_key"),
        sa.UniqueConstraint("connection", "external_id", name="one_attempt_per_external_run"),
    )


def _history() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(16), nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("attempt_no", sa.Integer, nullable=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "seq", name="one_row_per_seq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "durations",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.String(63), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
    )
    op.create_index("durations_by_pipeline", "durations", ["pipeline", "id"])
    op.create_table(
        "dropped_slots",
        sa.Column("id", _ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("pipeline", sa.String(63), nullable=False),
        sa.Column("until_at", sa.BigInteger, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
