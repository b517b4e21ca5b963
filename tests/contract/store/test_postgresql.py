"""PostgreSQL's own promises: a server that goes away is waited for, nothing is written twice, owners never mix."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from conductor.core.errors import StaleVersionError, StoreError, StoreUnavailableError
from conductor.core.events import Begin, CancelRun
from conductor.store import Batch, Store
from tests.contract.store.made import NOW, committed, content, create, filled, plan, plan_of, stepped


def _ask(url: str, statement: str) -> str:
    """One answer over a connection of its own."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        return str(connection.execute(text(statement)).scalar())


def _cut(url: str) -> None:
    """End every other connection to the database, as a failover does."""
    _ask(
        url,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


class _Server:
    """A server of this test alone, because the suite's own would not be found again after a restart."""

    def __init__(self, folder: Path, *, programs: Path, owner: int, group: int) -> None:
        self._folder = folder
        self._programs = programs
        self._owner = owner
        self._group = group
        os.chown(folder, owner, group)
        self._run("initdb", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    @property
    def url(self) -> str:
        query = {"host": str(self._folder)}
        return URL.create("postgresql", username="postgres", database="postgres", query=query).render_as_string()

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-m", "fast", "-w")

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", f"-h '' -F -k {self._folder}")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), "-D", str(self._folder / "data"), *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            # PostgreSQL refuses to run as root.
            user=self._owner,
            group=self._group,
            cwd=self._folder,
            timeout=60,
        )


@pytest.fixture
def own_server(pg_url: str) -> Iterator[_Server]:
    """A PostgreSQL that the test may restart, from the programs of the suite's."""
    data = Path(_ask(pg_url, "SHOW data_directory"))
    programs = Path((data / "postmaster.opts").read_text(encoding="utf-8").split()[0]).parent
    # A short path: a socket's may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="cpg", ignore_cleanup_errors=True) as folder:
        server = _Server(Path(folder), programs=programs, owner=data.stat().st_uid, group=data.stat().st_gid)
        try:
            yield server
        finally:
            server.stop()


def test_after_a_restart_of_the_server_the_store_goes_on(own_server: _Server) -> None:
    with Store.open(own_server.url) as store:
        run = committed(filled(store))
        batch, after = stepped(run, Begin())
        own_server.restart()
        with pytest.raises(StoreUnavailableError, match="trying again"):
            store.commit(batch)
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_while_the_server_is_down_every_try_is_waited_for(own_server: _Server) -> None:
    with Store.open(own_server.url) as store:
        run = committed(filled(store))
        batch, after = stepped(run, Begin())
        own_server.stop()
        try:
            for is_retry in (False, True, True):
                with pytest.raises(StoreUnavailableError, match="trying again"):
                    store.commit(batch, is_retry=is_retry)
        finally:
            own_server.start()
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_after_a_cut_connection_reads_go_on_too(pg_url: str) -> None:
    with Store.open(pg_url) as store:
        run = committed(filled(store))
        _cut(pg_url)
        with pytest.raises(StoreUnavailableError):
            store.load_active(plan_of)
        assert store.load_active(plan_of) == [run]


def test_a_connection_cut_in_the_middle_of_a_commit_leaves_nothing_behind(pg_url: str) -> None:
    with Store.open(pg_url) as store, store._engine.connect() as connection:
        run = committed(filled(store))
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        connection.rollback()
        before = content(store)
        batch, after = stepped(run, Begin())
        # The server ends this connection when the batch's last table is written.
        with store._engine.begin() as setting:
            setting.exec_driver_sql(
                "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "
                f"'BEGIN PERFORM pg_terminate_backend({own}); RETURN NEW; END'"
            )
            setting.exec_driver_sql("CREATE TRIGGER cut BEFORE INSERT ON journal EXECUTE FUNCTION cut()")
        with pytest.raises(StoreUnavailableError):
            store.commit(batch)
    with Store.open(pg_url) as store:
        assert content(store) == before
        with store._engine.begin() as setting:
            setting.exec_driver_sql("DROP TRIGGER cut ON journal")
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_a_server_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    url = URL.create("postgresql", username="u", password="s3cret", database="db", query={"host": str(tmp_path)})
    with pytest.raises(StoreUnavailableError) as told:
        Store.open(url.render_as_string(hide_password=False))
    assert "s3cret" not in str(told.value)


def test_a_database_that_does_not_exist_is_not_waited_for(pg_url: str) -> None:
    url = make_url(pg_url).set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(StoreError, match='database "nowhere" does not exist') as told:
        Store.open(url)
    assert not isinstance(told.value, StoreUnavailableError)


def test_a_server_that_has_become_read_only_is_waited_for(pg_url: str) -> None:
    with Store.open(pg_url) as store:
        run = committed(filled(store))
        batch, after = stepped(run, Begin())
        with store._engine.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = on")
            connection.commit()
        with pytest.raises(StoreUnavailableError, match="read-only transaction"):
            store.commit(batch)
        _cut(pg_url)
        with pytest.raises(StoreUnavailableError):
            store.commit(batch, is_retry=True)
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_a_locked_row_is_waited_for_and_not_given_up(pg_url: str) -> None:
    with Store.open(pg_url) as store:
        run = committed(filled(store))
        batch, after = stepped(run, Begin())
        with store._engine.connect() as connection:
            connection.exec_driver_sql("SET lock_timeout = 1")
            connection.commit()
        intruder = create_engine(pg_url, poolclass=NullPool)
        with intruder.begin() as other:
            other.exec_driver_sql("UPDATE runs SET reason = reason")
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                store.commit(batch)
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_a_reader_cannot_write_whatever_it_sends(pg_url: str) -> None:
    with Store.open(pg_url) as writer:
        committed(filled(writer))
        before = content(writer)
        with Store.open(pg_url, is_read_only=True) as reader:
            other = plan("other", version="cccccccccccc")
            for act in (reader.take_over, lambda: reader.adopt("x"), lambda: reader.register([other], now=NOW)):
                with pytest.raises(StoreError, match="read-only transaction"):
                    act()
        assert content(writer) == before


def test_several_may_open_a_new_database_at_the_same_moment(pg_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store.open(pg_url), range(4)))
    try:
        assert sorted(store.epoch for store in stores) == [1, 2, 3, 4]
        assert len({store.install for store in stores}) == 1
    finally:
        for store in stores:
            store.close()


def test_of_two_live_owners_the_one_that_did_not_take_over_writes_nothing(pg_url: str) -> None:
    with Store.open(pg_url) as older, Store.open(pg_url) as newer:
        run = committed(filled(older), slot=NOW)
        newer.take_over()
        [taken] = newer.load_active(plan_of)
        with pytest.raises(StaleVersionError):
            older.commit(stepped(run, Begin())[0])
        newer.commit(stepped(taken, CancelRun())[0])
        same_slot = Batch()
        create(same_slot, "again", slot=NOW, epoch=older.epoch)
        with pytest.raises(StaleVersionError):
            older.commit(same_slot)


def test_one_load_sees_one_moment(pg_url: str) -> None:
    """While nodes are read, another process moves the run on: what is loaded is the run before that, whole."""
    with Store.open(pg_url) as writer:
        run = committed(filled(writer))
        with Store.open(pg_url, is_read_only=True) as reader:
            moved: list[object] = []

            @event.listens_for(reader._engine, "after_cursor_execute")
            def _move(*_: object) -> None:
                if not moved:
                    moved.append(True)
                    writer.commit(stepped(run, Begin())[0])

            assert reader.load(run.id, plan_of) == run
            assert moved
            later = reader.load(run.id, plan_of)
    assert later is not None
    assert later.revision == run.revision + 1
