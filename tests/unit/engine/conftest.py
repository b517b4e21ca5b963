"""A world for a test, made in memory where the machine has such a place, and taken down after it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from conductor.core.plan import Plan
from conductor.store import Store
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, FakeVendor
from tests.simulation.world import World

MakeWorld = Callable[..., World]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A world writes thousands of lines that nobody reads."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with nothing in it: copying it takes a hundredth of migrating one."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory: what the disk does with a commit is not the question here."""
    shm = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="conductor-sim-", dir=shm if shm.is_dir() else None))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def make_world(folder: Path, empty_database: Path) -> Iterator[MakeWorld]:
    """Makes a world of these plans and boots it; without vendors there is one with keys, `vendor`."""
    made: list[World] = []

    def make(*plans: Plan, vendors: tuple[FakeVendor, ...] = (), clock: SimClock | None = None, **more: Any) -> World:
        clock = clock or (vendors[0].clock if vendors else SimClock())
        world = World(
            folder,
            *plans,
            vendors=vendors or (FakeVendor("vendor", KEYED, clock),),
            clock=clock,
            template=empty_database,
            **more,
        )
        made.append(world)
        return world.boot()

    yield make
    for world in made:
        world.end()
