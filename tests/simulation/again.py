"""Lives one seed again and prints its journal: `python -m tests.simulation.again 17`."""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import structlog

from conductor.store import Store
from tests.simulation.universe import Universe

__all__: list[str] = []


def _main(seed: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.db"
        Store.open(f"sqlite:///{empty}").close()
        universe = Universe(seed=seed, folder=Path(folder), template=empty)
        try:
            universe.run()
        finally:
            if universe.world.life is not None:
                for row in universe.world.journal():
                    at = row.transition
                    who = f"{row.run_id[:6]} {at.subject} {at.node} {at.attempt_no}"
                    what = f"{at.before} → {at.after} {at.cause} {dict(at.detail)}"
                    sys.stdout.write(f"{at.at:%d %H:%M:%S.%f} {who} {what}\n")
            universe.world.end()


if __name__ == "__main__":
    _main(int(sys.argv[1]))
