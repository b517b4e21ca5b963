"""How the processes of the benchmark talk: one JSON object a line, over pipes. Nothing else may be printed there."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

__all__ = ["cpu_s", "peak_rss_mb", "read_lines", "say"]


def say(message: Mapping[str, object]) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def read_lines() -> AsyncIterator[dict[str, Any]]:
    """What the parent says, until it closes the pipe."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def cpu_s() -> float:
    """CPU seconds of this process so far, imports and all."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> float:
    """The most memory that this process has held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
