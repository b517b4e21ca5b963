"""Hightouch as an ASGI app with a ledger: same paths, auth, ids, paging, lags, limits and error bodies. No kinder."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from conductor.sdk import Clock, ExternalState, Faults, Json, LedgerEntry, with_faults
from conductor.sdk.sandbox import AsgiApp
from integrations.hightouch.sandbox_runs import Outcome, VendorRun, VendorSync, run_json, settle, sync_json

__all__ = ["API_KEY", "ErrorShape", "HightouchSandbox"]

API_KEY = "ht-sandbox-key-5f1c2a"
_BASE = "/api/v1"
_MAX_LIMIT = 100
_RATE, _RATE_S = 200, 10.0
_ORDERS = {"id": "id", "createdAt": "created_at", "startedAt": "started_at", "finishedAt": "finished_at"}
_FLAGS = frozenset({"fullResync", "resetCDC", "clearAndFill"})


class ErrorShape(StrEnum):
    """The shape of a 4xx body; Hightouch uses all three."""

    DETAILS = "details"
    """`{"message": "Validation failed", "details": {...}}`"""
    ERROR = "error"
    """`{"error": "..."}`"""
    TEXT = "text"
    """Plain text."""


class HightouchSandbox:
    """One workspace. Runs end by themselves after `run_s` unless `advance` takes them over.

    Attributes:
        app: The ASGI app, wire faults included.
        faults: The wire faults.
        ledger: Every accepted trigger, in order; runs made by `inject` are not ours and not in it.
        requests: How many requests arrived, by "METHOD /path-template".
        run_s: How long a run works, in seconds; None to leave every run to `advance`.
        hidden_polls: New runs are left out of this many lists that would show them.
        hidden_s: New runs are left out of every list for so many seconds.
        error_shape: The shape of 4xx bodies.
        is_newest_first: The order of lists, which Hightouch does not document.
        has_more_is_sent: False for the older revision without `hasMore`.
        slug_filter_works: False for a revision that ignores `slug` on `GET /syncs`.
        sync_page: How many syncs a page holds by default (100 or 20, by revision).
        sync_words: Sync id → what `GET /syncs` says of it, whatever its runs do: a stale overview.
        after_page: Called with the sync id after each page of runs, so that a list can change while it is read.
    """

    app: AsgiApp
    faults: Faults
    ledger: list[LedgerEntry]
    requests: dict[str, int]

    def __init__(
        self,
        clock: Clock,
        *,
        run_s: float | None = 20.0,
        syncs: Sequence[tuple[int, str]] = ((1001, "contacts-to-crm"), (1002, "audiences-to-ads")),
        on_sync: Callable[[str], int] | None = None,
        first_id: int = 70_000_001,
    ) -> None:
        """Make a workspace.

        Args:
            clock: The only source of time.
            run_s: How long a run works, in seconds; None for runs that only `advance` moves.
            syncs: Number and slug of the syncs that exist.
            on_sync: Called with the sync id once per run that processes by itself; returns how many rows were pushed.
                What it raises becomes the run's failure.
            first_id: The first run's id. The vendor never gives an id twice: a server that is started again and again
                takes one that grows, such as the time.
        """
        self._clock = clock
        self._on_sync = on_sync
        self._syncs = {sync_id: VendorSync(id=sync_id, slug=slug) for sync_id, slug in syncs}
        self._next_id = first_id
        self._arrivals: deque[float] = deque()
        self.run_s = run_s
        self.hidden_polls = 0
        self.hidden_s = 0.0
        self.error_shape = ErrorShape.DETAILS
        self.is_newest_first = True
        self.has_more_is_sent = True
        self.slug_filter_works = True
        self.sync_page = 20
        self.sync_words: dict[str, str] = {}
        self.after_page: Callable[[str], None] | None = None
        self.faults = Faults()
        self.ledger = []
        self.requests = {}
        routes = [
            Route(f"{_BASE}/syncs", self._list_syncs, methods=["GET"]),
            Route(f"{_BASE}/syncs/trigger", self._trigger_by_name, methods=["POST"]),
            Route(f"{_BASE}/syncs/{{sync_id}}", self._get_sync, methods=["GET"]),
            Route(f"{_BASE}/syncs/{{sync_id}}/trigger", self._trigger, methods=["POST"]),
            Route(f"{_BASE}/syncs/{{sync_id}}/runs", self._list_runs, methods=["GET"]),
        ]
        self.app = with_faults(Starlette(routes=routes), self.faults)

    def connection(self, base_url: str) -> dict[str, object]:
        """Settings of a connection to this sandbox, with working credentials, for a server at `base_url`."""
        return {"api_key": API_KEY, "base_url": f"{base_url.rstrip('/')}{_BASE}"}

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Drive the newest run of the sync `scope` (its number) to `state`; `word` makes the vendor say exactly so."""
        sync = self._syncs[int(scope)]
        self._settle(sync)
        if state is ExternalState.VANISHED:
            self.forget(scope)
            return
        sync.runs[-1].drive(state, word, self._clock.now())

    def add_sync(self, sync_id: int, slug: str) -> None:
        """Let one more sync exist."""
        self._syncs[sync_id] = VendorSync(id=sync_id, slug=slug)

    def disable(self, scope: str, *, is_disabled: bool = True) -> None:
        """Switch a sync off: triggers are answered with 422 and start nothing."""
        self._syncs[int(scope)].is_disabled = is_disabled

    def delete_sync(self, scope: str) -> None:
        """Remove a sync and its history: every request about it is answered with 404."""
        del self._syncs[int(scope)]

    def forget(self, scope: str) -> None:
        """Drop the newest run of a sync from all lists, for good."""
        self._syncs[int(scope)].runs.pop()

    def will_end(self, scope: str, word: str, *, rejected: int = 0, error: str | None = None) -> None:
        """Say how the next run that ends by itself will end; `rejected` rows make a partial success of it."""
        self._syncs[int(scope)].next_outcomes.append(Outcome(word=word, rejected=rejected, error=error))

    def inject(self, scope: str, *, state: ExternalState | None = None, age_s: float = 0.0) -> str:
        """Let a schedule or a person trigger the sync, `age_s` seconds ago; answers the run's id.

        With `state` the run is in that state from now on; otherwise it moves by time as any other.
        """
        sync, now = self._syncs[int(scope)], self._clock.now()
        run = self._create(sync, now - timedelta(seconds=age_s), is_foreign=True)
        if state is not None:
            run.drive(state, "", now)
        return str(run.id)

    async def _trigger(self, request: Request) -> Response:
        refusal, body = await self._arrived(request, "POST /syncs/{id}/trigger")
        if refusal is not None:
            return refusal
        return self._accept(self._named(request.path_params["sync_id"]), body)

    async def _trigger_by_name(self, request: Request) -> Response:
        refusal, body = await self._arrived(request, "POST /syncs/trigger")
        if refusal is not None:
            return refusal
        sync_id, slug = body.pop("syncId", None), body.pop("syncSlug", None)
        if (sync_id is None) == (slug is None):
            return self._invalid(422, "body", "give syncId or syncSlug")
        if sync_id is not None:
            return self._accept(self._named(str(sync_id)), body)
        return self._accept(next((sync for sync in self._syncs.values() if sync.slug == slug), None), body)

    async def _list_runs(self, request: Request) -> Response:
        refusal, _ = await self._arrived(request, "GET /syncs/{id}/runs")
        sync = self._named(request.path_params["sync_id"])
        if refusal is not None or sync is None:
            return refusal or self._invalid(404, "syncId", "sync not found")
        query = request.query_params
        window = self._window(request, default=5)
        order = query.get("orderBy", "id")
        if window is None or order not in _ORDERS:
            return self._invalid(422, "query", "limit must be from 1 to 100 and orderBy a known field")
        limit, offset = window
        self._settle(sync)
        runs = [run for run in sync.runs if self._is_visible(run)]
        if "runId" in query:
            runs = [run for run in runs if str(run.id) == query["runId"]]
        runs = self._started_between(runs, query.get("after"), query.get("before"), query.get("within"))
        oldest = self._clock.now() - timedelta(days=10_000)
        runs.sort(key=lambda run: (getattr(run, _ORDERS[order]) or oldest, run.id) if order != "id" else run.id)
        if self.is_newest_first:
            runs.reverse()
        answer = self._list([run_json(run) for run in runs[offset : offset + limit]], offset + limit < len(runs))
        if self.after_page is not None:
            self.after_page(str(sync.id))
        return answer

    async def _list_syncs(self, request: Request) -> Response:
        refusal, _ = await self._arrived(request, "GET /syncs")
        if refusal is not None:
            return refusal
        window = self._window(request, default=self.sync_page)
        if window is None:
            return self._invalid(422, "limit", "must be from 1 to 100")
        limit, offset = window
        slug = request.query_params.get("slug")
        syncs = [sync for sync in self._syncs.values() if not self.slug_filter_works or slug in {None, sync.slug}]
        for sync in syncs:
            self._settle(sync)
        rows = [sync_json(sync, self.sync_words.get(str(sync.id), sync.status)) for sync in syncs]
        return self._list(rows[offset : offset + limit], offset + limit < len(rows))

    async def _get_sync(self, request: Request) -> Response:
        refusal, _ = await self._arrived(request, "GET /syncs/{id}")
        sync = self._named(request.path_params["sync_id"])
        if refusal is not None or sync is None:
            return refusal or self._invalid(404, "syncId", "sync not found")
        self._settle(sync)
        return JSONResponse(sync_json(sync, sync.status))

    async def _arrived(self, request: Request, template: str) -> tuple[Response | None, dict[str, Json]]:
        """Count, authorise and limit a request, and read its body."""
        self.requests[template] = self.requests.get(template, 0) + 1
        now_s = self._clock.monotonic()
        while self._arrivals and self._arrivals[0] <= now_s - _RATE_S:
            self._arrivals.popleft()
        if len(self._arrivals) >= _RATE:
            return JSONResponse({"error": "Too many requests"}, status_code=429), {}
        self._arrivals.append(now_s)
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return PlainTextResponse("Unauthorized", status_code=401), {}
        raw = await request.body()
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self._invalid(400, "body", "not JSON"), {}
        return (None, body) if isinstance(body, dict) else (self._invalid(400, "body", "not an object"), {})

    def _accept(self, sync: VendorSync | None, body: dict[str, Json]) -> Response:
        if sync is None:
            return self._invalid(404, "syncId", "sync not found")
        if sync.is_disabled:
            return self._invalid(422, "sync", "sync is disabled")
        if any(name not in _FLAGS or not isinstance(value, bool) for name, value in body.items()):
            return self._invalid(422, "body", "unknown field or not a boolean")
        run = self._create(sync, self._clock.now(), is_full=body.get("fullResync") is True)
        self.ledger.append(LedgerEntry(at=run.created_at, scope=str(sync.id), run=str(run.id)))
        return JSONResponse({"id": str(run.id)})

    def _create(
        self, sync: VendorSync, created_at: datetime, *, is_foreign: bool = False, is_full: bool = False
    ) -> VendorRun:
        self._settle(sync)
        run = VendorRun(
            id=self._next_id,
            created_at=created_at,
            visible_at=created_at + timedelta(seconds=self.hidden_s),
            hidden_polls=self.hidden_polls,
            is_foreign=is_foreign,
            is_full=is_full,
        )
        self._next_id += 1
        sync.runs.append(run)
        return run

    def _settle(self, sync: VendorSync) -> None:
        settle(sync, self._clock.now(), run_s=self.run_s, process=self._on_sync)

    def _named(self, sync_id: str) -> VendorSync | None:
        return self._syncs.get(int(sync_id)) if sync_id.isascii() and sync_id.isdigit() else None

    def _is_visible(self, run: VendorRun) -> bool:
        if run.hidden_polls > 0:
            run.hidden_polls -= 1
            return False
        return run.visible_at <= self._clock.now()

    def _started_between(
        self, runs: list[VendorRun], after: str | None, before: str | None, within: str | None
    ) -> list[VendorRun]:
        """The documented filters compare the start of the work: a queued run passes none of them."""
        lower = datetime.fromisoformat(after) if after else None
        if within:
            lower = self._clock.now() - timedelta(minutes=float(within))
        upper = datetime.fromisoformat(before) if before else None
        if lower is not None:
            runs = [run for run in runs if run.started_at is not None and run.started_at >= lower]
        if upper is not None:
            runs = [run for run in runs if run.started_at is not None and run.started_at <= upper]
        return runs

    def _window(self, request: Request, *, default: int) -> tuple[int, int] | None:
        try:
            limit = int(request.query_params.get("limit", default))
            offset = int(request.query_params.get("offset", 0))
        except ValueError:
            return None
        return (limit, offset) if 1 <= limit <= _MAX_LIMIT and offset >= 0 else None

    def _list(self, rows: list[dict[str, Json]], has_more: bool) -> Response:  # noqa: FBT001
        body: dict[str, Json] = {"data": rows}
        return JSONResponse({**body, "hasMore": has_more} if self.has_more_is_sent else body)

    def _invalid(self, status: int, name: str, why: str) -> Response:
        match self.error_shape:
            case ErrorShape.DETAILS:
                return JSONResponse({"message": "Validation failed", "details": {name: why}}, status_code=status)
            case ErrorShape.ERROR:
                return JSONResponse({"error": why}, status_code=status)
            case ErrorShape.TEXT:
                return PlainTextResponse(why, status_code=status)
