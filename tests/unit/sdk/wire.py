"""A vendor on a real socket that answers each connection as scripted, and remembers every request that it read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from conductor.engine.clock import SystemClock
from conductor.sdk.http import Http, HttpSettings
from conductor.sdk.limits import RateLimit, TokenBucket
from conductor.sdk.redact import Redactor

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + b'{"id": "r1"}'


@dataclass(slots=True)
class Wire:
    """Scripted answers, one for each request in order; the last one repeats. Empty bytes hang up without an answer."""

    script: list[bytes]
    seen: list[str] = field(default_factory=list)
    connections: int = 0
    is_silent: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
                await reader.readexactly(length)
                self.seen.append(head.decode().partition("\r\n")[0])
                if self.is_silent:
                    await reader.read()
                    return
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if not answer:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def talking(wire: Wire, **changes: object) -> AsyncIterator[Http]:
    """A client of the production kind, connected to `wire`."""
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clock = SystemClock()
    settings = HttpSettings(base_url=f"http://127.0.0.1:{port}", **changes)  # type: ignore[arg-type] # tests' own
    http = Http(
        connection="vendor",
        settings=settings,
        clock=clock,
        bucket=TokenBucket(RateLimit(requests=1000, per_s=1, burst=1000), clock),
        redact=Redactor(),
    )
    try:
        yield http
    finally:
        await http.aclose()
        server.close()


def run(wire: Wire, act: Callable[[Http], object], **changes: object) -> object:
    """What `act` brings on a fresh client; what it raises comes through."""

    async def main() -> object:
        async with talking(wire, **changes) as http:
            made = act(http)
            return await made if asyncio.iscoroutine(made) else made

    return asyncio.run(main())
