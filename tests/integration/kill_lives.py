"""Real processes that live until they are killed: each runs a real project with everything that `serve` builds.

One process imports everything once and forks; what it forks is a Conductor of its own, on the same database, which is
killed by its parent's parent. Per line of standard input (`{"project": …, "runs": …, …}`) one life begins,
and its process id is printed, then when its engine has started, and when it has ended, how.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from conductor import bootstrap
from conductor.core.events import RetryFailed
from conductor.core.run import Run, Trigger
from conductor.engine.clock import SystemClock
from conductor.engine.engine import Engine
from conductor.engine.pipelines import NewRun

__all__: list[str] = []


async def _live(*, project: Path, runs: int, at_once: int, is_last: bool) -> None:
    """Keep so many runs going until all are recorded, then until all have ended; the last life retries what is held."""
    workspace = bootstrap.open_project(flags={}, variables=os.environ, cwd=project)
    workspace.project.require_ok()
    running = bootstrap.build_running(workspace, has_schedules=False)
    with bootstrap.configure_logging(level="error", form="json", redact=workspace.redact):
        engine = running.engine
        await engine.start()
        _tell(lives=os.getpid())
        loop = asyncio.create_task(engine.run())
        for number in range(len(running.reads.runs(limit=10_000)), runs):
            await _room(engine, loop, at_once)
            name = ("keyed", "tagged")[number % 2]
            await engine.trigger(NewRun(pipeline=name, trigger=Trigger.CI, identity=f"kill:{number}"))
        await _room(engine, loop, 1)
        if is_last:
            for run_id in [run.id for run in engine.runs.values() if _is_held(run)]:
                await engine.command(run_id, RetryFailed(actor="somebody who looked at the vendor"))
            await _room(engine, loop, 1)
        await engine.stop()
        await loop
    running.close()


async def _room(engine: Engine, loop: asyncio.Task[None], at_once: int) -> None:
    """Wait until fewer runs than so many can go on by themselves."""
    clock = SystemClock()
    while not loop.done() and sum(1 for run in engine.runs.values() if not _is_held(run)) >= at_once:
        await clock.sleep(0.01)


def _is_held(run: Run) -> bool:
    return any(one.state == "held" for one in run.nodes.values())


def _fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        asyncio.run(_live(**{**order, "project": Path(order["project"])}))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it was, this process ends here and says so
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        # What a first load takes long for is inherited: the lives are short.
        bootstrap.open_project(flags={}, variables=os.environ, cwd=Path(order["project"]))
        pid = _fork(order)
        _tell(pid=pid)
        _, status = os.waitpid(pid, 0)
        _tell(ended=pid, code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _main()
