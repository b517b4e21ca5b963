"""The store: commits batches, loads runs, answers questions. Synchronous; the engine decides on which thread.

Every method raises `StoreUnavailableError` when waiting may help and `StoreError` when it does not.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4  # noqa: TID251 - the one id that is not derived: it sets this installation apart

from sqlalchemy import Connection, Engine, Select, and_, func, insert, or_, select, tuple_, update

from conductor.core.errors import SchemaVersionError, StoreError, StoreUnavailableError
from conductor.core.plan import Plan
from conductor.core.run import Attempt, NodeRun, Run, Transition
from conductor.core.states import RunState
from conductor.core.vendor import Json
from conductor.store import schema
from conductor.store.batch import Batch
from conductor.store.codec import (
    attempt_from_row,
    external_key,
    instant,
    micros,
    node_from_row,
    run_from_row,
    storable,
    text_of,
    transition_from_row,
)
from conductor.store.explain import explained
from conductor.store.opening import (
    FileLock,
    migrate,
    one_at_a_time,
    open_engine,
    parse_url,
    schema_version,
    sqlite_path,
)
from conductor.store.write import write_batch

__all__ = ["JournalRow", "PipelineRow", "RunRow", "Store"]

_ACTIVE = (RunState.QUEUED.value, RunState.RUNNING.value)
_CHUNK = 500
PlanOf = Callable[[str, str], Plan | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRow:
    """What the database knows of a pipeline.

    Attributes:
        name: Its name.
        version: The newest registered version.
        is_paused: Its schedule fires nothing and its runs start nothing.
        cursor_at: The last slot that was dealt with.
    """

    name: str
    version: str
    is_paused: bool
    cursor_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run in a list: without its nodes.

    Attributes:
        id: Its id.
        pipeline: Its pipeline.
        version: The version it is pinned to.
        trigger: Why it began.
        state: Where it is.
        slot: Of scheduled runs.
        created_at: When it was recorded.
        started_at: When it began.
        ended_at: When it ended.
        actor: Who asked.
        reason: Why it is where it is.
    """

    id: str
    pipeline: str
    version: str
    trigger: str
    state: RunState
    slot: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """A row of the journal.

    Attributes:
        id: Its place in the journal; grows.
        run_id: The run.
        transition: What happened.
    """

    id: int
    run_id: str
    transition: Transition


class Store:
    """One database. Open it once per process; close it when done."""

    def __init__(self, engine: Engine, *, name: str, lock: FileLock | None, epoch: int, install: str) -> None:
        self._opened: Engine | None = engine
        self._name = name
        self._lock = lock
        self.epoch = epoch
        self.install = install

    @classmethod
    def open(cls, url: str, *, is_read_only: bool = False) -> Self:
        """Open a database; as a writer, take it over and bring its schema up to date.

        Raises:
            ConflictError: Another process writes this SQLite file.
            SchemaVersionError: A newer Conductor wrote it, or (read-only) it is not migrated yet.
            StoreError: It cannot be used as it is.
        """
        parsed = parse_url(url)
        name = parsed.render_as_string(hide_password=True)
        lock: FileLock | None = None
        engine: Engine | None = None
        if parsed.get_backend_name() == "sqlite" and not is_read_only:
            lock = FileLock(sqlite_path(parsed))
            lock.acquire()
        try:
            engine = open_engine(parsed, is_read_only=is_read_only)
            with explained(name):
                if is_read_only:
                    _require_head(engine, name)
                else:
                    migrate(engine)
                epoch, install = _identity(engine, is_read_only=is_read_only)
        except BaseException:
            if engine is not None:
                engine.dispose()
            if lock is not None:
                lock.release()
            raise
        return cls(engine, name=name, lock=lock, epoch=epoch, install=install)

    def close(self) -> None:
        """Close the connection and let another process write. Whatever is asked afterwards raises `StoreError`."""
        if self._opened is not None:
            self._opened.dispose()
            self._opened = None
        if self._lock is not None:
            self._lock.release()

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise StoreError(f"the store {self._name} is closed: open it again")
        return self._opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def commit(self, batch: Batch, *, is_retry: bool = False) -> None:
        """Write the batch durably, or nothing of it.

        Args:
            batch: Its runs carry the revision that they will have.
            is_retry: The last try of this very batch ended without an answer; whether it was committed is read first.

        Raises:
            StaleVersionError: Another writer was first; the batch is void.
        """
        if not batch:
            return
        with explained(self._name):
            if is_retry and self._is_committed(batch):
                return
            with self._engine.begin() as connection:
                write_batch(connection, batch)

    def _is_committed(self, batch: Batch) -> bool:
        for run_id, change in batch.runs.items():
            with self._engine.connect() as connection:
                row = connection.execute(
                    select(schema.runs.c.revision, schema.runs.c.epoch).where(schema.runs.c.id == run_id)
                ).first()
            return row is not None and row.revision == change.after.revision and row.epoch == change.after.epoch
        for pipeline, until, _, _ in batch.drops:
            dropped = schema.drops.c
            return bool(
                self._all(select(dropped.id).where(dropped.pipeline == pipeline, dropped.until_at == micros(until)))
            )
        return False

    def register(self, plans: Iterable[Plan], *, now: datetime) -> dict[str, PipelineRow]:
        """Record pipeline versions as current. A pipeline seen for the first time starts its schedule at `now`."""
        with explained(self._name), self._engine.begin() as connection:
            known = {row.name: row for row in connection.execute(select(schema.pipelines))}
            versions = {
                (row.pipeline, row.version)
                for row in connection.execute(select(schema.versions.c.pipeline, schema.versions.c.version))
            }
            for plan in plans:
                if (plan.name, plan.version) not in versions:
                    row = {
                        "pipeline": plan.name,
                        "version": plan.version,
                        "definition": text_of(plan.definition),
                        "created_at": micros(now),
                    }
                    connection.execute(insert(schema.versions), row)
                if plan.name not in known:
                    fresh = {"name": plan.name, "version": plan.version, "is_paused": False, "cursor_at": micros(now)}
                    connection.execute(insert(schema.pipelines), fresh)
                elif known[plan.name].version != plan.version:
                    target = schema.pipelines.c.name == plan.name
                    connection.execute(update(schema.pipelines).where(target).values(version=plan.version))
        return self.pipelines()

    def pipelines(self) -> dict[str, PipelineRow]:
        """Every pipeline ever registered, by name."""
        return {
            row["name"]: PipelineRow(
                name=row["name"],
                version=row["version"],
                is_paused=bool(row["is_paused"]),
                cursor_at=_instant(row["cursor_at"]),
            )
            for row in self._all(select(schema.pipelines).order_by(schema.pipelines.c.name))
        }

    def definition(self, pipeline: str, version: str) -> dict[str, Json] | None:
        """The stored definition of a version; None when it was never registered."""
        found = self._all(
            select(schema.versions.c.definition).where(
                schema.versions.c.pipeline == pipeline, schema.versions.c.version == version
            )
        )
        if not found:
            return None
        value: dict[str, Json] = json.loads(found[0]["definition"])
        return value

    def load_active(self, plan_of: PlanOf) -> list[Run]:
        """Every run that has not ended and whose plan is known, oldest first."""
        return self._load(select(schema.runs).where(schema.runs.c.state.in_(_ACTIVE)), plan_of)

    def load(self, run_id: str, plan_of: PlanOf) -> Run | None:
        """One run with its nodes; None when there is none of that id."""
        found = self._load(select(schema.runs).where(schema.runs.c.id == storable(run_id)), plan_of)
        return found[0] if found else None

    def take_over(self) -> None:
        """Make every active run this process's own: older owners' writes change nothing from here on."""
        with explained(self._name), self._engine.begin() as connection:
            target = schema.runs.c.state.in_(_ACTIVE)
            connection.execute(update(schema.runs).where(target).values(epoch=self.epoch))

    def adopt(self, run_id: str) -> None:
        """Make one ended run this process's own, so that it can be changed again."""
        with explained(self._name), self._engine.begin() as connection:
            connection.execute(update(schema.runs).where(schema.runs.c.id == storable(run_id)).values(epoch=self.epoch))

    def attempts(self, run_id: str) -> dict[str, list[Attempt]]:
        """Every attempt of a run, by node, first to last."""
        found: dict[str, list[Attempt]] = defaultdict(list)
        table = schema.attempts
        for row in self._all(
            select(table).where(table.c.run_id == storable(run_id)).order_by(table.c.node, table.c.no)
        ):
            found[row["node"]].append(attempt_from_row(row))
        return dict(found)

    def runs(
        self,
        *,
        pipeline: str | None = None,
        states: Sequence[RunState] = (),
        limit: int = 50,
        before: datetime | None = None,
        before_id: str = "",
    ) -> list[RunRow]:
        """Runs, newest first. The next page is behind the last row's `created_at` and `id`."""
        table = schema.runs
        query = select(table).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        if pipeline is not None:
            query = query.where(table.c.pipeline == storable(pipeline))
        if states:
            query = query.where(table.c.state.in_([state.value for state in states]))
        if before is not None:
            at = micros(before)
            same = and_(table.c.created_at == at, table.c.id < before_id)
            query = query.where(or_(table.c.created_at < at, same))
        return [_run_row(row) for row in self._all(query)]

    def find_runs(self, prefix: str, *, limit: int = 10) -> list[RunRow]:
        """Runs whose id begins with `prefix`, newest first."""
        table = schema.runs
        found = table.c.id.startswith(storable(prefix).lower(), autoescape=True)
        query = select(table).where(found).order_by(table.c.created_at.desc(), table.c.id.desc())
        return [_run_row(row) for row in self._all(query.limit(limit))]

    def known(self, run_ids: Sequence[str]) -> frozenset[str]:
        """Those of the ids that a run has already."""
        table = schema.runs
        return frozenset(row["id"] for row in self._all(select(table.c.id).where(table.c.id.in_(run_ids))))

    def journal(self, *, after: int = 0, run_id: str | None = None, limit: int = 1000) -> list[JournalRow]:
        """Rows of the journal behind `after`, in order."""
        table = schema.journal
        query = select(table).where(table.c.id > after).order_by(table.c.id).limit(limit)
        if run_id is not None:
            query = query.where(table.c.run_id == storable(run_id))
        return [
            JournalRow(id=row["id"], run_id=row["run_id"], transition=transition_from_row(row))
            for row in self._all(query)
        ]

    def taken(self, refs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str, int]]:
        """Which (connection, external id) belong to an attempt already: → (run, node, attempt number)."""
        keys = {(connection, external_key(external_id)): (connection, external_id) for connection, external_id in refs}
        asked = list(keys)
        found: dict[tuple[str, str], tuple[str, str, int]] = {}
        table = schema.attempts
        for start in range(0, len(asked), _CHUNK):
            part = asked[start : start + _CHUNK]
            query = select(table.c.connection, table.c.external_id, table.c.run_id, table.c.node, table.c.no).where(
                tuple_(table.c.connection, table.c.external_id).in_(part)
            )
            for row in self._all(query):
                found[keys[row["connection"], row["external_id"]]] = (row["run_id"], row["node"], row["no"])
        return found

    def durations(self, pipeline: str, *, most: int = 2000) -> dict[str, list[float]]:
        """Durations of past vendor runs in seconds, by node, newest first."""
        table = schema.durations
        query = select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc()).limit(most)
        found: dict[str, list[float]] = defaultdict(list)
        for row in self._all(query):
            found[row["node"]].append(row["seconds"])
        return dict(found)

    def drops(self, pipeline: str) -> list[tuple[datetime, int, str]]:
        """Slots that the catch-up policy left out: (until, how many, why), oldest first."""
        table = schema.drops
        query = select(table).where(table.c.pipeline == pipeline).order_by(table.c.id)
        return [(_instant(row["until_at"]), row["slots"], row["reason"]) for row in self._all(query)]

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with explained(self._name), self._engine.connect() as connection:
            return {
                table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
                for table in schema.metadata.sorted_tables
            }

    def backup(self, target: Path) -> None:
        """Write a consistent copy of a SQLite database to `target`, which must not exist.

        Raises:
            StoreUnavailableError: The database is not SQLite: use its own tools.
        """
        if self._engine.dialect.name != "sqlite":
            raise StoreUnavailableError("only SQLite is copied here: use pg_dump for PostgreSQL")
        try:
            # Made here, because SQLite would let everybody read it; VACUUM INTO fills an empty file.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise StoreError(f"the copy {target} cannot be made: {error.strerror}; name a new file") from error
        with explained(self._name), self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("VACUUM INTO ?", (str(target),))

    def _load(self, query: Select[*tuple[Any, ...]], plan_of: PlanOf) -> list[Run]:
        nodes: dict[str, dict[str, NodeRun]] = {}
        with self._snapshot() as connection:
            rows = _all(connection, query.order_by(schema.runs.c.created_at, schema.runs.c.id))
            for start in range(0, len(rows), _CHUNK):
                nodes |= _nodes(connection, [row["id"] for row in rows[start : start + _CHUNK]])
        loaded: list[Run] = []
        for row in rows:
            # Asked only now: it may read a definition from this very database.
            plan = plan_of(row["pipeline"], row["version"])
            if plan is not None:
                loaded.append(run_from_row(row, plan=plan, nodes=nodes[row["id"]]))
        return loaded

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """One moment of the database for several reads, whatever a writer does meanwhile."""
        with explained(self._name), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def _all(self, query: Select[*tuple[Any, ...]]) -> list[dict[str, Any]]:
        with explained(self._name), self._engine.connect() as connection:
            return _all(connection, query)


def _all(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _nodes(connection: Connection, run_ids: list[str]) -> dict[str, dict[str, NodeRun]]:
    attempts, nodes = schema.attempts, schema.nodes
    newest: dict[tuple[str, str], Attempt] = {}
    joined = and_(
        attempts.c.run_id == nodes.c.run_id, attempts.c.node == nodes.c.node, attempts.c.no == nodes.c.attempts
    )
    query = select(attempts).join(nodes, joined).where(attempts.c.run_id.in_(run_ids))
    for row in _all(connection, query):
        newest[row["run_id"], row["node"]] = attempt_from_row(row)
    found: dict[str, dict[str, NodeRun]] = defaultdict(dict)
    for row in _all(connection, select(nodes).where(nodes.c.run_id.in_(run_ids))):
        found[row["run_id"]][row["node"]] = node_from_row(row, newest.get((row["run_id"], row["node"])))
    return found


def _instant(value: int) -> datetime:
    at = instant(value)
    assert at is not None
    return at


def _run_row(row: Mapping[str, Any]) -> RunRow:
    return RunRow(
        id=row["id"],
        pipeline=row["pipeline"],
        version=row["version"],
        trigger=row["trigger"],
        state=RunState(row["state"]),
        slot=instant(row["slot"]),
        created_at=_instant(row["created_at"]),
        started_at=instant(row["started_at"]),
        ended_at=instant(row["ended_at"]),
        actor=row["actor"],
        reason=row["reason"],
    )


def _require_head(engine: Engine, name: str) -> None:
    found = schema_version(engine)
    if found is not None and found > schema.HEAD:
        raise SchemaVersionError(
            f"the database {name} has schema {found} and this Conductor knows {schema.HEAD}: a newer version wrote it; "
            "upgrade Conductor"
        )
    if found != schema.HEAD:
        raise SchemaVersionError(
            f"the database {name} has schema {found or 'none'} and {schema.HEAD} is needed: run `conductor db upgrade`"
        )


def _identity(engine: Engine, *, is_read_only: bool) -> tuple[int, str]:
    """The epoch of this opening (larger than every earlier one) and the installation's id."""
    table = schema.meta
    keys = or_(table.c.key == "epoch", table.c.key == "install")
    if is_read_only:
        with engine.connect() as connection:
            found = {row.key: row.value for row in connection.execute(select(table).where(keys))}
        return int(found.get("epoch", "0")), found.get("install", "")
    with engine.begin() as connection:
        one_at_a_time(connection)
        found = {row.key: row.value for row in connection.execute(select(table).where(keys).with_for_update())}
        epoch = int(found.get("epoch", "0")) + 1
        if "install" not in found:
            found["install"] = uuid4().hex[:12]
            connection.execute(
                insert(table), [{"key": "install", "value": found["install"]}, {"key": "epoch", "value": "0"}]
            )
        connection.execute(update(table).where(table.c.key == "epoch").values(value=str(epoch)))
    return epoch, found["install"]
