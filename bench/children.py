"""Starts, hears and kills the processes of a measurement. Every process that is started here is ended here."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

__all__ = ["BYTE_CODE", "Child", "ChildError", "Vendor", "child", "vendor"]


BYTE_CODE = Path("build/bench-pycache").absolute()


class ChildError(Exception):
    """A measured process ended without its result; its own words are on the terminal."""


class Child:
    """One process that says JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process, what: str) -> None:
        self._process = process
        self._what = what

    async def hear(self, event: str | None = None) -> dict[str, Any]:
        """The next line, or the next one about `event`.

        Raises:
            ChildError: The process ended first.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said: dict[str, Any] = json.loads(line)
            if event is None or said.get("event") == event:
                return said
        raise ChildError(f"{self._what} ended with {await self._process.wait()} before it had a result")

    async def order(self, **orders: object) -> dict[str, Any]:
        """Say one line and hear the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        await self._process.stdin.drain()
        return await self.hear()

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """`python -m <module> <arguments>`; killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # As an installed program runs: byte code kept, nothing of the caller's Python settings.
        *("-E", "-X", f"pycache_prefix={BYTE_CODE}"),
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    made = Child(process, module)
    try:
        yield made
    finally:
        await made.kill()


class Vendor:
    """The vendor's process."""

    def __init__(self, process: Child, base_url: str, token: str) -> None:
        self._child = process
        self.base_url = base_url
        self.token = token

    async def set(self, **settings: float) -> None:
        """Change attributes of the sandbox."""
        await self._child.order(set=settings)

    async def report(self) -> dict[str, Any]:
        """Names of accepted starts in order, requests by template, and how many looks at runs were asked for."""
        return await self._child.order()


@asynccontextmanager
async def vendor() -> AsyncIterator[Vendor]:
    """A fresh vendor on a free loopback port."""
    async with child("bench.vendor") as process:
        said = await process.hear()
        yield Vendor(process, said["base_url"], said["token"])
