"""Opens a database: refuses a second writer, reads durability settings back, migrates, explains what is wrong."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from conductor.core.errors import ConflictError, SchemaVersionError, StoreError
from conductor.store.explain import explained
from conductor.store.schema import HEAD

__all__ = [
    "FileLock",
    "file_system",
    "migrate",
    "one_at_a_time",
    "open_engine",
    "parse_url",
    "schema_version",
    "sqlite_path",
]

_POSTGRESQL_TIMEOUTS_MS = {
    "idle_in_transaction_session_timeout": 3000,
    "lock_timeout": 5000,
    "statement_timeout": 30000,
}
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs"}
    | {"fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"}
)
_ADVISORY_LOCK = 1_128_353_860
"""Any number that no other program takes in the same PostgreSQL database."""


class FileLock:
    """The right to write a SQLite file: held by one process, given back by the system when that process ends."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ConflictError: Another process has it.
            StoreError: The file system does not let us.
        """
        with _file_work(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+", encoding="utf-8")
            self._take(file)

    def _take(self, file: TextIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise ConflictError(
                f"the database {self._path.with_suffix('')} is in use by another Conductor (process {owner}): "
                "stop that one, or send it commands instead"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @staticmethod
    def is_held(database: Path) -> bool:
        """True when some process, this one included, writes the database."""
        path = database.with_name(database.name + ".lock")
        if not path.exists():
            return False
        # Shared, so that two who ask at the same time do not take each other for the writer.
        with _file_work(path), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@contextmanager
def _file_work(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store's file {path} cannot be used: {error.strerror or error}; check the path and its permissions"
        ) from error


def parse_url(url: str) -> URL:
    """The parts of a database URL.

    Raises:
        StoreError: It is none, or of a database that is not supported.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError("the store's URL is not a database URL: write sqlite:///path or postgresql://…") from None
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise StoreError(f"the store's database {backend!r} is not supported: use sqlite or postgresql")
    return parsed


def sqlite_path(url: URL) -> Path:
    """The file of a SQLite URL.

    Raises:
        StoreError: It names none: what is in memory only would forget its starts.
    """
    if not url.database or url.database == ":memory:":
        raise StoreError("the store's URL names no file: write sqlite:///path, a start must outlive the process")
    return Path(url.database)


def open_engine(url: URL, *, is_read_only: bool = False) -> Engine:
    """An engine with one connection.

    Raises:
        StoreError: The driver is missing, the file cannot be used, or it lies on a network file system.
        StoreUnavailableError: The database does not answer.
    """
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(sqlite_path(url), is_read_only=is_read_only)
    return _open_postgresql(url, is_read_only=is_read_only)


def _open_sqlite(path: Path, *, is_read_only: bool) -> Engine:
    if not is_read_only:
        with _file_work(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _refuse_network(path)
            path.touch(mode=0o600)
    elif not path.exists():
        raise StoreError(f"there is no database at {path} yet: it is made by the first run")
    mode = "ro" if is_read_only else "rw"
    address = f"file:{quote(str(path))}?mode={mode}"

    def _connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, check_same_thread=False, timeout=10.0, isolation_level=None)

    engine = create_engine("sqlite://", creator=_connect, poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        if not is_read_only:
            connection.execute("PRAGMA journal_mode=WAL").close()
            connection.execute("PRAGMA synchronous=FULL").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")

    if not is_read_only:
        try:
            _read_back(engine, path)
        except BaseException:
            engine.dispose()
            raise
    return engine


def _read_back(engine: Engine, path: Path) -> None:
    with explained(path.name), engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar()
    full = 2
    if mode != "wal" or level != full:
        raise StoreError(
            f"the database {path} does not keep journal_mode=WAL and synchronous=FULL (it says {mode}, {level}): "
            "a start could be forgotten after a power cut; move it to a local disk"
        )


def _refuse_network(path: Path) -> None:
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return
    kind = file_system(path.resolve().parent, mounts.read_text(encoding="utf-8", errors="replace"))
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreError(f"the database {path} lies on a network file system ({kind}): use a local disk or PostgreSQL")


def file_system(folder: Path, mounts: str) -> str:
    """The kind of file system that `folder` lies on, by the text of `/proc/mounts`; empty when it names none.

    Source: https://man7.org/linux/man-pages/man5/fstab.5.html (spaces and the like are written in octal).
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1]
        for octal, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(octal, plain)
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


def _open_postgresql(url: URL, *, is_read_only: bool) -> Engine:
    settings: dict[str, int | str] = dict(_POSTGRESQL_TIMEOUTS_MS)
    if is_read_only:
        settings["default_transaction_read_only"] = "on"
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=StaticPool,
            connect_args={
                "connect_timeout": 10,
                "application_name": "conductor",
                "prepare_threshold": None,
                "target_session_attrs": "any" if is_read_only else "read-write",
                "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            },
        )
    except (NoSuchModuleError, ModuleNotFoundError):
        raise StoreError("PostgreSQL needs its driver: pip install 'conductor-mds[postgres]'") from None


def one_at_a_time(connection: Connection) -> None:
    """Until this transaction ends, hold other processes off that migrate or open the same PostgreSQL database."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


def schema_version(engine: Engine) -> str | None:
    """The revision of the database; None when it is empty."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(version) if version is not None else None


def migrate(engine: Engine, *, to: str = "head") -> None:
    """Bring the database to this version's schema; does nothing when it is there already.

    Raises:
        SchemaVersionError: It was written by a newer Conductor.
    """
    found = schema_version(engine)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SchemaVersionError(
            f"the database has schema {found} and this Conductor knows {HEAD}: it was written by a newer version; "
            "upgrade Conductor, or restore a backup"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "conductor.store:migrations")
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        one_at_a_time(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, to)
