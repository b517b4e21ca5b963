"""Speaks to a running service on this machine through its control channel. Synchronous; one connection a call."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from conductor.core.errors import ConductorError, NotAllowedError, StoreUnavailableError
from conductor.core.vendor import Json
from conductor.service.asks import Done, PauseAsk, RunAsk, TriggerAsk
from conductor.service.document import plain
from conductor.service.wire import ERRORS, MOST_BYTES, PROTOCOL, address_file, fits, pack, socket_path, unpack

__all__ = ["ControlClient", "find_service"]

_TIMEOUT_S = 30.0
_NEEDED = frozenset({"run_id", "pipeline", "state"})


class ControlClient:
    """Carries asks to a service; the same as `Actions`, over the socket.

    Every call raises what the service raised, or `StoreUnavailableError` when it does not answer.
    """

    def __init__(self, path: Path, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    async def trigger(self, ask: TriggerAsk) -> Done:
        """Record a run."""
        return _done(self.call("trigger", _args(ask)))

    async def on_run(self, ask: RunAsk) -> Done:
        """Change a run."""
        return _done(self.call("run", _args(ask)))

    async def on_pipeline(self, ask: PauseAsk) -> Done:
        """Pause or resume a pipeline."""
        return _done(self.call("pipeline", _args(ask)))

    def status(self) -> Mapping[str, Json]:
        """What only the service knows: `pid`, `started_at`, `closed` (stopped connection → why)."""
        return self.call("status", {})

    def reload(self) -> Mapping[str, Json]:
        """Make the service load its definitions anew."""
        return self.call("reload", {})

    def call(self, do: str, args: Mapping[str, Json]) -> Mapping[str, Json]:
        """One request and its answer.

        Raises:
            ConductorError: As the service raised it.
            StoreUnavailableError: There was no answer; whether it was done is not known.
        """
        try:
            line = self._exchange(pack({"v": PROTOCOL, "do": do, "args": args}))
        except OSError as error:
            raise StoreUnavailableError(
                f"the service on {self._path} did not answer: {error.strerror or error}; see whether it runs, "
                "then look with `conductor runs list` before asking again"
            ) from error
        answer = unpack(line)
        if answer.get("ok") is True and isinstance(result := answer.get("result"), dict):
            return result
        failure = answer.get("error")
        told: Mapping[str, Json] = failure if isinstance(failure, dict) else {}
        kind = ERRORS.get(str(told.get("type")), ConductorError)
        raise kind(str(told.get("message") or "the service refused without a reason: see its log"))

    def _exchange(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(self._timeout_s)
            link.connect(str(self._path))
            link.sendall(request)
            answer = b""
            while not answer.endswith(b"\n"):
                part = link.recv(65_536)
                if not part or len(answer) + len(part) > MOST_BYTES:
                    raise ConnectionError("the answer broke off")
                answer += part
            return answer


def find_service(state_dir: Path) -> ControlClient | None:
    """The service of this project on this machine; None when none listens.

    Raises:
        NotAllowedError: The socket belongs to another user.
    """
    path = socket_path(state_dir)
    if not fits(path):
        try:
            path = Path(address_file(state_dir).read_text(encoding="utf-8").strip())
        except OSError:
            return None
    try:
        found = path.lstat()
    except OSError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        return None
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise NotAllowedError(f"the service on {path} belongs to another user: run this as that user")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except OSError:
            return None
    return ControlClient(path)


def _args(ask: TriggerAsk | RunAsk | PauseAsk) -> dict[str, Json]:
    return {name: plain(value) for name, value in asdict(ask).items()}


def _done(result: Mapping[str, Json]) -> Done:
    if not result.keys() >= _NEEDED:
        raise ConductorError("the service answered in a form that is not known: use the same version on both sides")
    return Done(
        run_id=str(result["run_id"]),
        pipeline=str(result["pipeline"]),
        state=str(result["state"]),
        is_new=result.get("is_new") is True,
        is_served=result.get("is_served") is not False,
    )
