"""Runs an engine in this process with its control channel, until it is asked to stop. Used by `serve` and `run`."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conductor.bootstrap import Running
    from conductor.core.vendor import Json

__all__ = ["Hosted", "hosted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """An engine that runs.

    Attributes:
        running: The engine and its faces.
        loop: Ends when the engine can no longer go on; its exception says why.
        stop: Set by SIGINT and SIGTERM.
        reload: Set by SIGHUP; whoever reads it clears it.
        signals: Which signals came.
    """

    running: Running
    loop: asyncio.Task[None]
    stop: asyncio.Event
    reload: asyncio.Event
    signals: list[signal.Signals] = field(default_factory=list)


@asynccontextmanager
async def hosted(running: Running, *, mode: str) -> AsyncIterator[Hosted]:
    """Start the engine and open the control channel; stop both gracefully at the end of the block.

    Args:
        running: Not started yet.
        mode: `serve` or `run`, as `status` reports it.

    Raises:
        StoreError: The engine could not go on.
    """
    from conductor.service.control import ControlServer, Handlers

    engine = running.engine
    started_at = running.workspace.clock.now()

    def status() -> Mapping[str, Json]:
        return {
            "mode": mode,
            "pid": os.getpid(),
            "started_at": started_at.isoformat(),
            "active_runs": len(engine.runs),
            "closed": dict(engine.connections.closed),
            "broken": dict(engine.broken),
        }

    async def reload() -> Mapping[str, Json]:
        return {"pipelines": list(await running.reload())}

    handlers = Handlers(actions=running.actions, status=status, reload=reload)
    control = ControlServer(state_dir=running.workspace.settings.state_dir, handlers=handlers)
    await control.open()
    try:
        await engine.start()
        loop = asyncio.create_task(engine.run())
        here = Hosted(running=running, loop=loop, stop=asyncio.Event(), reload=asyncio.Event())
        with _signals(here):
            try:
                yield here
            finally:
                await control.close()
                if not loop.done():
                    await engine.stop()
                await asyncio.wait({loop})
        loop.result()
    finally:
        await control.close()


class _signals:  # noqa: N801 - reads as the verb that it is
    """Turns signals into events; after the first request to stop, the next one ends the process at once."""

    def __init__(self, here: Hosted) -> None:
        self._here = here

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._here.reload.set)

    def __exit__(self, *_: object) -> None:
        self._remove()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def _stop(self, number: signal.Signals) -> None:
        self._here.signals.append(number)
        self._here.stop.set()
        self._remove()

    def _remove(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
