"""What a sandbox is (the vendor as an ASGI app with a ledger) and the wire faults that every sandbox can play.

A sandbox is no kinder than its vendor. Vendor-specific sins (list lag, strange words, vanished runs) are its own
methods; what can go wrong on any wire is here, as a layer around the app.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from conductor.core.vendor import ExternalState
from conductor.sdk.http import LostAnswerError

__all__ = ["AsgiApp", "Effect", "Fault", "Faults", "LedgerEntry", "Sandbox", "with_faults"]

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One start that the vendor accepted: the truth against which Conductor is judged.

    Attributes:
        at: When it was accepted.
        scope: The object that was started, such as a connection id.
        run: The vendor's (possibly hidden) id of the run.
        key: Our key, tag or correlation header, when the request carried one.
    """

    at: datetime
    scope: str
    run: str
    key: str = ""


class Effect(StrEnum):
    """What a fault does to a request that matches it."""

    LOSE_ANSWER = "lose_answer"
    """The vendor does the work; the answer never arrives (V1)."""
    LOSE_REQUEST = "lose_request"
    """The connection breaks before the vendor sees the request (V2)."""
    ERROR_AFTER = "error_after"
    """The vendor does the work, then answers `status` (V3)."""
    ERROR = "error"
    """The vendor answers `status` and does nothing (V3, V4)."""
    BODY = "body"
    """The vendor does the work and answers 200 with `body` (V5, V6, V20)."""
    REDIRECT = "redirect"
    """The vendor answers 302 to another host (V21)."""
    DELAY = "delay"
    """The vendor does the work at once and answers after `delay_s` (V19)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted fault.

    Attributes:
        effect: What happens.
        method: The HTTP method that it hits; empty for any.
        path: A regular expression searched in the path.
        times: How many matching requests it hits; -1 for all.
        status: For `error` and `error_after`.
        headers: Added to an error answer, such as `Retry-After`.
        body: The body of an error answer, or of `body`.
        delay_s: For `delay`.
    """

    effect: Effect
    method: str = ""
    path: str = ""
    times: int = 1
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"message": "injected"}'
    delay_s: float = 0.0


class Faults:
    """The faults a sandbox has still to play, in order; the first that matches a request is used."""

    def __init__(self) -> None:
        self._left: list[tuple[Fault, int]] = []
        self.hits: dict[Effect, int] = {}

    def add(self, fault: Fault) -> None:
        """Play `fault` on the next requests that match it."""
        self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Play nothing more."""
        self._left.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, counted as played; None for an untouched request."""
        for at, (fault, left) in enumerate(self._left):
            if fault.method not in {"", method} or not re.search(fault.path, path):
                continue
            if left == 1:
                del self._left[at]
            elif left > 1:
                self._left[at] = (fault, left - 1)
            self.hits[fault.effect] = self.hits.get(fault.effect, 0) + 1
            return fault
        return None


class Sandbox(Protocol):
    """A vendor as an ASGI app.

    Attributes:
        app: The app, wire faults included (wrap the inner app by `with_faults`).
        faults: The wire faults.
        ledger: Every accepted start, in order of acceptance.
        requests: How many requests arrived, by "METHOD /path-template".
    """

    app: AsgiApp
    faults: Faults
    ledger: list[LedgerEntry]
    requests: dict[str, int]

    def connection(self, base_url: str) -> dict[str, object]:
        """Settings of a connection to this sandbox, with working credentials, for a server at `base_url`."""
        ...

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Drive the newest run of `scope` to `state`; `word` makes the vendor say exactly that instead."""
        ...


async def _drain(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    while (await receive()).get("more_body"):
        pass


def with_faults(app: AsgiApp, faults: Faults) -> AsgiApp:
    """`app` with a layer that plays `faults`. Faults that lose an answer raise `LostAnswerError`.

    In process that becomes a read error; behind a real server it becomes a broken-off answer or a bare 500. Both are
    ambiguous to a client.
    """

    async def wrapped(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        fault = faults.take(scope["method"], scope["path"])
        if fault is None:
            await app(scope, receive, send)
            return
        await _play(fault, app, scope, receive, send)

    return wrapped


async def _play(
    fault: Fault,
    app: AsgiApp,
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    async def swallow(_message: MutableMapping[str, Any]) -> None:
        return None

    match fault.effect:
        case Effect.LOSE_REQUEST:
            raise LostAnswerError("the connection broke before the request was read")
        case Effect.LOSE_ANSWER:
            await app(scope, receive, swallow)
            raise LostAnswerError("the answer was lost")
        case Effect.ERROR:
            await _drain(receive)
            await _answer(send, fault.status, fault.body, fault.headers)
        case Effect.ERROR_AFTER:
            await app(scope, receive, swallow)
            await _answer(send, fault.status, fault.body, fault.headers)
        case Effect.BODY:
            await app(scope, receive, swallow)
            await _answer(send, 200, fault.body, fault.headers)
        case Effect.REDIRECT:
            await _drain(receive)
            await _answer(send, 302, b"", {"location": "http://127.0.0.1:9/elsewhere"})
        case Effect.DELAY:
            await _delayed(fault.delay_s, app, scope, receive, send)


async def _delayed(
    delay_s: float,
    app: AsgiApp,
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    held: list[MutableMapping[str, Any]] = []

    async def hold(message: MutableMapping[str, Any]) -> None:
        held.append(message)

    await app(scope, receive, hold)
    await asyncio.sleep(delay_s)
    for message in held:
        await send(message)


async def _answer(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    status: int,
    body: bytes,
    headers: Mapping[str, str],
) -> None:
    named = {"content-type": "application/json", **headers, "content-length": str(len(body))}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})
