"""Conductor as the measured process: runs a workload to its end, or takes over what a killed one left."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.lines import cpu_s, peak_rss_mb, say
from bench.project import CONNECTION, TOKEN, pipeline_name, write_project
from bench.workloads import Workload
from conductor.bootstrap import Workspace, build_running, configure_logging, open_project
from conductor.core.run import Run, Trigger
from conductor.core.states import AttemptState, RunState
from conductor.engine.clock import SystemClock
from conductor.engine.engine import Engine
from conductor.engine.pipelines import NewRun
from conductor.store import Store

__all__ = ["main"]

_SETTLED_S = 2.0


class _Watch:
    """Looks at the engine after every tick and notes what happened when."""

    def __init__(self, engine: Engine, workload: Workload, *, is_takeover: bool) -> None:
        self._engine = engine
        self._workload = workload
        self._is_takeover = is_takeover
        self.is_triggered = is_takeover
        self.all_started = asyncio.Event()

    def is_over(self) -> bool:
        """True when every run has ended."""
        if not self.all_started.is_set() and self._started() >= self._workload.runs:
            self.all_started.set()
        if self._is_takeover and all(_is_followed(run) for run in self._engine.runs.values()):
            say({"event": "attached", "at": SystemClock().now().timestamp()})
            self._is_takeover = False
        return self.is_triggered and not self._engine.runs

    def _started(self) -> int:
        return self._engine.connections.requests[CONNECTION, "start"]


def _is_followed(run: Run) -> bool:
    """Every start of the run is tied to a run of the vendor's (or has seen its end)."""
    return all(
        node.attempt is not None and node.attempt.ref is not None and node.attempt.state is not AttemptState.SENDING
        for node in run.nodes.values()
    )


def _unfinished(store: Store, workload: Workload) -> int:
    """How many nodes did not succeed, as the database says."""
    good = sum(1 for run in store.runs(limit=workload.pipelines + 1) if run.state is RunState.SUCCEEDED)
    return (workload.pipelines - good) * workload.layers * workload.width


async def _waiting_share(watch: _Watch, workload: Workload) -> float | None:
    """The share of one core while everything is in flight; None when there is no such time."""
    clock = SystemClock()
    began_s = clock.monotonic()
    await watch.all_started.wait()
    await clock.sleep(_SETTLED_S)
    from_s, from_cpu_s = clock.monotonic(), cpu_s()
    left_s = began_s + workload.duration_s - 1.0 - from_s
    if left_s <= 1.0:
        return None
    await clock.sleep(left_s)
    return (cpu_s() - from_cpu_s) / (clock.monotonic() - from_s)


async def _go(workload: Workload, workspace: Workspace, *, is_takeover: bool) -> None:
    clock = SystemClock()
    running = build_running(workspace, has_schedules=False)
    engine = running.engine
    await engine.start()
    watch = _Watch(engine, workload, is_takeover=is_takeover)
    began_s = clock.monotonic()
    loop = asyncio.create_task(engine.run(until=watch.is_over))
    waiting = asyncio.create_task(_waiting_share(watch, workload))
    if not is_takeover:
        for at in range(workload.pipelines):
            await engine.trigger(NewRun(pipeline=pipeline_name(at), trigger=Trigger.MANUAL, identity="bench"))
        watch.is_triggered = True
        engine.wake_up()
    await loop
    elapsed_s = clock.monotonic() - began_s
    used_s, peak_mb = cpu_s(), peak_rss_mb()
    share = waiting.result() if waiting.done() else None
    waiting.cancel()
    await engine.stop()
    say(
        {
            "event": "done",
            "elapsed_s": elapsed_s,
            "cpu_s": used_s,
            "rss_mb": peak_mb,
            "waiting_share": share,
            "unfinished": _unfinished(running.store, workload),
            "ticks": engine.ticks,
        }
    )
    running.close()


def main() -> None:
    """Arguments: the workload as JSON, the vendor's address and token, a folder, `new` or `takeover`."""
    text, base_url, token, folder, mode = sys.argv[1:6]
    workload, project = Workload.from_json(text), Path(folder)
    if mode == "new":
        write_project(workload, base_url, project)
    workspace = open_project(flags={}, variables={TOKEN: token}, cwd=project)
    workspace.project.require_ok()
    # One line a transition, as the service writes it.
    with (
        (project / "bench.log").open("a", encoding="utf-8") as log,
        configure_logging(level="info", form="json", stream=log, redact=workspace.redact),
    ):
        asyncio.run(_go(workload, workspace, is_takeover=mode == "takeover"))


if __name__ == "__main__":
    main()
