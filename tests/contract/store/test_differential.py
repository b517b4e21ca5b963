"""The same batches leave the same content in SQLite and in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor.core.errors import StaleVersionError
from conductor.store import Store
from tests.contract.store.made import content, filled, plan_of, sqlite_url, walk


@pytest.mark.parametrize("seed", range(8))
def test_the_same_batches_leave_equal_content(tmp_path: Path, pg_url: str, seed: int) -> None:
    with Store.open(sqlite_url(tmp_path)) as file, Store.open(pg_url) as server:
        stores = (filled(file), filled(server))
        stale = None
        for number, walked in enumerate(walk(seed, batches=80, runs=6)):
            for store in stores:
                # Every few batches, as if the answer had been lost; every few, an old one comes again.
                store.commit(walked.batch)
                if number % 5 == 0 and walked.batch.runs:
                    store.commit(walked.batch, is_retry=True)
                if number % 7 == 0 and stale is not None:
                    with pytest.raises(StaleVersionError):
                        store.commit(stale)
            stale = walked.batch if walked.batch.runs else stale
        assert content(file) == content(server)
        assert file.load_active(plan_of) == server.load_active(plan_of)
        assert [row.transition for row in file.journal()] == [row.transition for row in server.journal()]
        assert file.runs() == server.runs()
        assert file.pipelines() == server.pipelines()
        assert file.durations("daily") == server.durations("daily")
        assert file.counts() == server.counts()
