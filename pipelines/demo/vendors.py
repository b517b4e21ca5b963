"""The demo's vendors: the sandboxes of Fivetran and Hightouch as HTTP servers on loopback, in a process of their own.

Prints one JSON line with their addresses when both answer, and serves until its standard input closes: so it never
outlives the demo, even when the demo is killed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path

import uvicorn

from conductor.engine.clock import SystemClock
from integrations.fivetran.sandbox import FivetranSandbox
from integrations.hightouch.sandbox import HightouchSandbox
from pipelines.demo.shop import load, push

__all__ = ["main"]

_SYNC_S = 3.0
_PUSH_S = 2.0


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port))
    listener.setblocking(False)
    return listener


async def main(warehouse: Path, ports: tuple[int, int] = (0, 0)) -> None:
    """Serve both vendors until standard input closes."""
    clock = SystemClock()
    fivetran = FivetranSandbox(
        clock, on_sync=lambda name: load(warehouse, name), sync_duration_s=_SYNC_S, start_lag_s=0.5
    )
    for name in ("shop_orders", "shop_customers"):
        fivetran.add_connection(name, schema="shop")
    first_id = int(clock.now().timestamp())
    hightouch = HightouchSandbox(clock, run_s=_PUSH_S, on_sync=lambda _sync: push(warehouse), first_id=first_id)
    listeners = [_listen(port) for port in ports]
    servers = [
        uvicorn.Server(uvicorn.Config(vendor.app, log_level="error", lifespan="off", access_log=False))
        for vendor in (fivetran, hightouch)
    ]
    urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]
    async with asyncio.TaskGroup() as tasks:
        _ = [
            tasks.create_task(server.serve(sockets=[listener]))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        facts = {
            "DEMO_FIVETRAN_URL": urls[0],
            "DEMO_HIGHTOUCH_URL": urls[1],
            "DEMO_FIVETRAN_KEY": str(fivetran.connection(urls[0])["api_key"]),
            "DEMO_FIVETRAN_SECRET": str(fivetran.connection(urls[0])["api_secret"]),
            "DEMO_HIGHTOUCH_KEY": str(hightouch.connection(urls[1])["api_key"]),
        }
        print(json.dumps(facts), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for server in servers:
            server.should_exit = True


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
