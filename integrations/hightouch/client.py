"""Hightouch's API as calls: addresses, parameters, paging, errors in words. Knows nothing of attempts or states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conductor.sdk import (
    AmbiguousError,
    AuthError,
    Context,
    HttpSettings,
    IntegrationError,
    Json,
    RateLimit,
    RejectedError,
    UnreadableError,
)
from integrations.hightouch.config import Connection
from integrations.hightouch.payload import (
    Page,
    SyncRow,
    SyncRun,
    error_words,
    normal_id,
    parse_run_page,
    parse_sync_page,
)

__all__ = ["PAGE", "HightouchApi"]

PAGE = 100
"""The documented maximum of rows in one answer."""
_LIMIT = RateLimit(requests=180, per_s=10, burst=20)
"""Hightouch allows 200 requests in any 10 s per workspace and sends no `Retry-After`; a burst counts into the same ten
seconds, so 180 and 20 together stay inside. Source: https://hightouch.com/docs/developer-tools/api-guide."""


class HightouchApi:
    """One workspace. Every method raises `IntegrationError` subclasses only, worded *what failed: why; what to do*."""

    def __init__(self, context: Context, connection: Connection) -> None:
        secret = connection.api_key.get_secret_value()
        context.redact.add(secret)
        self._name = context.connection
        self._redact = context.redact
        self._http = context.http(
            HttpSettings(
                base_url=connection.base_url,
                headers={"Authorization": f"Bearer {secret}", "Accept": "application/json"},
            ),
            _LIMIT,
        )

    async def trigger(self, sync_id: str, *, slug: str | None, is_full: bool, newer_than: int) -> str:
        """Trigger a sync by one request and answer the run's id; by `slug` when there is one.

        Only `fullResync` is sent: it is the one flag that every revision of the API knows.

        Raises:
            RejectedError: The sync is disabled, its configuration is invalid, or it does not exist.
            RefusedError: Too many requests, or never connected.
            AmbiguousError: The answer was lost, unreadable, or named a run that is not newer than `newer_than`.
        """
        path, body = f"/syncs/{sync_id}/trigger", dict[str, Json](fullResync=is_full)
        if slug is not None:
            path, body = "/syncs/trigger", {"syncSlug": slug, "fullResync": is_full}
        with self._explained(f"trigger of sync {slug or sync_id}"):
            answer = await self._http.start("POST", path, json=body)
            try:
                run_id = normal_id(answer.object().get("id"))
            except UnreadableError as error:
                raise AmbiguousError(f"{error}, so the start may have been accepted") from error
            if run_id is None:
                raise AmbiguousError("the answer names no run, so the start may have been accepted")
            if int(run_id) <= newer_than:
                # Whether a second trigger is folded into an earlier run is not documented; an old run proves nothing.
                raise AmbiguousError(f"the answer names run {run_id}, which is not newer than run {newer_than}")
            return run_id

    async def run_page(self, sync_id: str, *, offset: int = 0, run_id: str | None = None) -> Page:
        """One page of a sync's runs, or the page that holds only `run_id`.

        Ordered by id because both spellings of the other orders (`createdAt`, `created_at`) are met. Never filtered by
        time: `after`, `before` and `within` compare the start of the work, which a queued run has not.
        """
        params: dict[str, str | int] = {"limit": PAGE, "orderBy": "id"}
        if run_id is not None:
            params["runId"] = run_id
        if offset:
            params["offset"] = offset
        with self._explained(f"reading the runs of sync {sync_id}"):
            answer = await self._http.read("GET", f"/syncs/{sync_id}/runs", params=params)
            return parse_run_page(answer.json())

    async def runs(self, sync_id: str, *, until: Callable[[Page], bool]) -> list[SyncRun]:
        """Every run, page by page, until a page satisfies `until` or the list ends; each run once.

        Raises:
            UnreadableError: A row could not be read or paging does not get on, so that nothing is proved.
        """
        found: dict[str, SyncRun] = {}
        offset = 0
        while True:
            page = await self.run_page(sync_id, offset=offset)
            if page.unreadable:
                raise self._unreadable(
                    sync_id, f"{page.unreadable} of {page.length} runs have no readable id or status"
                )
            before = len(found)
            found.update({run.id: run for run in page.runs})
            if page.is_last or until(page):
                return list(found.values())
            if len(found) == before:
                raise self._unreadable(sync_id, f"the list repeats itself from offset {offset}")
            offset += page.length

    async def syncs(
        self, *, limit: int = PAGE, offset: int = 0, slug: str | None = None
    ) -> tuple[tuple[SyncRow, ...], bool]:
        """One page of the workspace's syncs, and whether it was the last."""
        params: dict[str, str | int] = {"limit": limit}
        if slug is not None:
            params["slug"] = slug
        if offset:
            params["offset"] = offset
        with self._explained("reading the list of syncs"):
            answer = await self._http.read("GET", "/syncs", params=params)
            return parse_sync_page(answer.json())

    async def sync_id_of(self, slug: str) -> str:
        """The number of the sync with `slug`. Pages on, because an old revision may ignore the filter.

        Raises:
            RejectedError: There is none.
        """
        seen: set[str] = set()
        while True:
            rows, is_last = await self.syncs(offset=len(seen), slug=slug)
            found = next((row.id for row in rows if row.slug == slug), None)
            if found is not None:
                return found
            fresh = {row.id for row in rows} - seen
            if is_last or not fresh:
                raise RejectedError(
                    f"{self._name}: reading sync {slug!r} failed: the workspace has no sync with this slug; "
                    "correct sync_slug or use sync_id",
                    connection=self._name,
                    operation="prepare",
                    code="404",
                )
            seen |= fresh

    def _unreadable(self, sync_id: str, why: str) -> UnreadableError:
        return UnreadableError(
            f"{self._name}: reading the runs of sync {sync_id} failed: {why}; it is asked again", connection=self._name
        )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Reword an error, with the vendor's words out of whatever shape they came in."""
        try:
            yield
        except IntegrationError as error:
            status, words = error_words(str(error).removeprefix(f"{self._name}: "))
            why = ": ".join(part for part in (f"HTTP {status}" if status else "", words) if part)
            error.connection = error.connection or self._name
            error.args = (self._redact(f"{self._name}: {what} failed: {why}; {_advice(error)}"),)
            raise


def _advice(error: IntegrationError) -> str:
    match error:
        case AuthError():
            return "check the API key of this workspace"
        case RejectedError() if error.code == "404":
            return "check the sync's number and the workspace of this connection"
        case RejectedError():
            return "mend the sync in Hightouch, then retry"
        case AmbiguousError():
            return "it is looked up before anything else is sent"
        case _:
            return "it is asked again"
