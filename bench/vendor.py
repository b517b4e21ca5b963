"""The vendor as a process: the HTTP integration's sandbox behind uvicorn on a free loopback port.

Its parent changes it and asks for its ledger over pipes, so that nothing but the subject's requests passes the port.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from bench.lines import read_lines, say
from conductor.engine.clock import SystemClock
from integrations.http.sandbox import HttpSandbox, make_sandbox

__all__ = ["main"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Counted:
    """The sandbox, with the looks at runs counted: a list request that names 500 ids is 500 looks."""

    def __init__(self, sandbox: HttpSandbox) -> None:
        self._app = sandbox.app
        self.looks = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        query = scope.get("query_string", b"")
        if query.startswith(b"ids="):
            self.looks += query.count(b"%2C") + query.count(b",") + 1
        await self._app(scope, receive, send)


async def main() -> None:
    """Serve until the parent closes the pipe."""
    sandbox = make_sandbox(SystemClock())
    app = _Counted(sandbox)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_keep_alive=120)
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    say({"base_url": f"http://127.0.0.1:{port}", "token": sandbox.token})
    async for order in read_lines():
        for name, value in order.get("set", {}).items():
            setattr(sandbox, name, value)
        say(
            {
                "accepted": [entry.scope for entry in sandbox.ledger],
                "requests": sandbox.requests,
                "looks": app.looks,
            }
        )
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
