"""The job service's sandbox as a process of its own: it outlives every Conductor, and its ledger is the truth.

Prints its address as a line of JSON, answers `GET /ledger`, and ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from conductor.engine.clock import SystemClock
from integrations.http.sandbox import HttpSandbox

__all__: list[str] = []

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def _main(answer_delay_s: float) -> None:
    sandbox = HttpSandbox(SystemClock())
    # Accepted at once and answered later: a kill in between leaves a start that nobody knows of.
    sandbox.answer_delay_s = answer_delay_s

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/ledger":
            await sandbox.app(scope, receive, send)
            return
        body = json.dumps([{"key": one.key, "job": one.run, "name": one.scope} for one in sandbox.ledger]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{port}", "token": sandbox.token}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1])))
