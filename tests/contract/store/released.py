"""The databases of released versions, kept as SQL. `python -m tests.contract.store.released` adds the current one."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from conductor.core.events import Begin, NotSeen, Observed, Pause, RetryFailed
from conductor.core.vendor import ExternalState, Observation
from conductor.store import Batch, Store
from conductor.store.schema import HEAD
from tests.contract.store.made import NOW, PLAN, advance, committed, held, plan, sent, sqlite_url

FIXTURES = Path(__file__).parent / "fixtures"


def restore(dump: Path, database: Path) -> None:
    """Make a SQLite file of a dump."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))


def fill(store: Store) -> None:
    """Put in something of everything: a run under way, a paused one, an ended one, a retried and a held start."""
    store.register([PLAN, plan("hourly", version="bbbbbbbbbbbb")], now=NOW)
    done = Observation(state=ExternalState.SUCCEEDED, word="ok", outputs={"rows": 3, "größe": [1.5, None]})
    committed(store, "running", *sent("ext-1"), Observed(node="a", attempt_no=1, observation=done), slot=NOW)
    committed(store, "paused", Begin(), Pause())
    run = committed(store, "held", *held())
    advance(store, run, NotSeen(node="a", attempt_no=1, reason="not in the list"), now=NOW + timedelta(days=2))
    run = committed(store, "retried", *held())
    run = advance(store, run, NotSeen(node="a", attempt_no=1), now=NOW + timedelta(days=2))
    advance(store, run, RetryFailed(actor="ann", reason="it is not there"), now=NOW + timedelta(days=2))
    committed(store, "queued")
    later = NOW + timedelta(hours=1)
    store.commit(
        Batch(
            cursors={"daily": later},
            paused={"hourly": True},
            drops=[("daily", later, 3, "too old")],
            durations=[("daily", "a", 12.25)],
        )
    )


def _dump() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(sqlite_url(Path(folder))) as store:
            fill(store)
        with closing(sqlite3.connect(Path(folder) / "conductor.db")) as connection:
            lines = "\n".join(connection.iterdump())
    (FIXTURES / f"{HEAD}.sql").write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    _dump()
