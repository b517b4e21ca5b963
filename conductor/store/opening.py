"""Opens a database: refuses a second writer, reads durability settings back, migrates, explains what is wrong."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from conductor.core.errors import ConflictError, SchemaVersionError, StoreError, StoreUnavailableError
from conductor.store.schema import HEAD

__all__ = ["FileLock", "explained", "migrate", "open_engine", "schema_version"]

_POSTGRESQL_TIMEOUTS_MS = {
    "idle_in_transaction_session_timeout": 3000,
    "lock_timeout": 5000,
    "statement_timeout": 30000,
}
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"})


class FileLock:
    """The right to write a SQLite file: held by one process, given back by the system when that process ends."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ConflictError: Another process has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
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
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


def open_engine(url: str, *, is_read_only: bool = False) -> Engine:
    """An engine with one connection.

    Raises:
        StoreError: The URL is wrong, its driver is missing, or the file lies on a network file system.
        StoreUnavailableError: The database does not answer.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError("the store's URL is not a database URL: write sqlite:///path or postgresql://…") from None
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, is_read_only=is_read_only)
    if parsed.get_backend_name() == "postgresql":
        return _open_postgresql(parsed)
    raise StoreError(f"the store's database {parsed.get_backend_name()!r} is not supported: use sqlite or postgresql")


def _open_sqlite(url: URL, *, is_read_only: bool) -> Engine:
    path = Path(url.database or "")
    if not is_read_only:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_network(path)
        if not path.exists():
            path.touch(mode=0o600)
    elif not path.exists():
        raise StoreError(f"there is no database at {path} yet: it is made by the first run")
    mode = "ro" if is_read_only else "rw"
    engine = create_engine(
        f"sqlite:///file:{path}?mode={mode}&uri=true",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": 10.0, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=10000")
        if not is_read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")

    if not is_read_only:
        _read_back(engine, path)
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
    best, kind = "", ""
    folder = str(path.parent.resolve())
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        point = fields[1]
        if (folder == point or folder.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, fields[2]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreError(f"the database {path} lies on a network file system ({kind}): use a local disk or PostgreSQL")


def _open_postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=StaticPool,
            connect_args={
                "connect_timeout": 10,
                "application_name": "conductor",
                "prepare_threshold": None,
                "target_session_attrs": "read-write",
                "options": " ".join(f"-c {name}={value}" for name, value in _POSTGRESQL_TIMEOUTS_MS.items()),
            },
        )
    except (NoSuchModuleError, ModuleNotFoundError):
        raise StoreError("PostgreSQL needs its driver: pip install 'conductor-mds[postgres]'") from None


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn a driver's errors into ours.

    Raises:
        StoreUnavailableError: Locked, full, or not answering: waiting may help; nothing was written.
        StoreError: Broken: waiting does not help, the process must stop and read the disk again.
    """
    try:
        yield
    except DBAPIError as error:
        words = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        if "disk i/o error" in words.lower() or "malformed" in words.lower():
            raise StoreError(
                f"the database {name} failed: {words}; stop, check the disk, and start again: nothing was acknowledged"
            ) from error
        if error.connection_invalidated or _is_waitable(words, error):
            raise StoreUnavailableError(f"the database {name} is not available: {words}; trying again") from error
        raise StoreError(f"the database {name} refused a statement: {words}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database {name} failed: {error}") from error


def _is_waitable(words: str, error: DBAPIError) -> bool:
    told = ("full", "locked", "busy", "connection", "timeout", "starting up", "shutting down", "serialize", "deadlock")
    return any(word in words.lower() for word in told) or type(error.orig).__name__ == "OperationalError"


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
        config.attributes["connection"] = connection
        command.upgrade(config, to)
