"""This host as a vendor, for the contract suite: real supervisors and real processes that end when they are told to.

The command under test is a stand-in that appends its key to `<steer>/ledger` and then reads one word from the FIFO
`<steer>/<key>`; what it does with the word is the stand-in's business. Faults are played where a wire would be: at the
spawning of a supervisor and at the reading of a record file. This is the one place that waits for processes; never in
the product.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any

from conductor.core.vendor import ExternalState
from conductor.sdk import supervisor
from conductor.sdk.child import read_file, spawn_supervisor
from conductor.sdk.clock import Clock
from conductor.sdk.sandbox import AsgiApp, Effect, Faults, LedgerEntry

__all__ = ["READ_PATH", "START_PATH", "ChildSandbox"]

START_PATH = "/supervisor$"
"""Where start faults hit: the spawning of a supervisor."""
READ_PATH = "/files/"
"""Where read faults hit: `/files/<name>` for each record file that is read."""

_ENOUGH = 5000
_STEP_S = 0.002
_GARBLED = 99


class ChildSandbox:
    """Give `spawn` and `read` to `Children`; then `advance` ends the newest child.

    Attributes:
        app: Answers 404: there is no wire.
        faults: Played by `spawn` and `read`.
        ledger: One row for each launch of the command, written by the command itself.
        requests: How many supervisors were spawned and files read.
        steer: The folder that the stand-in is told by its arguments or settings.
    """

    app: AsgiApp
    faults: Faults
    ledger: list[LedgerEntry]
    requests: dict[str, int]

    def __init__(
        self, children: Path, *, steer: Path, clock: Clock, scope: str, words: Mapping[ExternalState, str]
    ) -> None:
        """Make `steer`.

        Args:
            children: The root of `Children`.
            steer: A folder for the ledger and the FIFOs.
            clock: Dates the ledger.
            scope: What the ledger calls the object.
            words: What to tell the stand-in for a state when `advance` is given no word.
        """
        self.app = _no_wire
        self.faults = Faults()
        self.ledger = []
        self.requests = {}
        self.steer = steer
        self._children = children
        self._clock = clock
        self._scope = scope
        self._words = words
        self._fifos: dict[str, int] = {}
        steer.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, _close, self._fifos)

    def connection(self, base_url: str) -> dict[str, object]:  # noqa: ARG002 - the signature is the protocol's
        """Nothing: work on this host needs no credentials."""
        return {}

    def spawn(self, directory: Path, env: Mapping[str, str]) -> int:
        """Spawn a real supervisor, or play a fault."""
        self._count("POST /supervisor")
        fault = self.faults.take("POST", "/supervisor")
        lost = subprocess.TimeoutExpired("supervisor", 0.0)
        if fault is None:
            return self._spawned(directory, env)
        if fault.effect is Effect.LOSE_REQUEST:
            raise lost
        if fault.effect is Effect.ERROR:
            return supervisor.NOT_CLAIMED
        self._spawned(directory, env)
        if fault.effect is Effect.LOSE_ANSWER:
            raise lost
        return _GARBLED

    def read(self, path: Path) -> bytes:
        """Read a record file, or play a fault."""
        self._count("GET /files/{name}")
        fault = self.faults.take("GET", f"/files/{path.name}")
        if fault is None:
            return read_file(path)
        if fault.effect is Effect.BODY:
            return fault.body
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Drive the newest child to `state`, and wait until its files say so.

        `vanished` kills supervisor and command; `unrecognised` leaves a record as another version would; everything
        else is told to the stand-in.
        """
        assert scope == self._scope, f"there is no {scope}"
        if not state.is_final and state is not ExternalState.UNRECOGNISED:
            return
        key = self.ledger[-1].key
        directory = self._children / key
        if state is ExternalState.VANISHED:
            self._kill(directory)
        elif state is ExternalState.UNRECOGNISED:
            self._kill(directory)
            now: datetime = self._clock.now()
            record = {"version": 99, "outcome": word, "ended_at": now.isoformat()}
            (directory / "exit.json").write_text(json.dumps(record))
        else:
            os.write(self._fifos[key], f"{word or self._words[state]}\n".encode())
            _until((directory / "exit.json").exists, f"{key} did not end")

    def settle(self) -> None:
        """Wait until every child that was asked to stop has ended."""
        for marker in self._children.glob("*/cancel"):
            directory = marker.parent
            if (directory / "claim").exists() and directory.name in self._fifos:
                _until((directory / "exit.json").exists, f"{directory.name} was not stopped")

    def _spawned(self, directory: Path, env: Mapping[str, str]) -> int:
        key = directory.name
        if key not in self._fifos:
            os.mkfifo(self.steer / key)
            self._fifos[key] = os.open(self.steer / key, os.O_RDWR)
        code = spawn_supervisor(directory, env)
        if code == supervisor.RUNNING:
            seen = len(self.ledger)
            _until(lambda: len(self._launches()) > seen, f"{key} did not begin")
            new = self._launches()[seen:]
            self.ledger += [LedgerEntry(at=self._clock.now(), scope=self._scope, run=one, key=one) for one in new]
        return code

    def _launches(self) -> list[str]:
        path = self.steer / "ledger"
        return path.read_text().split() if path.exists() else []

    def _kill(self, directory: Path) -> None:
        started = json.loads((directory / "started.json").read_text())
        os.kill(started["pid"], signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started["child_pid"], signal.SIGKILL)
        # Locks, not pids: where nobody reaps orphans, a dead process keeps its pid.
        _until(lambda: not _is_locked(directory / "alive"), f"the supervisor of {directory.name} lives on")
        _until(lambda: not _is_locked(directory / "busy"), f"the command of {directory.name} lives on")

    def _count(self, what: str) -> None:
        self.requests[what] = self.requests.get(what, 0) + 1


async def _no_wire(
    _scope: MutableMapping[str, Any],
    _receive: Callable[..., Any],
    send: Callable[..., Any],
) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _until(is_so: Callable[[], bool], otherwise: str) -> None:
    pause = threading.Event()
    for _ in range(_ENOUGH):
        if is_so():
            return
        pause.wait(_STEP_S)
    raise AssertionError(f"{otherwise} within {_ENOUGH * _STEP_S:.0f} s")


def _close(fifos: Mapping[str, int]) -> None:
    """Stand-ins that still wait read the end of their FIFO and end."""
    for fd in fifos.values():
        os.close(fd)
