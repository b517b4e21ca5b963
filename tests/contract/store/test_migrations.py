"""The migrations make what the code expects, and every database that a released version wrote opens and loads."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from conductor.core.errors import SchemaVersionError, StoreError
from conductor.core.events import Begin
from conductor.core.run import Trigger
from conductor.core.states import AttemptState, NodeState, Outcome, RunState
from conductor.core.vendor import ExternalRef
from conductor.store import Store, schema
from conductor.store.opening import migrate, open_engine, parse_url, schema_version
from tests.contract.store.made import NOW, PLAN, advance, id_of, plan_of
from tests.contract.store.released import FIXTURES, restore

DUMPS = sorted(FIXTURES.glob("*.sql"))


def test_the_migrated_schema_is_the_one_that_the_code_uses(url: str) -> None:
    with Store.open(url) as store, store._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        names = set(inspect(connection).get_table_names())
        assert names == {"alembic_version", *schema.metadata.tables}


def test_migrating_again_changes_nothing(url: str) -> None:
    with Store.open(url) as store:
        migrate(store._engine)
        assert schema_version(store._engine) == schema.HEAD


@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_database_of_a_newer_version_is_refused_and_left_alone(url: str, is_read_only: bool) -> None:
    with Store.open(url) as store, store._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(SchemaVersionError, match=r"has schema 9999 .* newer version.* upgrade Conductor"):
            Store.open(url, is_read_only=is_read_only)
    engine = open_engine(parse_url(url), is_read_only=True)
    assert schema_version(engine) == "9999"
    engine.dispose()


def test_a_migration_that_fails_halfway_leaves_nothing_behind(url: str) -> None:
    engine = open_engine(parse_url(url))
    with engine.begin() as connection:
        # One of the last tables that the first migration makes.
        connection.execute(text("CREATE TABLE durations (x integer)"))
    with pytest.raises(StoreError, match="durations"):
        Store.open(url)
    assert inspect(engine).get_table_names() == ["durations"]
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE durations"))
    engine.dispose()
    with Store.open(url) as store:
        assert store.counts()["runs"] == 0


def test_there_is_a_database_of_the_current_version() -> None:
    assert DUMPS[-1].stem == schema.HEAD, "run `python -m tests.contract.store.released` before releasing"


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_database_of_every_released_version_opens_and_loads(url: str, dump: Path, tmp_path: Path) -> None:
    _restore(url, dump, tmp_path)
    with Store.open(url) as store:
        assert store.epoch == 2
        store.take_over()
        rows = store.pipelines()
        assert (rows["daily"].cursor_at, rows["hourly"].is_paused) == (NOW + timedelta(hours=1), True)
        assert store.definition("daily", PLAN.version) == {"name": "daily"}
        assert store.drops("daily") == [(NOW + timedelta(hours=1), 3, "too old")]
        assert store.durations("daily") == {"a": [12.25]}
        runs = {run.id: run for run in store.load_active(plan_of)}
        assert set(runs) == {id_of(name) for name in ("running", "paused", "held", "retried", "queued")}
        running = runs[id_of("running")]
        assert (running.state, running.slot, running.trigger) == (RunState.RUNNING, NOW, Trigger.MANUAL)
        assert running.nodes["a"].outputs == {"rows": 3, "größe": [1.5, None]}
        made = running.nodes["a"].attempt
        assert made is not None
        assert made.ref == ExternalRef(id="ext-1", link="https://vendor.example/1")
        assert made.baseline is not None
        assert made.baseline.data == {"before": [1, 2]}
        assert runs[id_of("held")].nodes["a"].state is NodeState.HELD
        assert runs[id_of("paused")].is_paused
        first, second = store.attempts(id_of("retried"))["a"]
        assert (first.outcome, second.state) == (Outcome.UNRESOLVED, AttemptState.INTENDED)
        assert [row.transition.seq for row in store.journal(run_id=running.id)] == list(range(1, running.seq + 1))
        after = advance(store, runs[id_of("queued")], Begin())
        assert store.load(after.id, plan_of) == after


def _restore(url: str, dump: Path, folder: Path) -> None:
    """Bring the dump into the database: into PostgreSQL row by row, over the schema of its version."""
    if url.startswith("sqlite"):
        restore(dump, folder / "conductor.db")
        return
    restore(dump, folder / "released.db")
    source = create_engine(f"sqlite:///{folder / 'released.db'}", poolclass=NullPool)
    target = open_engine(parse_url(url))
    migrate(target, to=dump.stem)
    tables = MetaData()
    tables.reflect(target)
    with source.connect() as reading, target.begin() as writing:
        for table in tables.sorted_tables:
            if table.name == "alembic_version":
                continue
            rows = [dict(row) for row in reading.execute(table.select()).mappings()]
            if rows:
                writing.execute(table.insert(), rows)
            if "id" in table.c and rows and isinstance(rows[0]["id"], int):
                last = max(row["id"] for row in rows)
                writing.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), {last})"))
    target.dispose()
    source.dispose()
