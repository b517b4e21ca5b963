"""The engine alone as the measured process: a vendor that does nothing at once, SQLite with full durability."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bench.assembly import engine_for
from bench.lines import cpu_s, peak_rss_mb, say
from bench.workloads import Workload
from conductor.core.keys import digest
from conductor.core.plan import NodePlan, Plan, Rendered
from conductor.core.run import Trigger
from conductor.core.vendor import (
    Absent,
    Baseline,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    FindAnswer,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Request,
)
from conductor.engine.clock import SystemClock
from conductor.engine.pipelines import NewRun

__all__ = ["main"]

_CAPABILITIES = Capabilities(
    correlation=Correlation.KEY, delivery=Delivery.EFFECTIVELY_ONCE, batch_size=1000, poll_floor_s=0.01
)


class _Noop:
    """Every run has succeeded when it is first looked at."""

    async def prepare(self, request: Request) -> Baseline:  # noqa: ARG002 - the protocol's
        return Baseline()

    async def start(self, request: Request) -> ExternalRef:
        return ExternalRef(id=request.key)

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        return {ref.id: Observation(state=ExternalState.SUCCEEDED) for ref in refs}

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:  # noqa: ARG002 - the protocol's
        return Absent()

    async def cancel(self, ref: ExternalRef) -> None:  # noqa: ARG002 - the protocol's
        return None

    async def logs(self, ref: ExternalRef) -> LogExcerpt:  # noqa: ARG002 - the protocol's
        return LogExcerpt()

    async def check(self) -> Health:
        return Health(is_ok=True, message="")


@dataclass(slots=True)
class _Constant:
    """A `with` without expressions."""

    constant: Rendered | None = field(default_factory=lambda: Rendered(settings={}))

    def render(self, _context: Mapping[str, Json]) -> Rendered:
        assert self.constant is not None
        return self.constant


def _plans(workload: Workload) -> Iterator[Plan]:
    for at, layers in enumerate(workload.pipelines_of_jobs()):
        nodes: dict[str, NodePlan] = {}
        above: tuple[str, ...] = ()
        for layer in layers:
            nodes |= {job: _node(job, above) for job in layer}
            above = tuple(layer)
        definition: dict[str, Json] = {"nodes": list(nodes)}
        yield Plan(name=f"bench-{at}", version=digest(definition)[:12], definition=definition, nodes=nodes)


def _node(job: str, above: tuple[str, ...]) -> NodePlan:
    return NodePlan(
        id=job,
        uses="noop.job",
        connection="noop",
        settings=_Constant(),
        capabilities=_CAPABILITIES,
        delivery=_CAPABILITIES.delivery,
        if_running=_CAPABILITIES.if_running,
        on_unknown=_CAPABILITIES.on_unknown,
        settle_window_s=_CAPABILITIES.settle_window_s,
        depends_on=above,
    )


async def _go(workload: Workload, folder: Path) -> None:
    defined = list(_plans(workload))
    clock = SystemClock()
    async with engine_for(defined, lambda _context: _Noop(), folder) as (engine, _store):
        is_triggered = False
        began_s, began_cpu_s = clock.monotonic(), cpu_s()
        loop = asyncio.create_task(engine.run(until=lambda: is_triggered and not engine.runs))
        async with asyncio.TaskGroup() as group:
            for plan in defined:
                new = NewRun(pipeline=plan.name, trigger=Trigger.MANUAL, identity="bench")
                _ = group.create_task(engine.trigger(new))
        is_triggered = True
        engine.wake_up()
        await loop
        elapsed_s, used_s = clock.monotonic() - began_s, cpu_s() - began_cpu_s
    say({"event": "done", "elapsed_s": elapsed_s, "cpu_s": used_s, "rss_mb": peak_rss_mb(), "ticks": engine.ticks})


def main() -> None:
    """Arguments: the workload as JSON and a folder."""
    workload, folder = sys.argv[1:3]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(_go(Workload.from_json(workload), Path(folder)))


if __name__ == "__main__":
    main()
