"""The floor: a bare loop that sends the same requests by the same client and keeps no state. It survives nothing."""

from __future__ import annotations

import asyncio
import sys

import httpx  # noqa: TID251 - the floor is what the client costs without anything of ours round it

from bench.lines import cpu_s, peak_rss_mb, say
from bench.workloads import Workload
from conductor.engine.clock import SystemClock
from conductor.sdk.http import HttpSettings, aiohttp_transport

__all__ = ["main"]

_SENDS_AT_ONCE = 64
_LOOKS_AT_ONCE = 8
_BATCH = 500
_GROWTH = 0.05


class _Floor:
    def __init__(self, workload: Workload, client: httpx.AsyncClient) -> None:
        self._workload = workload
        self._client = client
        self._clock = SystemClock()
        self._sends = asyncio.Semaphore(_SENDS_AT_ONCE)
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for layers in self._workload.pipelines_of_jobs():
                _ = group.create_task(self._pipeline(layers))

    async def _pipeline(self, layers: list[list[str]]) -> None:
        for layer in layers:
            began_s = self._clock.monotonic()
            async with asyncio.TaskGroup() as group:
                starts = [group.create_task(self._start(name)) for name in layer]
            open_ids = [start.result() for start in starts]
            while open_ids:
                elapsed_s = self._clock.monotonic() - began_s
                await self._clock.sleep(max(elapsed_s * _GROWTH, self._workload.poll_floor_s))
                open_ids = await self._look(open_ids)

    async def _start(self, name: str) -> str:
        async with self._sends:
            answer = await self._client.post(
                "/jobs",
                json=self._workload.job_body(name),
                headers={"Idempotency-Key": f"floor-{name}", "Connection": "close"},
            )
        return str(answer.raise_for_status().json()["id"])

    async def _look(self, ids: list[str]) -> list[str]:
        still: list[str] = []

        async def one(part: list[str]) -> None:
            async with self._looks:
                answer = await self._client.get("/jobs", params={"ids": ",".join(part)})
            still.extend(job["id"] for job in answer.raise_for_status().json()["jobs"] if job["state"] != "done")

        async with asyncio.TaskGroup() as group:
            for at in range(0, len(ids), _BATCH):
                _ = group.create_task(one(ids[at : at + _BATCH]))
        return still


async def _go(workload: Workload, base_url: str, token: str) -> None:
    settings = HttpSettings(base_url=base_url)
    clock = SystemClock()
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(
        transport=aiohttp_transport(settings), base_url=base_url, headers=headers, timeout=30.0
    ) as client:
        began_s = clock.monotonic()
        await _Floor(workload, client).run()
        elapsed_s = clock.monotonic() - began_s
    say({"event": "done", "elapsed_s": elapsed_s, "cpu_s": cpu_s(), "rss_mb": peak_rss_mb()})


def main() -> None:
    """Arguments: the workload as JSON, the vendor's address and token."""
    workload, base_url, token = sys.argv[1:4]
    asyncio.run(_go(Workload.from_json(workload), base_url, token))


if __name__ == "__main__":
    main()
