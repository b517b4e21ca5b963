"""The control channel: private to its user, typed, capped, alive after bad input, and never in the way of a service."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from conductor.core.errors import (
    AuthError,
    ConductorError,
    ConflictError,
    NotFoundError,
    RequestError,
    StaleVersionError,
    StoreUnavailableError,
)
from conductor.core.vendor import Json
from conductor.service.asks import Done, PauseAsk, RunAsk, TriggerAsk, Verb
from conductor.service.client import ControlClient, find_service
from conductor.service.control import ControlServer, Handlers
from conductor.service.wire import MOST_BYTES, address_file, fits, packed_error, socket_path


class Asked:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asks: list[object] = []

    async def trigger(self, ask: TriggerAsk) -> Done:
        self.asks.append(ask)
        if ask.pipeline == "bug":
            raise ZeroDivisionError
        if ask.pipeline != "p":
            raise NotFoundError(f"there is no pipeline {ask.pipeline!r}: see the list")
        return Done(run_id="ab" * 8, pipeline="p", state="queued", is_new=True)

    async def on_run(self, ask: RunAsk) -> Done:
        self.asks.append(ask)
        return Done(run_id=ask.run_id, pipeline="p", state="cancelled")

    async def on_pipeline(self, ask: PauseAsk) -> Done:
        self.asks.append(ask)
        return Done(run_id="", pipeline=ask.pipeline, state="paused" if ask.is_paused else "active")


@contextmanager
def service(state_dir: Path) -> Iterator[Asked]:
    """A control channel in a thread of its own, so that the synchronous client can speak to it."""
    asked = Asked()
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def reload() -> Mapping[str, Json]:
        return {"pipelines": ["p"]}

    async def serve() -> None:
        handlers = Handlers(actions=asked, status=lambda: {"pid": 7, "closed": {"crm": "401"}}, reload=reload)
        server = ControlServer(state_dir=state_dir, handlers=handlers)
        await server.open()
        loops.append(asyncio.get_running_loop())
        started.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    try:
        yield asked
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)


def client(state_dir: Path) -> ControlClient:
    found = find_service(state_dir)
    assert found is not None
    return found


def exchange(path: Path, *lines: bytes) -> list[dict[str, Json]]:
    """Lines sent on one connection, and their answers."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(path))
        with link.makefile("rwb") as file:
            answers = []
            for line in lines:
                file.write(line)
                file.flush()
                answers.append(json.loads(file.readline()))
            return answers


def test_asks_arrive_as_they_were_made(tmp_path: Path) -> None:
    trigger = TriggerAsk(pipeline="p", texts={"n": "7"}, date="2026-01-05", key="k", actor="ana")
    cancel = RunAsk(run_id="ab" * 8, verb=Verb.CANCEL, node="n", reason="late", actor="ana")
    pause = PauseAsk(pipeline="p", is_paused=True, actor="ana")
    with service(tmp_path) as asked:
        there = client(tmp_path)
        answer = asyncio.run(there.trigger(trigger))
        assert (answer.run_id, answer.is_new) == ("ab" * 8, True)
        assert asyncio.run(there.on_run(cancel)).state == "cancelled"
        assert asyncio.run(there.on_pipeline(pause)).state == "paused"
        assert there.status()["closed"] == {"crm": "401"}
        assert there.reload() == {"pipelines": ["p"]}
    assert asked.asks == [trigger, cancel, pause]


def test_errors_keep_their_class_and_their_words(tmp_path: Path) -> None:
    with service(tmp_path), pytest.raises(NotFoundError, match="there is no pipeline 'q'"):
        asyncio.run(client(tmp_path).trigger(TriggerAsk(pipeline="q")))


def test_a_bug_in_one_request_ends_neither_the_service_nor_the_connection(tmp_path: Path) -> None:
    with service(tmp_path):
        there = client(tmp_path)
        with pytest.raises(ConductorError, match="ZeroDivisionError"):
            asyncio.run(there.trigger(TriggerAsk(pipeline="bug")))
        assert asyncio.run(there.trigger(TriggerAsk(pipeline="p"))).state == "queued"


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        b"{}\n",
        b'{"v": 2, "do": "status"}\n',
        b'{"v": 1, "do": "drop_tables", "args": {}}\n',
        b'{"v": 1, "do": "status", "args": {"x": 1}}\n',
        b'{"v": 1, "do": "trigger", "args": {}}\n',
        b'{"v": 1, "do": "trigger", "args": {"pipeline": 7}}\n',
        b'{"v": 1, "do": "run", "args": {"run_id": "x", "verb": "explode"}}\n',
        b'{"v": 1, "do": "status", "args": {}, "more": true}\n',
    ],
)
def test_bad_input_is_answered_and_the_next_line_is_heard(tmp_path: Path, line: bytes) -> None:
    with service(tmp_path) as asked:
        bad, good = exchange(socket_path(tmp_path), line, b'{"v": 1, "do": "status"}\n')
    assert bad["ok"] is False
    error = bad["error"]
    assert isinstance(error, dict)
    assert error["type"] == "RequestError"
    assert good["ok"] is True
    assert asked.asks == []


def test_a_line_that_is_too_long_is_refused_and_the_service_lives(tmp_path: Path) -> None:
    with service(tmp_path):
        path = socket_path(tmp_path)
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(path))
            link.sendall(b"x" * (MOST_BYTES + 10))
            assert json.loads(link.makefile("rb").readline())["ok"] is False
        assert exchange(path, b'{"v": 1, "do": "status"}\n')[0]["ok"] is True


def test_two_clients_are_served_at_the_same_time(tmp_path: Path) -> None:
    with service(tmp_path), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(socket_path(tmp_path)))
        assert client(tmp_path).status()["pid"] == 7


def test_only_the_owner_may_open_the_socket(tmp_path: Path) -> None:
    with service(tmp_path / "state"):
        assert stat.S_IMODE(socket_path(tmp_path / "state").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_private_one(tmp_path: Path) -> None:
    state_dir = tmp_path / ("d" * 60) / ("e" * 60)
    with service(state_dir):
        assert not fits(socket_path(state_dir))
        assert stat.S_IMODE(address_file(state_dir).stat().st_mode) == 0o600
        short = Path(address_file(state_dir).read_text(encoding="utf-8"))
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
        assert client(state_dir).status()["pid"] == 7
    assert not address_file(state_dir).exists()
    assert not short.parent.exists()
    assert find_service(state_dir) is None


def test_a_second_service_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async def second() -> None:
        async def reload() -> Mapping[str, Json]:
            return {}

        handlers = Handlers(actions=Asked(), status=dict, reload=reload)
        await ControlServer(state_dir=tmp_path, handlers=handlers).open()

    with service(tmp_path), pytest.raises(ConflictError, match="another service"):
        asyncio.run(second())


def test_a_socket_that_a_dead_service_left_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(socket_path(tmp_path)))
    left.close()
    assert find_service(tmp_path) is None
    with service(tmp_path):
        assert client(tmp_path).status()["pid"] == 7
    assert not socket_path(tmp_path).exists()


def test_no_answer_is_unreachable_and_says_to_look_first(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="runs list"):
        ControlClient(tmp_path / "nobody.sock").status()


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RequestError("x"), "RequestError"),
        (StaleVersionError("x"), "StoreError"),
        (AuthError("x"), "ConductorError"),
        (StoreUnavailableError("x"), "StoreUnavailableError"),
    ],
)
def test_errors_travel_as_themselves_or_as_the_nearest_known(error: ConductorError, name: str) -> None:
    told = packed_error(error)["error"]
    assert isinstance(told, dict)
    assert told["type"] == name
