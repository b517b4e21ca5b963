"""SQLite's own promises: one writer, durable settings, a file that only its owner reads, words for every failure."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import URL, text

from conductor.core.errors import ConflictError, SchemaVersionError, StoreError, StoreUnavailableError
from conductor.core.events import Begin
from conductor.store import Batch, Store
from conductor.store.opening import FileLock, file_system
from tests.contract.store.made import PLAN, committed, content, create, filled, plan_of, sqlite_url, stepped

_processes = pytest.mark.xdist_group("processes")
_HOLD = """
import sys
from conductor.store import Store
store = Store.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""
_TRY = """
import sys, time
from conductor.core.errors import ConflictError
from conductor.store import Store
began = time.perf_counter()
try:
    Store.open(sys.argv[1])
except ConflictError as error:
    print(time.perf_counter() - began, error)
"""


@contextmanager
def _holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the database open."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


@_processes
def test_a_second_process_is_refused_at_once_and_told_who_has_it(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with _holder(url) as holder:
        with pytest.raises(
            ConflictError, match=rf"conductor\.db is in use by another Conductor \(process {holder.pid}\)"
        ):
            Store.open(url)
        told = subprocess.run(
            [sys.executable, "-c", _TRY, url], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        seconds, _, message = told.partition(" ")
        assert float(seconds) < 1.0
        assert "stop that one, or send it commands instead" in message
        assert FileLock.is_held(tmp_path / "conductor.db")
        with pytest.raises(SchemaVersionError), Store.open(sqlite_url(_empty(tmp_path)), is_read_only=True):
            pass


def _empty(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "conductor.db").touch()
    return folder / "other"


@_processes
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with _holder(url) as holder:
        holder.kill()
        holder.wait()
        assert not FileLock.is_held(tmp_path / "conductor.db")
        with Store.open(url) as store:
            assert store.epoch == 2


def test_the_same_process_is_refused_too_and_a_refusal_frees_nothing(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with Store.open(url):
        for _ in range(3):
            with pytest.raises(ConflictError):
                Store.open(url)
        assert FileLock.is_held(tmp_path / "conductor.db")
    assert not FileLock.is_held(tmp_path / "conductor.db")


def test_asking_whether_it_is_held_makes_no_file_and_hides_no_other_question(tmp_path: Path) -> None:
    database = tmp_path / "conductor.db"
    assert not FileLock.is_held(database)
    assert list(tmp_path.iterdir()) == []
    lock = FileLock(database)
    lock.acquire()
    lock.release()
    with (tmp_path / "conductor.db.lock").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not FileLock.is_held(database)


def test_an_opening_that_fails_leaves_the_lock_free(tmp_path: Path) -> None:
    (tmp_path / "conductor.db").write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="file is not a database"):
            Store.open(sqlite_url(tmp_path))
    assert not FileLock.is_held(tmp_path / "conductor.db")


def test_every_commit_is_durable_and_readers_do_not_wait(tmp_path: Path) -> None:
    with Store.open(sqlite_url(tmp_path)) as store, store._engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert found == {"journal_mode": "wal", "synchronous": 2}
        assert connection.exec_driver_sql("PRAGMA mmap_size").scalar() == 0


def test_only_its_owner_reads_the_database_and_its_copies(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "by us"
    with Store.open(sqlite_url(folder)) as store:
        committed(filled(store))
        store.backup(folder / "copy.db")
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert modes == dict.fromkeys(
        ("conductor.db", "conductor.db-wal", "conductor.db-shm", "conductor.db.lock", "copy.db"), "0o600"
    )
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("name", ["50% done", "what?", "a#b", "mode=ro&cache=shared", "größe", "a b"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    database = tmp_path / name / "x.db"
    url = URL.create("sqlite", database=str(database)).render_as_string()
    with Store.open(url) as store:
        run = committed(filled(store))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Store.open(url, is_read_only=True) as reader:
        assert reader.load(run.id, plan_of) == run


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("conductor.db", "not a database URL"),
        ("", "not a database URL"),
        ("://x", "not a database URL"),
        ("postgresql://u:s3cret@h:port/db", "not a database URL"),
        ("mysql://u:s3cret@h/db", "'mysql' is not supported"),
    ],
)
def test_a_url_that_is_none_is_refused_in_words(url: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as refused:
        Store.open(url)
    assert "s3cret" not in str(refused.value)


def test_a_path_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="check the path and its permissions"):
        Store.open(f"sqlite:///{tmp_path}/file/below.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{tmp_path}/folder.db")


def test_reading_needs_a_migrated_database_and_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no database at .* yet"):
        Store.open(sqlite_url(tmp_path), is_read_only=True)
    (tmp_path / "conductor.db").touch()
    with pytest.raises(SchemaVersionError, match="run `conductor db upgrade`"):
        Store.open(sqlite_url(tmp_path), is_read_only=True)


def test_a_reader_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    with Store.open(url) as store:
        run = committed(filled(store))
    before = (tmp_path / "conductor.db").read_bytes()
    with Store.open(url, is_read_only=True) as reader:
        assert reader.load(run.id, plan_of) == run
        raw = _raw(reader)
        for statement in ("DELETE FROM runs", "PRAGMA user_version=7", "CREATE TABLE x (y)"):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                raw.execute(statement)
    assert (tmp_path / "conductor.db").read_bytes() == before


def _raw(store: Store) -> sqlite3.Connection:
    with store._engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    return cast("sqlite3.Connection", raw)


def test_a_copy_is_whole_and_is_never_written_over_another_file(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Store.open(sqlite_url(tmp_path)) as store:
        run = committed(filled(store), 0, Begin())
        store.backup(copy)
        kept = copy.read_bytes()
        with pytest.raises(StoreError, match="name a new file"):
            store.backup(copy)
        with pytest.raises(StoreError, match="cannot be made"):
            store.backup(tmp_path / "nowhere" / "copy.db")
        assert copy.read_bytes() == kept
        expected = content(store)
    with Store.open(f"sqlite:///{copy}") as restored:
        assert content(restored) == expected
        assert restored.load(run.id, plan_of) == run


def test_a_full_disk_refuses_the_commit_and_going_on_works_once_there_is_room(tmp_path: Path) -> None:
    with Store.open(sqlite_url(tmp_path)) as store:
        run = committed(filled(store))
        before = content(store)
        pages = _raw(store).execute("PRAGMA page_count").fetchone()[0]
        _raw(store).execute(f"PRAGMA max_page_count={pages}").close()
        batch = Batch()
        made = [create(batch, f"big {number}") for number in range(2_000)]
        with pytest.raises(StoreUnavailableError, match=r"database or disk is full; trying again"):
            store.commit(batch)
        assert content(store) == before
        assert store.load(run.id, plan_of) == run
        _raw(store).execute("PRAGMA max_page_count=1000000").close()
        store.commit(batch, is_retry=True)
        assert store.counts()["runs"] == 1 + len(made)


def test_a_locked_database_is_waited_for_not_given_up(tmp_path: Path) -> None:
    with Store.open(sqlite_url(tmp_path)) as store:
        run = committed(filled(store))
        batch, after = stepped(run, Begin())
        _raw(store).execute("PRAGMA busy_timeout=0").close()
        with closing(sqlite3.connect(tmp_path / "conductor.db", isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.commit(batch)
            intruder.execute("ROLLBACK")
        store.commit(batch, is_retry=True)
        assert store.load(run.id, plan_of) == after


def test_a_damaged_file_stops_in_words(tmp_path: Path) -> None:
    with Store.open(sqlite_url(tmp_path)) as store:
        filled(store)
        batch = Batch()
        for number in range(200):
            create(batch, number)
        store.commit(batch)
    database = tmp_path / "conductor.db"
    whole = database.read_bytes()
    database.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(StoreError, match="stop, check the disk, and start again or restore a backup") as told:
        _use(tmp_path)
    assert not isinstance(told.value, StoreUnavailableError)


def _use(folder: Path) -> None:
    with Store.open(sqlite_url(folder)) as store:
        store.load_active(plan_of)
        store.register([PLAN], now=store.pipelines()["daily"].cursor_at)


def test_a_missing_table_is_not_waited_for(tmp_path: Path) -> None:
    with Store.open(sqlite_url(tmp_path)) as store:
        with store._engine.begin() as connection:
            connection.execute(text("DROP TABLE durations"))
        with pytest.raises(StoreError, match="no such table") as told:
            store.durations("daily")
    assert not isinstance(told.value, StoreUnavailableError)


MOUNTS = r"""/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /mnt/share nfs4 rw 0 0
tmpfs /mnt/share/local tmpfs rw 0 0
//nas/files /mnt/my\040files cifs rw 0 0
broken line
/dev/vdb /srv ext4 rw 0 0
overlay /srv ceph rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/conductor", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/deep/er", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/local/x", "tmpfs"),
        ("/mnt/my files/x", "cifs"),
        ("/srv/x", "ceph"),
    ],
)
def test_the_file_system_of_a_folder_is_the_one_mounted_nearest_and_last(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind
