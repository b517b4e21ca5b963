"""The control channel of a running service: a Unix socket, for its own user only, through which commands reach it.

Trusts nobody's input: lines are capped, validated and answered with typed errors. Listens on no network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from conductor.core.errors import ConductorError, ConflictError, RequestError, StoreError
from conductor.core.run import Trigger
from conductor.core.vendor import Json
from conductor.service.actions import Actions
from conductor.service.asks import PauseAsk, RunAsk, TriggerAsk, Verb
from conductor.service.wire import MOST_BYTES, PROTOCOL, address_file, fits, pack, packed_error, socket_path, unpack

__all__ = ["ControlServer", "Handlers"]

_IDLE_S = 60.0
_MOST_CLIENTS = 32
_TURNS = 5
_log = structlog.get_logger("conductor.control")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Request(_Model):
    v: Literal[1]
    do: str = Field(max_length=64)
    args: dict[str, JsonValue] = {}


class _Nothing(_Model):
    pass


class _Trigger(_Model):
    pipeline: str
    texts: dict[str, str] = {}
    params: dict[str, JsonValue] = {}
    date: str = ""
    key: str = Field(default="", max_length=500)
    trigger: Trigger = Field(default=Trigger.MANUAL, strict=False)
    actor: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)


class _Run(_Model):
    run_id: str
    verb: Verb = Field(strict=False)
    node: str = ""
    actor: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)


class _Pause(_Model):
    pipeline: str
    is_paused: bool
    actor: str = Field(default="", max_length=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What the channel offers.

    Attributes:
        actions: Carries out what people ask.
        status: What only the running service knows, such as stopped connections.
        reload: Loads the definitions anew.
    """

    actions: Actions
    status: Callable[[], Mapping[str, Json]]
    reload: Callable[[], Awaitable[Mapping[str, Json]]]


class ControlServer:
    """Listens until it is closed."""

    def __init__(self, *, state_dir: Path, handlers: Handlers) -> None:
        self._state_dir = state_dir
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.path = socket_path(state_dir)

    async def open(self) -> None:
        """Listen.

        Raises:
            ConflictError: Another service listens there.
            StoreError: The state folder cannot hold a socket.
        """
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            address_file(self._state_dir).unlink(missing_ok=True)
            if not fits(self.path):
                self._folder = tempfile.TemporaryDirectory(prefix="conductor-", ignore_cleanup_errors=True)
                self.path = Path(self._folder.name) / "control.sock"
            listening = _listen(self.path)
            if self._folder is not None:
                _write_private(address_file(self._state_dir), str(self.path))
        except OSError as error:
            raise StoreError(
                f"the control socket {self.path} cannot be made: {error.strerror or error}; check `state_dir`"
            ) from error
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MOST_BYTES)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            # Accepting takes the loop a few turns, and one that is halfway when the server closes would leak: first
            # accept nobody any more, then let those who knocked in, so that they are among those who are let go.
            for listening in self._server.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(_TURNS):
                await asyncio.wait({asyncio.create_task(_turn())})
            self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=2.0)
        self.path.unlink(missing_ok=True)
        if self._folder is not None:
            address_file(self._state_dir).unlink(missing_ok=True)
            self._folder.cleanup()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > _MOST_CLIENTS:
                writer.write(pack(packed_error(ConflictError("too many clients: try again in a moment"))))
            else:
                await self._talk(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_S):
                    line = await reader.readline()
            except ValueError:
                too_long = RequestError(f"a line may have {MOST_BYTES} bytes: send less")
                writer.write(pack(packed_error(too_long)))
                await writer.drain()
                return
            if not line:
                return
            writer.write(pack(await self._answer(line)))
            await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, Json]:
        try:
            return {"v": PROTOCOL, "ok": True, "result": await self._do(unpack(line))}
        except ConductorError as error:
            return packed_error(error)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "request"
            return packed_error(
                RequestError(f"the request was refused: {where}: {first['msg']}; see `conductor --version`")
            )
        except Exception as error:  # noqa: BLE001 - the outer edge: one bad request must not end the service
            _log.error("a control request failed: this is a bug", error=type(error).__name__, exc_info=error)
            return packed_error(ConductorError(f"the service failed on it: {type(error).__name__}; see its log"))

    async def _do(self, message: Mapping[str, Json]) -> Json:
        if message.get("v") != PROTOCOL:
            raise RequestError(
                f"the service speaks version {PROTOCOL} of the control channel, not {message.get('v')!r}: "
                "use the same version of Conductor on both sides"
            )
        request = _Request.model_validate(message)
        actions = self._handlers.actions
        match request.do:
            case "status":
                _Nothing.model_validate(request.args)
                return dict(self._handlers.status())
            case "reload":
                _Nothing.model_validate(request.args)
                return dict(await self._handlers.reload())
            case "trigger":
                asked = _Trigger.model_validate(request.args)
                return (await actions.trigger(TriggerAsk(**dict(asked)))).to_json()
            case "run":
                return (await actions.on_run(RunAsk(**dict(_Run.model_validate(request.args))))).to_json()
            case "pipeline":
                return (await actions.on_pipeline(PauseAsk(**dict(_Pause.model_validate(request.args))))).to_json()
            case _:
                raise RequestError(f"the control channel has no command {request.do!r}: update the older side")


async def _turn() -> None:
    """One turn of the loop."""


def _listen(path: Path) -> socket.socket:
    """A socket that only its owner can open. One that a dead service left behind is replaced.

    Raises:
        ConflictError: Somebody listens there.
    """
    if path.exists() and _is_alive(path):
        raise ConflictError(f"another service listens on {path}: stop it first, or use another project")
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must be right from the first moment on, and bind applies the umask.
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.setblocking(False)
    return listening


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _write_private(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
