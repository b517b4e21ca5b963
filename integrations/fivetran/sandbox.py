"""Fivetran as an ASGI app, no kinder than the real one: no run ids, one answer for every trigger, stamps never cleared.

Syncs move by the clock that is passed in, unless `advance` drives them. Where the vendor's documents are silent, the
choice made here is marked as a guess.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from conductor.sdk import Clock, ExternalState, Faults, LedgerEntry, with_faults
from conductor.sdk.sandbox import AsgiApp
from integrations.fivetran.sandbox_account import Account, Ending, SandboxConnection, SandboxSync

__all__ = ["FivetranSandbox"]

_KEY = "sandbox-api-key"
_SECRET = "sandbox-api-secret-9f2c"  # noqa: S105 - opens nothing but this sandbox.
_BY_STATE = {
    ExternalState.SUCCEEDED: "succeeded_at",
    ExternalState.WARNED: "succeeded_at",
    ExternalState.FAILED: "failed_at",
    ExternalState.CANCELLED: "cancelled",
    ExternalState.VANISHED: "cancelled",
    ExternalState.RUNNING: "syncing",
    ExternalState.QUEUED: "scheduled",
}
_ENDINGS = {
    "succeeded_at": Ending.SUCCESS,
    "failed_at": Ending.FAILURE,
    "broken": Ending.FAILURE_WITH_TASK,
    "cancelled": Ending.CANCELLED,
    "rescheduled": Ending.RESCHEDULED,
}
_LONGEST = timedelta(days=7)
_Handler = Callable[[Request], "Response"]


class _HttpError(Exception):
    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = JSONResponse({"code": code, "message": message}, status_code=status, headers=headers)


class FivetranSandbox:
    """One Fivetran account.

    Attributes:
        app: The app, wire faults included.
        faults: The wire faults.
        ledger: Every sync that a trigger really began; ignored triggers are not in it.
        requests: Requests by "METHOD /path-template".
        account: The connections and the pace of their syncs; tests may change anything in it.
        history_enabled: Off, the sync history answers 404, as older accounts do.
        history_lag_s: How long a sync stays invisible in the history, in seconds.
        requests_per_hour: Above this the account answers 429 with `Retry-After`.
        creates_unknown: Make a connection when an unknown id is asked for, instead of answering 404. Only for demos.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_sync: Callable[[str], None] | None = None,
        sync_duration_s: float = 20.0,
        start_lag_s: float = 2.0,
        history_lag_s: float = 20.0,
        creates_unknown: bool = False,
    ) -> None:
        self._clock = clock
        self.account = Account(sync_duration_s=sync_duration_s, start_lag_s=start_lag_s, on_sync=on_sync)
        self.faults = Faults()
        self.ledger: list[LedgerEntry] = []
        self.requests: dict[str, int] = {}
        self.history_enabled = True
        self.history_lag_s = history_lag_s
        self.requests_per_hour = 20_000
        self.creates_unknown = creates_unknown
        self._recent: deque[datetime] = deque()
        self.app: AsgiApp = with_faults(cast("AsgiApp", self._routes()), self.faults)

    def add_connection(self, connection_id: str, *, schema: str = "", **fields: object) -> SandboxConnection:
        """A new connection, idle, connected and on an automatic schedule unless `fields` say otherwise."""
        connection = SandboxConnection(id=connection_id, schema=schema or f"{connection_id}_schema")
        for name, value in fields.items():
            if not hasattr(connection, name):
                raise ValueError(f"a sandbox connection has no field {name!r}")
            setattr(connection, name, value)
        self.account.connections[connection_id] = connection
        return connection

    def connection(self, base_url: str) -> dict[str, object]:
        """Settings of a connection to this sandbox, with working credentials."""
        return {"api_key": _KEY, "api_secret": _SECRET, "base_url": base_url}

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Drive the running sync of the connection `scope`; from then on time leaves that sync alone.

        `word` is a `sync_state` (`scheduled`, `syncing`, `paused`, `rescheduled`), one of the ends that Fivetran has no
        word for (`succeeded_at`, `failed_at`, `broken`, `cancelled`), or any text that `sync_state` shall say.

        Raises:
            ValueError: There is no such connection, or no sync is running in it.
        """
        connection = self.account.connections.get(scope)
        sync = connection.active if connection is not None else None
        if connection is None or sync is None:
            raise ValueError(f"sandbox connection {scope!r} has no running sync; trigger one first")
        now = self._clock.now()
        sync.is_driven, connection.word, connection.is_paused = True, "", False
        match word or _BY_STATE.get(state, state.value):
            case "syncing":
                sync.started_at, sync.is_put_off, connection.rescheduled_for = sync.started_at or now, False, None
            case "scheduled":
                sync.started_at, sync.is_put_off, connection.rescheduled_for = None, False, None
            case "paused":
                connection.is_paused = True
            case end if end in _ENDINGS:
                self.account.end(connection, sync, _ENDINGS[end], at=now)
            case other:
                connection.word = other

    def run_scheduled_sync(self, connection_id: str) -> None:
        """Begin a sync of Fivetran's own schedule: nobody triggered it, so it is not in the ledger."""
        connection = self.account.connections[connection_id]
        sync = self.account.begin(connection, self._clock.now())
        sync.starts_at = sync.started_at = sync.accepted_at

    def cancel_in_dashboard(self, connection_id: str) -> None:
        """Somebody stops the running sync: no stamp moves."""
        self.advance(connection_id, ExternalState.CANCELLED)

    def _routes(self) -> Starlette:
        one = "/v1/connections/{connection_id}"
        return Starlette(
            routes=[
                Route(path, self._guarded(method, path, handler), methods=[method])
                for method, path, handler in (
                    ("GET", "/v1/account/info", self._account_info),
                    ("GET", "/v1/connections", self._list),
                    ("GET", one, self._detail),
                    ("PATCH", one, self._modify),
                    ("POST", f"{one}/sync", self._sync),
                    ("GET", f"{one}/sync-history", self._history),
                )
            ]
        )

    def _guarded(self, method: str, path: str, handler: _Handler) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            name = f"{method} {path}"
            self.requests[name] = self.requests.get(name, 0) + 1
            request.state.raw = await request.body()
            try:
                self._let_in(request)
                answer = handler(request)
            except _HttpError as error:
                answer = error.answer
            answer.headers["X-Rate-Limit"] = str(self.requests_per_hour)
            answer.headers["X-Rate-Limit-Remaining"] = str(max(self.requests_per_hour - len(self._recent), 0))
            return answer

        return endpoint

    def _let_in(self, request: Request) -> None:
        expected = "Basic " + base64.b64encode(f"{_KEY}:{_SECRET}".encode()).decode()
        if request.headers.get("authorization") != expected:
            raise _HttpError(401, "AuthFailed", "Invalid authorization credentials")
        now = self._clock.now()
        while self._recent and now - self._recent[0] >= timedelta(hours=1):
            self._recent.popleft()
        if len(self._recent) >= self.requests_per_hour:
            wait_s = 3600 if not self._recent else int((self._recent[0] + timedelta(hours=1) - now).total_seconds()) + 1
            raise _HttpError(429, "TooManyRequests", "Too many requests", {"Retry-After": str(wait_s)})
        self._recent.append(now)
        if request.headers.get("accept", "").replace(" ", "") != "application/json;version=2":
            raise _HttpError(406, "NotAcceptable", "Accept must be application/json;version=2")
        has_body = request.method in {"POST", "PATCH"}
        if has_body and not request.headers.get("content-type", "").startswith("application/json"):
            raise _HttpError(415, "UnsupportedMediaType", "Content-Type must be application/json")

    def _account_info(self, _request: Request) -> Response:
        return _success({"account_id": "sandbox_account", "account_name": "Sandbox", "system_key_id": "sandbox_key"})

    def _list(self, request: Request) -> Response:
        found = list(self.account.connections.values())
        for name in ("group_id", "schema"):
            wanted = request.query_params.get(name)
            found = [item for item in found if wanted is None or getattr(item, name) == wanted]
        for item in found:
            self.account.settle(item, self._clock.now())
        items: list[object] = [_shown(item) for item in found]
        return _success(_paged(request, items))

    def _detail(self, request: Request) -> Response:
        return _success(_shown(self._named(request)))

    def _modify(self, request: Request) -> Response:
        connection, body = self._named(request), _body(request)
        paused, schedule_type = body.get("paused"), body.get("schedule_type")
        if isinstance(paused, bool):
            was_paused, connection.is_paused = connection.is_paused, paused
            if was_paused and not paused and connection.schedule_type == "auto" and connection.active is None:
                # A guess on the strict side: resuming makes an overdue sync begin by itself.
                self.run_scheduled_sync(connection.id)
        if isinstance(schedule_type, str):
            connection.schedule_type = schedule_type
        return _success(_shown(connection), message="Connection has been updated")

    def _sync(self, request: Request) -> Response:
        connection, force = self._named(request), _body(request).get("force", False)
        if not isinstance(force, bool):
            raise _HttpError(400, "InvalidInput", "force must be a boolean")
        now = self._clock.now()
        sync = self.account.trigger(connection, now, force=force)
        if sync is not None:
            self.ledger.append(LedgerEntry(at=now, scope=connection.id, run=sync.id))
        message = f"Sync has been successfully triggered for connection with id '{connection.id}'"
        return JSONResponse({"code": "Success", "message": message})

    def _history(self, request: Request) -> Response:
        connection = self._named(request)
        if not self.history_enabled:
            raise _HttpError(404, "NotFound", "Not found")
        since, until = self._window(request)
        visible_to = self._clock.now() - timedelta(seconds=self.history_lag_s)
        syncs = [
            sync
            for sync in reversed(connection.syncs)
            if sync.accepted_at <= visible_to and since <= (sync.started_at or sync.accepted_at) <= until
        ]
        items: list[object] = [_shown_sync(sync) for sync in syncs]
        return _success(_paged(request, items))

    def _window(self, request: Request) -> tuple[datetime, datetime]:
        hour = timedelta(hours=1)
        given = {name: _time(request, name) for name in ("start_time", "end_time")}
        until = given["end_time"] or (given["start_time"] + hour if given["start_time"] else self._clock.now())
        since = given["start_time"] or until - hour
        if not since < until <= since + _LONGEST:
            raise _HttpError(400, "InvalidInput", "end_time must be after start_time, by 7 days at most")
        return since, until

    def _named(self, request: Request) -> SandboxConnection:
        connection_id = str(request.path_params["connection_id"])
        if connection_id not in self.account.connections and self.creates_unknown:
            self.add_connection(connection_id)
        connection = self.account.connections.get(connection_id)
        if connection is None:
            raise _HttpError(404, "NotFound_Connection", f"Cannot find connection with id '{connection_id}'")
        self.account.settle(connection, self._clock.now())
        return connection


def _success(data: object, *, message: str = "Operation performed.") -> Response:
    return JSONResponse({"code": "Success", "message": message, "data": data})


def _body(request: Request) -> dict[str, object]:
    raw = request.state.raw
    if not raw:
        return {}
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise _HttpError(400, "IllegalInput", "The body is not a JSON object")
    return value


def _paged(request: Request, items: list[object]) -> dict[str, object]:
    limit_text, cursor = request.query_params.get("limit", "100"), request.query_params.get("cursor", "")
    if not re.fullmatch(r"\d{1,4}", limit_text) or not 1 <= int(limit_text) <= 1000:
        raise _HttpError(400, "InvalidInput", "limit must be in the range 1..1000")
    try:
        begin = int(base64.urlsafe_b64decode(cursor).decode()) if cursor else 0
    except (ValueError, binascii.Error):
        raise _HttpError(400, "InvalidInput", "cursor is not valid") from None
    end = begin + int(limit_text)
    page: dict[str, object] = {"items": items[begin:end]}
    if end < len(items):
        page["next_cursor"] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return page


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        raise _HttpError(400, "InvalidInput", f"{name} is not an ISO 8601 time") from None
    return stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)


def _iso(stamp: datetime | None) -> str | None:
    return None if stamp is None else stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _shown(connection: SandboxConnection) -> dict[str, object]:
    state = connection.sync_state
    return {
        "id": connection.id,
        "service": connection.service,
        "schema": connection.schema,
        "group_id": connection.group_id,
        "paused": connection.is_paused,
        "schedule_type": connection.schedule_type,
        "sync_frequency": 360,
        "succeeded_at": _iso(connection.succeeded_at),
        "failed_at": _iso(connection.failed_at),
        "status": {
            "setup_state": connection.setup_state,
            "sync_state": state,
            "update_state": "on_schedule",
            "is_historical_sync": False,
            "rescheduled_for": _iso(connection.rescheduled_for) if state == "rescheduled" else None,
            "tasks": list(connection.tasks),
            "warnings": list(connection.warnings),
        },
        "config": {},
    }


def _shown_sync(sync: SandboxSync) -> dict[str, object]:
    """A history item. Only that it has the start is documented; the names are guesses."""
    return {
        "sync_id": sync.id,
        "sync_start": _iso(sync.started_at),
        "sync_end": _iso(sync.ended_at),
        "status": sync.ending.value if sync.ended_at is not None else None,
    }
