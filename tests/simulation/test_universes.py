"""Hundreds of small universes, each from a seed: every fault that a vendor, a database, a process and a clock can play.

A failing seed prints one line that lives it again.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from conductor.store import Store
from tests.simulation.universe import Universe, journal_of

FEW = range(200)
MANY = range(1_000, 3_000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory, with an empty database to copy from."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    shm = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="conductor-sim-", dir=shm if shm.is_dir() else None))
    Store.open(f"sqlite:///{made}/empty.db").close()
    yield made
    shutil.rmtree(made, ignore_errors=True)
    structlog.reset_defaults()


def _live(seed: int, place: Path) -> tuple[list[str], Universe]:
    folder = place / f"seed-{seed}"
    folder.mkdir()
    universe = Universe(seed=seed, folder=folder, template=place / "empty.db")
    try:
        universe.run()
        return journal_of(universe.world), universe
    except BaseException as error:
        error.add_note(f"again: .venv/bin/python -m tests.simulation.again {seed}")
        raise
    finally:
        universe.world.end()
        shutil.rmtree(folder)


def _live_all(seeds: range, place: Path) -> Counter[str]:
    hits: Counter[str] = Counter()
    for seed in seeds:
        hits += _live(seed, place)[1].hits
    return hits


def test_what_must_hold_holds_in_every_universe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = _live_all(FEW, place)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(FEW)} universes, faults played: {dict(sorted(hits.items()))}\n")
    assert min(hits.values()) >= 3, "a fault that is hardly ever played proves nothing"


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_lived_twice_leaves_the_same_journal(place: Path, seed: int) -> None:
    assert _live(seed, place)[0] == _live(seed, place)[0]


def test_a_seed_lived_in_another_process_leaves_the_same_journal() -> None:
    journals = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.again", "3"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(journals) == 1
    assert len(journals.pop()) > 1000


@pytest.mark.slow
def test_what_must_hold_holds_in_thousands_of_universes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = _live_all(MANY, place)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(MANY)} universes, faults played: {dict(sorted(hits.items()))}\n")
    assert min(hits.values()) >= 30
