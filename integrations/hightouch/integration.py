"""The integration of one Hightouch workspace: what is asked when, and what the answers mean. Never waits or retries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from conductor.sdk import (
    AuthError,
    Baseline,
    CancelSupport,
    Capabilities,
    Context,
    Correlation,
    Delivery,
    ExternalRef,
    FindAnswer,
    FindUnknown,
    Health,
    IfRunning,
    IntegrationError,
    Json,
    LogExcerpt,
    Observation,
    RefusedError,
    RejectedError,
    Request,
    UnreadableError,
)
from integrations.hightouch import overview
from integrations.hightouch.client import PAGE, HightouchApi
from integrations.hightouch.config import Connection
from integrations.hightouch.mapping import is_active, observe, pick, vanished
from integrations.hightouch.payload import SyncRun, normal_id

__all__ = ["CAPABILITIES", "Hightouch", "scope_of"]

CAPABILITIES = Capabilities(
    correlation=Correlation.WINDOW,
    delivery=Delivery.PREFER_LOOKUP,
    if_running=IfRunning.WAIT,
    needs_baseline=True,
    cancel=CancelSupport.NONE,
    batch_size=100,
    poll_floor_s=5.0,
    settle_window_s=120.0,
    not_found_grace_s=120.0,
    is_exclusive=True,
)

_NOT_FOUND = "404"
_MAX_LOG_LINES = 200


def scope_of(settings: Mapping[str, Json]) -> str:
    """The object that a start occupies: the sync, as the settings name it."""
    sync_id = settings.get("sync_id")
    return f"sync:{normal_id(sync_id) or sync_id}" if sync_id is not None else f"slug:{settings.get('sync_slug')}"


class Hightouch:
    """The integration for one connection. Keeps nothing of a run: refs carry all that polling needs."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._name = context.connection
        self._clock = context.clock
        self._redact = context.redact
        self._workspace = connection.workspace
        self._api = HightouchApi(context, connection)

    async def prepare(self, request: Request) -> Baseline:
        """Read the sync's number, its newest run and whether it is busy; one request, two for a slug.

        Raises:
            RejectedError: There is no sync with this slug.
            IntegrationError: It could not be read.
        """
        sync_id = normal_id(request.settings.get("sync_id"))
        if sync_id is None:
            sync_id = await self._api.sync_id_of(str(request.settings.get("sync_slug")))
        runs = await self._api.runs(sync_id, until=lambda page: page.is_newest_first)
        newest = max((int(run.id) for run in runs), default=0)
        running = max((run for run in runs if is_active(run)), key=lambda run: int(run.id), default=None)
        return Baseline(
            data={"sync_id": sync_id, "newest_run_id": str(newest)},
            is_busy=running is not None,
            running=self._ref(sync_id, running.id, running.created_at) if running is not None else None,
        )

    async def start(self, request: Request) -> ExternalRef:
        """Trigger the sync by one request. Hightouch queues it when a run is going on; it never answers 409.

        Raises:
            RejectedError: The sync is disabled, its configuration is invalid, or it does not exist.
            RefusedError: Too many requests, or never connected.
            AmbiguousError: The answer was lost, unreadable, or named a run that is older than the baseline.
        """
        sync_id, newest = _baseline(request.baseline)
        if sync_id is None or newest is None:
            raise RejectedError(f"{self._name}: trigger failed: there is no baseline; prepare the request first")
        slug = request.settings.get("sync_slug")
        run_id = await self._api.trigger(
            sync_id,
            slug=slug if isinstance(slug, str) else None,
            is_full=request.settings.get("full_resync") is True,
            newer_than=newest,
        )
        return self._ref(sync_id, run_id, self._clock.now())

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """See how runs are doing: one request per sync, or one per hundred syncs while nothing has changed.

        Raises:
            IntegrationError: Nothing was learnt of any ref.
        """
        failures: list[IntegrationError] = []
        groups: dict[str, list[ExternalRef]] = {}
        for ref in refs:
            try:
                groups.setdefault(_sync_of(ref), []).append(ref)
            except UnreadableError as error:
                failures.append(error)
        budget = overview.page_budget(len(groups))
        seen = await self._unchanged(groups, budget)

        async def look(sync_id: str, due: Sequence[ExternalRef]) -> None:
            try:
                found = await self._look(sync_id, due)
            except IntegrationError as error:
                failures.append(error)
            else:
                seen.update(self._remembered(due, found) if budget else found)

        async with asyncio.TaskGroup() as tasks:
            for sync_id, group in groups.items():
                due = [ref for ref in group if ref.id not in seen]
                if due:
                    _ = tasks.create_task(look(sync_id, due))
        if failures and not seen:
            raise failures[0]
        return seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        """Look through every run newer than the baseline; the only one of the right age is ours, by inference."""
        sync_id, newest = _baseline(baseline)
        if sync_id is None or newest is None:
            return FindUnknown(reason="no baseline was read before the start, so older runs cannot be told apart")
        try:
            runs = await self._api.runs(sync_id, until=lambda page: page.reaches(newest))
        except IntegrationError as error:
            return FindUnknown(reason=str(error))
        return pick(
            runs,
            newest_before=newest,
            permit_at=request.permit_at,
            make_ref=lambda run: self._ref(sync_id, run.id, run.created_at),
        )

    async def cancel(self, ref: ExternalRef) -> None:
        """Refused: Hightouch's API has no request that stops a run.

        Raises:
            RejectedError: Always; the run goes on until a person cancels it in the app.
        """
        raise RejectedError(
            f"{self._name}: cancel of run {ref.id} failed: Hightouch's API cannot cancel a run; "
            "cancel it in the Hightouch app, otherwise it goes on there"
        )

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The run's status, counts and error. Single rejected rows stand only in the app and in warehouse sync logs.

        Raises:
            IntegrationError: It could not be read.
        """
        sync_id = _sync_of(ref)
        page = await self._api.run_page(sync_id, run_id=ref.id)
        run = next((run for run in page.runs if run.id == ref.id), None)
        if run is None:
            return LogExcerpt(lines=(f"Hightouch does not list run {ref.id} of sync {sync_id}",), link=ref.link)
        seen = observe(run, sync_id=sync_id, link=ref.link, redact=self._redact)
        lines = [f"status: {seen.word}"]
        lines += [f"{name}: {value}" for name, value in seen.outputs.items() if value is not None]
        lines += [f"error: {line}" for line in self._redact(run.error).splitlines() if line.strip()]
        return LogExcerpt(lines=tuple(lines[-_MAX_LOG_LINES:]), is_truncated=len(lines) > _MAX_LOG_LINES, link=ref.link)

    async def check(self) -> Health:
        """Whether the key may read the workspace's syncs. Whether it may trigger cannot be tried without a run."""
        try:
            rows, _ = await self._api.syncs(limit=1)
        except IntegrationError as error:
            return Health(is_ok=False, message=str(error))
        seen = "at least one sync" if rows else "no sync yet"
        return Health(is_ok=True, message=f"the API key works and the workspace has {seen}")

    async def _look(self, sync_id: str, refs: Sequence[ExternalRef]) -> dict[str, Observation]:
        """The runs `refs` of one sync: one request for one run or for many, more only for those that are not listed."""
        found: dict[str, SyncRun] = {}
        if len(refs) > 1:
            try:
                found = {run.id: run for run in (await self._api.run_page(sync_id)).runs}
            except RejectedError as error:
                if error.code != _NOT_FOUND:
                    raise
        seen: dict[str, Observation] = {}
        for ref in refs:
            run = found.get(ref.id) or await self._listed(sync_id, ref)
            if run is not None:
                seen[ref.id] = observe(run, sync_id=sync_id, link=ref.link, redact=self._redact)
            elif not self._is_fresh(ref):
                seen[ref.id] = vanished(ref.id, sync_id, link=ref.link)
        return seen

    async def _listed(self, sync_id: str, ref: ExternalRef) -> SyncRun | None:
        """The run, or None when it is not listed; past the grace only after the whole list was read as well.

        Source: a fresh run may be missing from the list and empty `data` is no error (kestra-io/plugin-hightouch).
        """
        try:
            page = await self._api.run_page(sync_id, run_id=ref.id)
            run = next((run for run in page.runs if run.id == ref.id), None)
            if run is None and page.unreadable:
                raise UnreadableError(f"{self._name}: poll of run {ref.id} failed: its row is unreadable; asked again")
            if run is None and not self._is_fresh(ref):
                runs = await self._api.runs(sync_id, until=lambda page: page.reaches(int(ref.id)))
                run = next((run for run in runs if run.id == ref.id), None)
        except RejectedError as error:
            if error.code != _NOT_FOUND:
                raise
            await self._api.syncs(limit=1)  # raises when the address itself is wrong, and then nothing was learnt
            return None
        return run

    async def _unchanged(self, groups: Mapping[str, Sequence[ExternalRef]], budget: int) -> dict[str, Observation]:
        """The remembered observations of runs whose sync still shows the run's last word; at most `budget` requests."""
        wanted = {sync_id for sync_id, refs in groups.items() if any("memory" in ref.data for ref in refs)}
        if overview.page_budget(len(wanted)) == 0:
            return {}
        words: dict[str, str] = {}
        try:
            for number in range(budget):
                rows, is_last = await self._api.syncs(offset=number * PAGE)
                words.update({row.id: row.status for row in rows})
                if is_last or wanted <= words.keys():
                    break
        except (AuthError, RefusedError):
            raise
        except IntegrationError:
            return {}  # The overview only saves requests; each run's own list tells more.
        now = self._clock.now()
        known = {
            ref.id: overview.unchanged(ref, words.get(sync_id), now=now)
            for sync_id, refs in groups.items()
            for ref in refs
        }
        return {run_id: seen for run_id, seen in known.items() if seen is not None}

    def _remembered(self, refs: Sequence[ExternalRef], seen: Mapping[str, Observation]) -> dict[str, Observation]:
        now = self._clock.now()
        by_id = {ref.id: ref for ref in refs}
        return {
            run_id: replace(shown, ref=overview.remember(by_id[run_id], shown, now=now))
            for run_id, shown in seen.items()
        }

    def _ref(self, sync_id: str, run_id: str, started_at: datetime | None) -> ExternalRef:
        link = None
        if self._workspace is not None:
            link = f"https://app.hightouch.com/{self._workspace}/syncs/{sync_id}/runs/{run_id}"
        since = started_at or self._clock.now()
        return ExternalRef(id=run_id, data={"sync_id": sync_id, "started_at": since.isoformat()}, link=link)

    def _is_fresh(self, ref: ExternalRef) -> bool:
        started_at = ref.data.get("started_at")
        if not isinstance(started_at, str):
            return False
        age_s = (self._clock.now() - datetime.fromisoformat(started_at)).total_seconds()
        return age_s < CAPABILITIES.not_found_grace_s


def _baseline(baseline: Baseline | None) -> tuple[str | None, int | None]:
    data = baseline.data if baseline is not None else {}
    newest = data.get("newest_run_id")
    return normal_id(data.get("sync_id")), int(newest) if isinstance(newest, str) and newest.isdigit() else None


def _sync_of(ref: ExternalRef) -> str:
    sync_id = normal_id(ref.data.get("sync_id"))
    if sync_id is None:
        raise UnreadableError(f"run {ref.id} cannot be read: its reference names no sync; look at it in Hightouch")
    return sync_id
