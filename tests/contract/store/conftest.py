"""The databases that the store's guarantees hold for: a SQLite file and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor.store import Store
from tests.contract.store.made import filled, sqlite_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("pg_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store in which `made.PLAN` is registered."""
    with Store.open(url) as opened:
        yield filled(opened)
