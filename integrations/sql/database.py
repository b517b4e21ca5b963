"""Opens a database read-only and runs one query in it. Blocking: `integration` calls it in a worker thread.

Each query has its own connection, opened as read-only as the database can, rolled back and closed afterwards.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from sqlalchemy.engine import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from conductor.sdk import AuthError, ErrorClass, ErrorInfo, IntegrationError, RefusedError
from integrations.sql.config import DIALECTS

__all__ = ["Database", "QueryResult", "Running", "StatementError"]

COUNTED_ROWS = 100_000
"""Rows are counted up to here; a gate that finds more says "more than"."""

_FETCH = 5_000
_BUSY_S = 1.0  # A locked SQLite file is asked again at the next poll.
_PG_WAIT = ("08", "40", "53", "55P03", "57P")
_SQLITE_WAIT = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_DUCKDB_WAIT = frozenset({"IOException", "ConnectionException", "OutOfMemoryException", "HTTPException"})
_SIGN_IN = ("authentication failed", "no password supplied", "no pg_hba.conf entry", 'role "')


class _Interruptible(Protocol):
    def interrupt(self) -> None: ...


class StatementError(Exception):
    """The database answered that the query cannot be run. Asking again will not help.

    Attributes:
        info: Why, for people and retries.
    """

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """What a query returned.

    Attributes:
        columns: The names, as the database gives them.
        rows: The first rows, as the driver gives them.
        row_count: How many there are, counted up to `COUNTED_ROWS`.
        has_more: There are more than were counted.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    row_count: int
    has_more: bool = False


class Running:
    """A handle by which another thread stops a query that takes too long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._raw: _Interruptible | None = None
        self.is_connected = False

    def connected(self, raw: object) -> None:
        """The query is about to be sent on `raw`."""
        with self._lock:
            self.is_connected = True
            self._raw = raw if callable(getattr(raw, "interrupt", None)) else None  # type: ignore[assignment]

    def ended(self) -> None:
        """The connection is about to be closed and must not be touched any more."""
        with self._lock:
            self._raw = None

    def stop(self) -> None:
        """Interrupt the query, where one is running. PostgreSQL stops it by its own statement timeout."""
        with self._lock:
            if self._raw is not None:
                self._raw.interrupt()


class Database:
    """One database, opened read-only for each query."""

    def __init__(self, url: str, *, folder: Path, connect_timeout_s: int, has_external_files: bool) -> None:
        parsed = make_url(url)
        self.dialect = DIALECTS[parsed.drivername]
        self._url = parsed
        self._folder = folder
        self._connect_timeout_s = connect_timeout_s
        self._has_external_files = has_external_files

    @property
    def password(self) -> str | None:
        """The password in the URL, so that it can be masked."""
        return self._url.password

    def query(self, sql: str, *, keep_rows: int, timeout_s: float, running: Running) -> QueryResult:
        """Run `sql` and keep the first `keep_rows` rows.

        Raises:
            StatementError: The database refused the query, or it took longer than `timeout_s`.
            AuthError: The credentials are wrong.
            RefusedError: The database cannot be reached or is busy; nothing was learnt.
        """
        with self._connected() as connection:
            raw = connection.connection.driver_connection
            if self.dialect == "duckdb":
                raw = getattr(raw, "c", raw)  # duckdb-engine wraps the driver's connection in its own.
            try:
                self._make_safe(connection, raw, sql, timeout_s)
                running.connected(raw)
                return _fetched(connection, sql, keep_rows)
            except DBAPIError as error:
                raise self._classed(error) from error
            finally:
                running.ended()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = self._engine()
        try:
            connection = engine.connect()
        except SQLAlchemyError as error:
            raise _not_connected(_words(error)) from error
        try:
            yield connection.execution_options(**self._options())
        finally:
            try:
                connection.rollback()
                connection.close()
            except SQLAlchemyError:
                connection.invalidate()
            engine.dispose()

    def _engine(self) -> Engine:
        try:
            match self.dialect:
                case "sqlite":
                    return create_engine("sqlite://", creator=self._sqlite(), poolclass=NullPool)
                case "duckdb":
                    config = {"enable_external_access": "true" if self._has_external_files else "false"}
                    arguments = {"read_only": True, "config": config}
                    return create_engine(self._file_url(), connect_args=arguments, poolclass=NullPool)
                case _:
                    url = self._url.set(drivername="postgresql+psycopg")
                    arguments = {"connect_timeout": self._connect_timeout_s, "application_name": "conductor"}
                    return create_engine(url, connect_args=arguments, poolclass=NullPool)
        except (ImportError, SQLAlchemyError) as error:
            package = "duckdb" if self.dialect == "duckdb" else "postgres"
            raise StatementError(
                ErrorInfo(
                    error_class=ErrorClass.CONFIG,
                    message=f"the driver for {self.dialect} cannot be loaded: {_words(error)}; "
                    f"install conductor-mds[{package}]",
                )
            ) from error

    def _file(self) -> Path:
        return self._folder / (self._url.database or "")

    def _file_url(self) -> URL:
        return self._url.set(database=str(self._file()))

    def _sqlite(self) -> Callable[[], sqlite3.Connection]:
        address = f"file:{quote(str(self._file().absolute()))}?mode=ro"
        return lambda: sqlite3.connect(address, uri=True, timeout=_BUSY_S, check_same_thread=False)

    def _options(self) -> dict[str, object]:
        options: dict[str, object] = {"no_parameters": True}
        if self.dialect == "postgresql":
            # A server-side cursor takes one question only, and a read-only transaction is enforced by the server.
            options |= {"stream_results": True, "max_row_buffer": 1000, "postgresql_readonly": True}
        return options

    def _make_safe(self, connection: Connection, raw: object, sql: str, timeout_s: float) -> None:
        match self.dialect:
            case "sqlite":
                connection.exec_driver_sql("PRAGMA query_only = ON")
            case "postgresql":
                limit = max(int(timeout_s * 1000), 1)
                plain = connection.execution_options(stream_results=False)
                plain.exec_driver_sql(f"SET LOCAL statement_timeout = {limit:d}")
                connection.execution_options(stream_results=True)
            case _:
                _check_duckdb(raw, sql)

    def _classed(self, error: DBAPIError) -> StatementError | IntegrationError:
        words, origin = _words(error), error.orig
        if self.dialect == "sqlite":
            code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
            return _class(words, is_wait=code in _SQLITE_WAIT, is_timeout=code == sqlite3.SQLITE_INTERRUPT)
        if self.dialect == "duckdb":
            name = type(origin).__name__
            return _class(words, is_wait=name in _DUCKDB_WAIT, is_timeout=name == "InterruptException")
        state = getattr(origin, "sqlstate", None) or ""
        is_wait = state.startswith(_PG_WAIT) or (not state and error.connection_invalidated)
        is_auth = state == "42501"
        return _class(words, is_wait=is_wait, is_timeout=state == "57014", is_auth=is_auth, code=state or None)


def _fetched(connection: Connection, sql: str, keep_rows: int) -> QueryResult:
    result = connection.exec_driver_sql(sql)
    columns = tuple(str(name) for name in result.keys())  # noqa: SIM118 - a result's keys, not a mapping's
    kept = [tuple(row) for row in result.fetchmany(max(keep_rows, 2))]
    count = len(kept)
    while count and count <= COUNTED_ROWS and (more := len(result.fetchmany(_FETCH))):
        count += more
    result.close()
    return QueryResult(
        columns=columns,
        rows=tuple(kept),
        row_count=min(count, COUNTED_ROWS),
        has_more=count > COUNTED_ROWS,
    )


def _check_duckdb(raw: object, sql: str) -> None:
    """DuckDB runs every statement of a text, and some write files even from a read-only database: allow one SELECT."""
    extract = getattr(raw, "extract_statements", None)
    if extract is None:
        return
    from duckdb import Error  # Optional: only who connects to DuckDB has it.

    try:
        kinds = [statement.type.name for statement in extract(sql)]
    except Error as error:
        raise StatementError(ErrorInfo(error_class=ErrorClass.CONFIG, message=_first_lines(str(error)))) from error
    if kinds != ["SELECT"]:
        found = ", ".join(kinds) or "nothing"
        raise StatementError(ErrorInfo(error_class=ErrorClass.CONFIG, message=f"one SELECT is needed, found {found}"))


def _class(
    words: str, *, is_wait: bool, is_timeout: bool, is_auth: bool = False, code: str | None = None
) -> StatementError | IntegrationError:
    if is_wait:
        return RefusedError(f"the database cannot answer now: {words}", code=code)
    if is_timeout:
        return StatementError(ErrorInfo(error_class=ErrorClass.TIMEOUT, message=f"the query took too long: {words}"))
    error_class = ErrorClass.AUTH if is_auth else ErrorClass.CONFIG
    return StatementError(ErrorInfo(error_class=error_class, message=f"the query cannot be run: {words}", code=code))


def _not_connected(words: str) -> IntegrationError:
    if any(mark in words for mark in _SIGN_IN):
        return AuthError(f"the database refused the credentials: {words}; mend the connection's url")
    return RefusedError(f"the database cannot be reached: {words}")


def _words(error: BaseException) -> str:
    origin = getattr(error, "orig", None)
    return _first_lines(str(origin if origin is not None else error))


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[:8])[:1500]
