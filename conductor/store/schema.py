"""The tables. Instants are microseconds since 1970 in UTC; nested values are JSON text made by the codec.

The migrations are the truth for existing databases; a contract test holds them against this module.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "HEAD",
    "attempts",
    "drops",
    "durations",
    "journal",
    "meta",
    "metadata",
    "nodes",
    "pipelines",
    "runs",
    "versions",
]

HEAD: Final = "0001"
"""The revision that this version of Conductor reads and writes."""

_ROW_ID = BigInteger().with_variant(Integer, "sqlite")

metadata: Final = MetaData()

meta: Final = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

pipelines: Final = Table(
    "pipelines",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("version", String(12), nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("cursor_at", BigInteger, nullable=False),
)

versions: Final = Table(
    "pipeline_versions",
    metadata,
    Column("pipeline", String(63), primary_key=True),
    Column("version", String(12), primary_key=True),
    Column("definition", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("pipeline", String(63), nullable=False),
    Column("version", String(12), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("slot", BigInteger),
    Column("logical_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("wake_at", BigInteger),
    Column("is_paused", Boolean, nullable=False),
    Column("cancel_cause", String(16)),
    Column("priority", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("params", Text, nullable=False),
    UniqueConstraint("pipeline", "slot", name="one_run_per_slot"),
    Index("runs_by_state", "state", "created_at"),
    Index("runs_by_pipeline", "pipeline", "created_at"),
)

nodes: Final = Table(
    "node_runs",
    metadata,
    Column("run_id", String(16), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("run_id", String(16), primary_key=True),
    Column("node", String(63), primary_key=True),
    Column("no", Integer, primary_key=True),
    Column("key", String(52), nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("connection", String(63), nullable=False),
    Column("external_id", Text),
    Column("body", Text, nullable=False),
    UniqueConstraint("key", name="one_attempt_per_key"),
    UniqueConstraint("connection", "external_id", name="one_attempt_per_external_run"),
)

journal: Final = Table(
    "journal",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("run_id", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("subject", String(8), nullable=False),
    Column("node", String(63), nullable=False),
    Column("attempt_no", Integer, nullable=False),
    Column("before", String(16), nullable=False),
    Column("after", String(16), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("detail", Text, nullable=False),
    UniqueConstraint("run_id", "seq", name="one_row_per_seq"),
    sqlite_autoincrement=True,
)

durations: Final = Table(
    "durations",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("pipeline", String(63), nullable=False),
    Column("node", String(63), nullable=False),
    Column("seconds", Float, nullable=False),
    Index("durations_by_pipeline", "pipeline", "id"),
)

drops: Final = Table(
    "dropped_slots",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("pipeline", String(63), nullable=False),
    Column("until_at", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("reason", Text, nullable=False),
)
