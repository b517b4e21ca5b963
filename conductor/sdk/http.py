"""Every vendor call goes through here: deadline, body cap, no redirects, token bucket, redaction, error classes.

A start is sent once and never retried; tenacity retries reads and never sees a start. httpx is imported nowhere else.
The transport is aiohttp under httpx's API; aiohttp repeats only idempotent methods on a dead kept-alive connection, and
every start opens a connection of its own, so that even that cannot touch it.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from conductor.core.errors import IntegrationError, RefusedError, UnreadableError
from conductor.core.keys import jitter
from conductor.sdk.classify import Failure, Phase, from_failure, from_status, retry_after_s
from conductor.sdk.clock import Clock
from conductor.sdk.limits import TokenBucket
from conductor.sdk.redact import Redactor

__all__ = ["Answer", "Http", "HttpSettings", "LostAnswerError", "aiohttp_transport", "asgi_transport"]

_READ_TRIES = 2
_OK = range(200, 300)
_log = structlog.get_logger("conductor.http")


class LostAnswerError(Exception):
    """Raised by a sandbox inside an in-process transport: the vendor did the work and its answer was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How one connection talks to its vendor.

    Attributes:
        base_url: The address under which paths are resolved, without a trailing slash.
        headers: Sent with every request; values may be secrets (they are never logged).
        basic: User and password for HTTP Basic.
        deadline_s: Limit for one whole request, body included, in seconds.
        connect_s: Limit for connecting, in seconds; when it passes, nothing was sent.
        max_body_bytes: A longer (decompressed) answer is cut off and counts as unreadable.
        max_connections: How many requests may be on the wire at once.
        verify_tls: Verify the vendor's certificate; turn off only against a local test server.
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    basic: tuple[str, str] | None = None
    deadline_s: float = 30.0
    connect_s: float = 10.0
    max_body_bytes: int = 8 * 1024 * 1024
    max_connections: int = 256
    verify_tls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A vendor's answer with a 2xx status, or with one that the caller asked to read itself.

    Attributes:
        status: The HTTP status.
        headers: Lower-cased names.
        body: The decompressed bytes, within the cap.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """The body as JSON.

        Raises:
            UnreadableError: The body is not JSON, holds NaN, is nested too deep or has absurd numbers.
        """
        try:
            return jsonlib.loads(self.body, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"the answer is not readable JSON: {error}", raw=self.text()[:2000]) from error

    def object(self) -> dict[str, object]:
        """The body as a JSON object.

        Raises:
            UnreadableError: It is not one.
        """
        value = self.json()
        if not isinstance(value, dict):
            raise UnreadableError("the answer is not a JSON object", raw=self.text()[:2000])
        return value

    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""
        return self.body.decode("utf-8", errors="replace")


class Http:
    """One connection's HTTP client.

    `read` and `act` may be repeated; `start` sends exactly one request. All raise `IntegrationError` subclasses only.
    """

    def __init__(
        self,
        *,
        connection: str,
        settings: HttpSettings,
        clock: Clock,
        bucket: TokenBucket,
        redact: Redactor,
        transport: Callable[[HttpSettings], httpx.AsyncBaseTransport] | None = None,
        on_request: Callable[[str, Phase], None] | None = None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._bucket = bucket
        self._redact = redact
        self._make_transport = transport
        self._on_request = on_request
        self._clients: dict[Phase, httpx.AsyncClient] = {}

    async def read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        refused_statuses: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send a request that may be repeated; tried twice when the network or the vendor hiccups.

        Raises:
            RejectedError: A 4xx (`code` holds the status); AuthError on 401 and 403.
            RefusedError: 429, 5xx, or no answer at all, after the second try.
            UnreadableError: The answer passed the body cap.
        """

        async def once() -> Answer:
            return await self._send(
                Phase.READ, method, path, params=params, json=json, headers=headers, refused_statuses=refused_statuses
            )

        retrying = AsyncRetrying(
            stop=stop_after_attempt(_READ_TRIES),
            wait=lambda state: _read_wait_s(state, f"{self._connection}{path}"),
            retry=retry_if_exception_type(RefusedError) & _unless_told_to_wait,
            sleep=self._clock.sleep,
            reraise=True,
        )
        return await retrying(once)

    async def act(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send an idempotent change such as a cancel: once here; the engine repeats it if need be. Raises as `read`."""
        return await self._send(Phase.READ, method, path, params=params, json=json, headers=headers)

    async def start(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        refused_statuses: frozenset[int] = frozenset(),
        answered_statuses: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send a request that may begin work: exactly once, no retry, no redirect, on a fresh connection.

        `answered_statuses` are returned as they are: a vendor's "exists already" names the run in its body.

        Raises:
            RejectedError: A documented 4xx: nothing happened.
            RefusedError: Never connected, 429, or one of `refused_statuses`: nothing happened.
            AmbiguousError: Anything else without a 2xx: it may have happened.
        """
        return await self._send(
            Phase.START,
            method,
            path,
            params=params,
            json=json,
            headers=headers,
            refused_statuses=refused_statuses,
            answered_statuses=answered_statuses,
        )

    async def aclose(self) -> None:
        """Close the connections. The client opens new ones when it is used again."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _send(
        self,
        phase: Phase,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        refused_statuses: frozenset[int] = frozenset(),
        answered_statuses: frozenset[int] = frozenset(),
    ) -> Answer:
        await self._bucket.take()
        if self._on_request is not None:
            self._on_request(self._connection, phase)
        request = self._request(phase, method, path, params=params, json=json, headers=headers)
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                response, body = await self._exchange(phase, request)
        except UnreadableError as error:
            raise self._named(self._unreadable(phase, error), phase, path) from error
        except (TimeoutError, httpx.HTTPError, LostAnswerError, OSError) as error:
            raise self._named(from_failure(phase, _failure(error), _words(error)), phase, path) from error
        _log.debug(
            "vendor call",
            connection=self._connection,
            phase=phase.value,
            method=method,
            path=path,
            status=response.status_code,
            elapsed_ms=round((self._clock.monotonic() - began) * 1000, 1),
        )
        if response.status_code in _OK or response.status_code in answered_statuses:
            return Answer(status=response.status_code, headers=dict(response.headers), body=body)
        raise self._named(self._refusal(phase, response, body, refused_statuses), phase, path)

    def _request(
        self,
        phase: Phase,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None,
        json: object,
        headers: Mapping[str, str] | None,
    ) -> httpx.Request:
        sent = {**self._settings.headers, **(headers or {})}
        url = path if path.startswith(("http://", "https://")) else f"{self._settings.base_url}{path}"
        return self._open(phase).build_request(
            method, url, params=dict(params) if params else None, json=json, headers=sent
        )

    async def _exchange(self, phase: Phase, request: httpx.Request) -> tuple[httpx.Response, bytes]:
        auth = httpx.BasicAuth(*self._settings.basic) if self._settings.basic else httpx.USE_CLIENT_DEFAULT
        response = await self._open(phase).send(request, stream=True, auth=auth, follow_redirects=False)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._settings.max_body_bytes:
                    raise UnreadableError(f"the answer is longer than {self._settings.max_body_bytes} bytes")
            return response, bytes(body)
        finally:
            await response.aclose()

    def _refusal(
        self, phase: Phase, response: httpx.Response, body: bytes, refused_statuses: frozenset[int]
    ) -> IntegrationError:
        wait = retry_after_s(response.headers.get("retry-after"), now_epoch_s=self._clock.now().timestamp())
        if wait is not None:
            self._bucket.close_for(wait)
        words = self._redact(body[:1000].decode("utf-8", errors="replace").strip())
        return from_status(phase, response.status_code, words, retry_after=wait, refused_statuses=refused_statuses)

    def _unreadable(self, phase: Phase, error: UnreadableError) -> IntegrationError:
        if phase is Phase.START:
            return from_failure(phase, Failure.LOST, str(error))
        return error

    def _named(self, error: IntegrationError, phase: Phase, path: str) -> IntegrationError:
        error.connection = self._connection
        error.operation = f"{phase.value} {path}"
        error.args = (self._redact(f"{self._connection}: {error.args[0]}"), *error.args[1:])
        return error

    def _open(self, phase: Phase) -> httpx.AsyncClient:
        """The client for this kind of call: starts have one of their own that keeps no connection."""
        if phase not in self._clients:
            if self._make_transport is not None:
                transport = self._make_transport(self._settings)
            else:
                transport = aiohttp_transport(self._settings, is_kept_alive=phase is Phase.READ)
            limits = httpx.Timeout(None, connect=min(self._settings.connect_s, self._settings.deadline_s))
            self._clients[phase] = httpx.AsyncClient(transport=transport, timeout=limits)
        return self._clients[phase]


def aiohttp_transport(settings: HttpSettings, *, is_kept_alive: bool = True) -> httpx.AsyncBaseTransport:
    """The production transport: httpx's API over aiohttp's connection pool.

    Args:
        settings: Of the connection.
        is_kept_alive: Use connections again. Off, each request opens its own: a start must not meet a connection that
            the vendor is just hanging up, for then nobody could say whether it was read.
    """
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections, ssl=settings.verify_tls, force_close=not is_kept_alive
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    # The adapter's own TLS context is never used, as the session brings its connector: so none is loaded for it.
    return AiohttpTransport(client=session, verify=False)


def asgi_transport(app: Callable[..., object]) -> Callable[[HttpSettings], httpx.AsyncBaseTransport]:
    """A transport that calls an ASGI app in this process: for sandboxes under test and for the simulator."""
    return lambda _settings: httpx.ASGITransport(app=app)  # type: ignore[arg-type]


def _failure(error: BaseException) -> Failure:
    """Whether a request can have reached the vendor.

    Over aiohttp its own exception decides: the adapter calls any lost connection a connect time-out, one that was lost
    after the request had been written too.
    Source: httpx_aiohttp/transport.py, AIOHTTP_EXC_MAP (ClientConnectionError → ConnectTimeout).
    """
    import aiohttp

    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError | aiohttp.InvalidURL):
        never_sent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
        return Failure.NOT_CONNECTED if isinstance(cause, never_sent) else Failure.LOST
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol):
        return Failure.NOT_CONNECTED
    return Failure.LOST


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the whole-request deadline passed"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _read_wait_s(state: RetryCallState, key: str) -> float:
    return 0.1 + 0.4 * jitter(key, state.attempt_number)


def _told_to_wait(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome is not None else None
    return not (isinstance(error, RefusedError) and error.retry_after_s is not None)


class _UnlessToldToWait(retry_if_exception_type):
    def __call__(self, retry_state: RetryCallState) -> bool:
        return _told_to_wait(retry_state)


_unless_told_to_wait = _UnlessToldToWait()
