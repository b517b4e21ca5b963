"""The suite's own PostgreSQL: what the other tests may rely on."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, inspect, text


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_an_empty_database(pg_url: str, turn: int) -> None:
    engine = create_engine(pg_url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE left_behind (turn integer)"))
        connection.execute(text("INSERT INTO left_behind VALUES (:turn)"), {"turn": turn})
    engine.dispose()


def test_the_server_is_a_postgresql_that_supports_what_the_store_needs(pg_url: str) -> None:
    engine = create_engine(pg_url)
    with engine.begin() as connection:
        version: int = connection.execute(text("SELECT current_setting('server_version_num')::int")).scalar_one()
        connection.execute(text("CREATE TABLE jobs (id integer)"))
        connection.execute(text("SELECT id FROM jobs FOR UPDATE SKIP LOCKED"))
    engine.dispose()
    assert version >= 140_000
