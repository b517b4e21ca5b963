"""The client on a real socket: a start goes out once, whatever breaks; answers are capped, deadlines hold."""

from __future__ import annotations

import asyncio
import socket

import pytest

from conductor.core.errors import (
    AmbiguousError,
    AuthError,
    ErrorClass,
    RefusedError,
    RejectedError,
    UnreadableError,
)
from conductor.sdk.http import Answer, Http
from tests.unit.sdk.wire import OK, Wire, run, talking

BROKEN_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{"


def status(code: int, *headers: str, body: bytes = b"no") -> bytes:
    lines = [f"HTTP/1.1 {code} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def start(http: Http) -> object:
    return http.start("POST", "/runs", json={"job": 1})


def read(http: Http) -> object:
    return http.read("GET", "/runs")


@pytest.mark.parametrize(
    "answer", [b"", BROKEN_OFF, status(500), status(503), status(408), status(302, "Location: /x")]
)
def test_a_start_whose_fate_is_open_is_ambiguous_and_went_out_once(answer: bytes) -> None:
    wire = Wire([answer])
    with pytest.raises(AmbiguousError):
        run(wire, start, deadline_s=0.5)
    assert wire.seen == ["POST /runs HTTP/1.1"]


def test_a_start_never_rides_on_a_kept_alive_connection() -> None:
    wire = Wire([OK])

    async def main() -> None:
        async with talking(wire) as http:
            await http.read("GET", "/runs")
            await http.start("POST", "/runs")
            await http.read("GET", "/runs")

    asyncio.run(main())
    assert wire.connections >= 2


def test_a_vendor_that_hangs_up_kept_alive_connections_gets_one_start_only() -> None:
    wire = Wire([OK, b""])

    async def main() -> None:
        async with talking(wire) as http:
            await http.read("GET", "/runs")
            with pytest.raises(AmbiguousError):
                await http.start("POST", "/runs")

    asyncio.run(main())
    assert wire.seen.count("POST /runs HTTP/1.1") == 1


def test_a_start_that_is_never_answered_ends_at_the_deadline_as_ambiguous() -> None:
    wire = Wire([OK], is_silent=True)
    with pytest.raises(AmbiguousError, match="deadline"):
        run(wire, start, deadline_s=0.2)
    assert len(wire.seen) == 1


def test_a_start_that_never_connects_is_refused_nothing_was_sent() -> None:
    async def main() -> None:
        async with talking(Wire([OK])) as http:
            with pytest.raises(RefusedError):
                await http.start("POST", "http://127.0.0.1:9/runs")

    asyncio.run(main())


def test_a_start_whose_connection_hangs_is_refused_nothing_was_sent() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(full.getsockname())
        waiting.append(one)

    async def main() -> None:
        async with talking(Wire([OK]), connect_s=0.3, deadline_s=20) as http:
            with pytest.raises(RefusedError, match="no answer"):
                await http.start("POST", f"http://127.0.0.1:{full.getsockname()[1]}/runs")

    asyncio.run(main())
    for one in (*waiting, full):
        one.close()


@pytest.mark.parametrize("code", [400, 404, 405, 409, 410, 422, 307])
def test_a_documented_no_is_rejected(code: int) -> None:
    with pytest.raises(RejectedError) as caught:
        run(Wire([status(code, "Location: /x")]), start)
    assert caught.value.code == str(code)


@pytest.mark.parametrize("code", [401, 403])
def test_bad_credentials_are_told_apart(code: int) -> None:
    with pytest.raises(AuthError):
        run(Wire([status(code)]), start)


def test_too_many_requests_is_refused_with_its_wait() -> None:
    with pytest.raises(RefusedError) as caught:
        run(Wire([status(429, "Retry-After: 7")]), start)
    assert caught.value.retry_after_s == 7.0
    assert caught.value.error_class is ErrorClass.QUOTA


def test_a_read_is_tried_again_once() -> None:
    wire = Wire([status(502), OK])
    answer = run(wire, read)
    assert isinstance(answer, Answer)
    assert answer.object() == {"id": "r1"}
    assert len(wire.seen) == 2


def test_a_read_that_was_told_to_wait_is_not_tried_again() -> None:
    wire = Wire([status(429, "Retry-After: 30")])
    with pytest.raises(RefusedError):
        run(wire, read)
    assert len(wire.seen) == 1


def test_an_answer_beyond_the_cap_is_cut_off() -> None:
    with pytest.raises(UnreadableError, match="longer than 100 bytes"):
        run(Wire([status(200, body=b"x" * 5000)]), read, max_body_bytes=100)


def test_an_answer_beyond_the_cap_leaves_a_start_ambiguous() -> None:
    with pytest.raises(AmbiguousError):
        run(Wire([status(200, body=b"x" * 5000)]), start, max_body_bytes=100)


def test_a_compressed_bomb_is_cut_off_by_what_it_unpacks_to() -> None:
    import gzip

    bomb = gzip.compress(b"0" * 10_000_000)
    with pytest.raises(UnreadableError):
        run(Wire([status(200, "Content-Encoding: gzip", body=bomb)]), read, max_body_bytes=100_000)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1", b"[" * 100_000, b'{"a": NaN}', b"1" * 5000])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        Answer(status=200, headers={}, body=body).json()


def test_a_redirect_is_never_followed() -> None:
    wire = Wire([status(302, "Location: /elsewhere")])
    with pytest.raises(RejectedError, match="redirect"):
        run(wire, read)
    assert len(wire.seen) == 1
