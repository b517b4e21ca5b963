"""A database file whose rows the contract checks and demos can spoil and mend. The real database runs.

It keeps the shape of a sandbox: a gate starts nothing, so the ledger stays empty.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

from conductor.core.vendor import ExternalState
from conductor.sdk import Faults, LedgerEntry
from conductor.sdk.sandbox import AsgiApp

__all__ = ["SqlSandbox"]

_CREATE = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer VARCHAR, amount DOUBLE)"
_FILL = "INSERT OR IGNORE INTO orders VALUES (1, 'north', 12.5), (2, 'south', 3.0)"
_SPOIL = "INSERT INTO orders VALUES (3, 'west', -7.25), (4, NULL, -1.0)"
_MEND = "DELETE FROM orders WHERE id > 2"


class SqlSandbox:
    """One SQLite or DuckDB file with a table `orders`, two good rows in it.

    Attributes:
        app: Answers 404 to everything: a database has no wire that faults could be played on.
        faults: Never played.
        ledger: Stays empty: gates start nothing.
        requests: Stays empty.
    """

    def __init__(self, file: Path, *, dialect: str = "sqlite") -> None:
        self.app: AsgiApp = _not_here
        self.faults = Faults()
        self.ledger: list[LedgerEntry] = []
        self.requests: dict[str, int] = {}
        self._file = file
        self._dialect = dialect
        self.run(_CREATE, _FILL)

    def connection(self, base_url: str) -> dict[str, object]:
        """Settings of a connection to the file; `base_url` means nothing here."""
        del base_url
        return {"url": f"{self._dialect}:///{self._file}"}

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Make a gate on bad rows of `orders` pass on `succeeded`, and not pass on any other state."""
        del scope, word
        self.run(*((_MEND,) if state is ExternalState.SUCCEEDED else (_MEND, _SPOIL)))

    def run(self, *statements: str) -> None:
        """Change the database, as its owner would."""
        if self._dialect == "duckdb":
            import duckdb  # Optional: only who asks for DuckDB has it.

            with duckdb.connect(str(self._file)) as session:
                for statement in statements:
                    session.execute(statement)
            return
        with closing(sqlite3.connect(self._file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


async def _not_here(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    del receive
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
