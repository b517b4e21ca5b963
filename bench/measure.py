"""Measures: starts a vendor and a subject for every sample, and turns what they say into samples."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from bench.children import Child, Vendor, child, vendor
from bench.figures import Sample, count_starts
from bench.workloads import Workload
from conductor.engine.clock import SystemClock

__all__ = ["measure_engine", "measure_floor", "measure_ours"]

_LOOK_S = 0.05
_PATIENCE = 2.0
_PATIENCE_S = 30.0
_TRANSIT_DELAY_S = 60.0


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="conductor-bench-") as path:
        yield path


def _limit_s(workload: Workload) -> float:
    """Whoever takes longer than this hangs."""
    return _PATIENCE_S + _PATIENCE * (workload.ideal_s + (workload.kill_at_s or 0.0)) + workload.runs / 100


async def measure_ours(workload: Workload) -> Sample:
    """One sample of Conductor; killed and restarted on the way where the workload says so."""
    with _folder() as folder:
        async with vendor() as seller, asyncio.timeout(_limit_s(workload)):
            if workload.kill_at_s is None and not workload.is_kill_in_transit:
                async with _conductor(workload, seller, folder, "new") as subject:
                    done = await subject.hear("done")
                return _sample(workload, done, await seller.report())
            return await _killed(workload, seller, folder)


def _conductor(workload: Workload, seller: Vendor, folder: str, mode: str) -> AbstractAsyncContextManager[Child]:
    return child("bench.ours", workload.to_json(), seller.base_url, seller.token, folder, mode)


async def _killed(workload: Workload, seller: Vendor, folder: str) -> Sample:
    if workload.is_kill_in_transit:
        await seller.set(answer_delay_s=_TRANSIT_DELAY_S)
    async with _conductor(workload, seller, folder, "new") as first:
        await _accepted(seller, workload.runs)
        await SystemClock().sleep(workload.kill_at_s or 0.0)
        await first.kill()
    if workload.is_kill_in_transit:
        await seller.set(answer_delay_s=0.0)
    restarted_at = SystemClock().now().timestamp()
    async with _conductor(workload, seller, folder, "takeover") as second:
        attached = await second.hear("attached")
        done = await second.hear("done")
    return _sample(workload, done, await seller.report(), reattach_s=attached["at"] - restarted_at)


async def _accepted(seller: Vendor, count: int) -> None:
    while len((await seller.report())["accepted"]) < count:
        await SystemClock().sleep(_LOOK_S)


async def measure_floor(workload: Workload) -> Sample:
    """One sample of the bare loop."""
    async with vendor() as seller, asyncio.timeout(_limit_s(workload)):
        async with child("bench.floor", workload.to_json(), seller.base_url, seller.token) as subject:
            done = await subject.hear("done")
        return _sample(workload, done, await seller.report())


async def measure_engine(workload: Workload) -> Sample:
    """One sample of the engine with a vendor that does nothing."""
    with _folder() as folder:
        async with asyncio.timeout(_limit_s(workload)), child("bench.noop", workload.to_json(), folder) as subject:
            done = await subject.hear("done")
    return Sample(elapsed_s=done["elapsed_s"], cpu_s=done["cpu_s"], rss_mb=done["rss_mb"])


def _sample(
    workload: Workload, done: Mapping[str, Any], report: Mapping[str, Any], *, reattach_s: float | None = None
) -> Sample:
    requests: Mapping[str, int] = report["requests"]
    starts = requests.get("POST /jobs", 0)
    duplicates, never_started = count_starts(workload.job_names(), report["accepted"])
    return Sample(
        elapsed_s=done["elapsed_s"],
        cpu_s=done["cpu_s"],
        rss_mb=done["rss_mb"],
        waiting_share=done.get("waiting_share"),
        starts=starts,
        reads=sum(requests.values()) - starts,
        looks=report["looks"],
        duplicates=duplicates,
        lost=never_started + done.get("unfinished", 0),
        reattach_s=reattach_s,
    )
