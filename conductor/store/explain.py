"""Turns a driver's errors into ours: what waiting heals, what another writer did, what is broken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from conductor.core.errors import StaleVersionError, StoreError, StoreUnavailableError

__all__ = ["explained"]

_SQLITE_WAITABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Source: https://www.sqlite.org/rescode.html."""
_SQLITE_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_POSTGRESQL_WAITABLE = ("08", "25006", "25P03", "40", "53", "55P03", "57")
"""Beginnings of SQLSTATE: connection, read-only after a failover, serialisation, resources, locks, intervention.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""
_POSTGRESQL_BROKEN = ("58", "XX")
_WRONG_ADDRESS = ("does not exist", "authentication failed", "no pg_hba.conf entry")
"""What a refused connection says, which carries no SQLSTATE, when the URL or the server's set-up is wrong."""


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn a driver's errors into ours.

    Raises:
        StaleVersionError: A unique row exists already: another writer was first; nothing was written.
        StoreUnavailableError: Locked, full, or not answering: waiting may help; nothing was written.
        StoreError: Broken: waiting does not help, the process must stop and read the disk again.
    """
    try:
        yield
    except IntegrityError as error:
        raise StaleVersionError(
            f"the database {name} has that row: {_words(error.orig)}; nothing was written; load and look again"
        ) from error
    except DBAPIError as error:
        raise _judged(name, error.orig, is_cut=error.connection_invalidated) from error
    except sqlite3.Error as error:
        raise _judged(name, error, is_cut=False) from error
    except UnicodeError as error:
        raise StoreError(f"the database {name} cannot hold this text: {error}; nothing was written") from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database {name} failed: {error}") from error


def _judged(name: str, error: BaseException | None, *, is_cut: bool) -> StoreError:
    words = _words(error)
    is_waitable, is_broken = _sqlite(error) if isinstance(error, sqlite3.Error) else _postgresql(error, words)
    if is_broken:
        return StoreError(
            f"the database {name} failed: {words}; stop, check the disk, and start again or restore a backup: "
            "nothing was acknowledged"
        )
    if is_cut or is_waitable:
        return StoreUnavailableError(f"the database {name} is not available: {words}; trying again")
    return StoreError(f"the database {name} refused: {words}; nothing was written")


def _sqlite(error: sqlite3.Error) -> tuple[bool, bool]:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in _SQLITE_WAITABLE, code in _SQLITE_BROKEN


def _postgresql(error: BaseException | None, words: str) -> tuple[bool, bool]:
    state = getattr(error, "sqlstate", None)
    if state is None:
        is_connection = type(error).__name__ in {"OperationalError", "ConnectionTimeout"}
        return is_connection and not any(told in words for told in _WRONG_ADDRESS), False
    return state.startswith(_POSTGRESQL_WAITABLE), state.startswith(_POSTGRESQL_BROKEN)


def _words(error: BaseException | None) -> str:
    told = str(error).strip()
    return told.splitlines()[0] if told else type(error).__name__
