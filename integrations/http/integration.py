"""Starts and follows runs in any tool with a REST API, as its node's settings describe it.

Builds requests and hands answers to `mapping`; never sleeps, never repeats a start, keeps no state of runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from conductor.core.vendor import (
    Absent,
    Baseline,
    CancelSupport,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    FindAnswer,
    FindUnknown,
    Found,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Request,
)
from conductor.sdk import (
    AmbiguousError,
    Answer,
    BusyError,
    Context,
    HttpSettings,
    IntegrationError,
    RateLimit,
    RefusedError,
    RejectedError,
    UnreadableError,
)
from integrations.http import mapping
from integrations.http.config import KEY, Batch, Connection, Find, Follow, JobSettings, Poll
from integrations.http.listing import Listed, read_list
from integrations.http.paths import dig, fill, fill_json, fill_path, place

__all__ = ["HttpIntegration", "capabilities", "scope"]

_GONE: Final = frozenset({"404", "410"})
_AT_ONCE: Final = 16
_LOG_LINES: Final = 200
_EARLIER_SENDS_S: Final = 600.0


def capabilities(settings: Mapping[str, Json]) -> Capabilities:
    """What a node's declarations amount to. With neither key nor find, `delivery` must be chosen in the pipeline."""
    batch, find, key = (settings.get(name) for name in ("batch", "find", "key"))
    correlation, delivery = Correlation.NONE, Delivery.AT_MOST_ONCE
    settle_window_s, key_ttl_s = 120.0, 3600.0
    if isinstance(find, Mapping):
        correlation = Correlation.TAG if find.get("key") is not None else Correlation.WINDOW
        delivery = Delivery.PREFER_LOOKUP
        settle_window_s = _number(find.get("lag_s"), settle_window_s)
    if isinstance(key, Mapping):
        correlation, delivery = Correlation.KEY, Delivery.EFFECTIVELY_ONCE
        key_ttl_s = _number(key.get("ttl_s"), key_ttl_s)
    is_window = correlation is Correlation.WINDOW
    return Capabilities(
        correlation=correlation,
        delivery=delivery,
        needs_baseline=is_window,
        is_exclusive=is_window or bool(settings.get("scope")),
        cancel=CancelSupport.NONE if settings.get("cancel") is None else CancelSupport.CONFIRMED,
        batch_size=int(_number(batch.get("max_ids"), 100)) if isinstance(batch, Mapping) else 1,
        poll_floor_s=_number(settings.get("poll_floor_s"), 1.0),
        settle_window_s=settle_window_s,
        key_ttl_s=key_ttl_s,
        not_found_grace_s=_number(settings.get("not_found_grace_s"), 60.0),
    )


def scope(settings: Mapping[str, Json]) -> str:
    """The place whose runs must not overlap, where they are told apart by time alone; else empty."""
    return mapping.scope_of(JobSettings.model_validate(settings)) if capabilities(settings).is_exclusive else ""


def _number(value: Json, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


class HttpIntegration:
    """One API. See the README for what each declaration promises."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._base_url = connection.base_url
        self._follows: dict[str, Follow] = {}
        headers: dict[str, str] = {}
        for name, secret in connection.headers.items():
            headers[name] = secret.get_secret_value()
            context.redact.add(headers[name])
        if connection.bearer is not None:
            context.redact.add(connection.bearer.get_secret_value())
            headers["Authorization"] = f"Bearer {connection.bearer.get_secret_value()}"
        basic = None
        if connection.user is not None and connection.password is not None:
            basic = (connection.user, connection.password.get_secret_value())
            context.redact.add(basic[1])
        rate = connection.rate
        self._http = context.http(
            HttpSettings(
                base_url=connection.base_url,
                headers=headers,
                basic=basic,
                deadline_s=connection.deadline_s,
                verify_tls=connection.verify_tls,
            ),
            RateLimit(requests=rate.requests, per_s=rate.per_s, burst=rate.burst),
        )

    def _clean(self, text: str) -> str:
        return mapping.plain(self._context.redact(text))

    async def prepare(self, request: Request) -> Baseline:
        """Note which runs are in the list already, so that a lost start can only be one that came later."""
        find = JobSettings.model_validate(request.settings).find
        now = self._context.clock.now()
        if find is None or find.key is not None:
            return Baseline(data={"at": now.isoformat()})
        down_to = now - timedelta(seconds=find.skew_s)
        listing = await read_list(self._http, find, key=request.key, base_url=self._base_url, down_to=down_to)
        return Baseline(data={"at": now.isoformat(), "ids": [run.id for run in listing.runs]})

    async def start(self, request: Request) -> ExternalRef:
        """Send the one request that starts the run."""
        settings = JobSettings.model_validate(request.settings)
        exists = settings.already_exists
        answered = frozenset({exists.status}) if exists is not None else frozenset[int]()
        try:
            answer = await self._send(settings, request.key, answered)
        except (RejectedError, RefusedError) as error:
            if error.code is not None and error.code in {str(status) for status in settings.busy_statuses}:
                raise BusyError(f"{error}; something is already running there", code=error.code) from error
            raise
        try:
            if answer.status in answered:
                return self._existing(settings, request, answer)
            return self._started(settings, request, answer)
        except UnreadableError as error:
            raise AmbiguousError(
                f"{self._context.connection}: the start was accepted, but its answer cannot be used: {error}; "
                "look in the tool whether the run exists",
                connection=self._context.connection,
                operation="start",
            ) from error

    async def _send(self, settings: JobSettings, key: str, answered: frozenset[int]) -> Answer:
        start, tokens = settings.start, {KEY: key}
        body = fill_json(start.body, tokens)
        headers = {name: fill(value, tokens) for name, value in start.headers.items()}
        if settings.key is not None and settings.key.header is not None:
            headers[settings.key.header] = key
        if settings.key is not None and settings.key.field is not None:
            body = place(body, settings.key.field, key)
        return await self._http.start(
            start.method,
            fill_path(start.path, tokens),
            params=_params(start.params, tokens),
            json=body,
            headers=headers,
            refused_statuses=frozenset((*start.refused_statuses, *settings.busy_statuses)),
            answered_statuses=answered,
        )

    def _started(self, settings: JobSettings, request: Request, answer: Answer) -> ExternalRef:
        start = settings.start
        body = self._start_body(settings, answer)
        vendor_id = mapping.run_id(body, start.id, request.key)
        if vendor_id is None and not start.is_final:
            raise UnreadableError(f"no id at `{start.id}`", raw=answer.text()[:500])
        link = mapping.safe_link(dig(body, start.link), self._base_url) if start.link is not None else None
        ref = mapping.ref_for(settings, vendor_id or request.key, at=self._context.clock.now(), link=link)
        end = mapping.end_of(settings, body, request, clean=self._clean, base_url=self._base_url)
        return ref if end is None else ExternalRef(id=ref.id, data={**ref.data, "end": end}, link=link)

    def _start_body(self, settings: JobSettings, answer: Answer) -> Json:
        is_needed = not settings.start.is_final and (settings.start.id != KEY or settings.start.state is not None)
        try:
            return answer.json()
        except UnreadableError:
            if is_needed:
                raise
            return None

    def _existing(self, settings: JobSettings, request: Request, answer: Answer) -> ExternalRef:
        exists = settings.already_exists
        path = (exists.id if exists is not None else None) or settings.start.id
        body = None if path == KEY and (exists is None or exists.key is None) else answer.json()
        if exists is not None and exists.key is not None and not mapping.key_is_in(dig(body, exists.key), request.key):
            raise RejectedError(
                f"{self._context.connection}: HTTP {answer.status}: a run exists that does not carry our key; "
                "it was not started by this attempt and is not adopted",
                connection=self._context.connection,
                operation="start",
                code=str(answer.status),
            )
        vendor_id = mapping.run_id(body, path, request.key)
        if vendor_id is None:
            raise UnreadableError(f"the run exists already, but no id is at `{path}`", raw=answer.text()[:500])
        return mapping.ref_for(settings, vendor_id, at=self._context.clock.now())

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """See runs: those of nodes with the same settings share requests, where the API shows many runs at once."""
        seen: dict[str, Observation] = {}
        groups: dict[str, list[ExternalRef]] = {}
        for ref in refs:
            ended = mapping.ended_at_start(ref, self._clean)
            if ended is not None:
                seen[ref.id] = ended
            else:
                groups.setdefault(str(ref.data.get("digest", "")), []).append(ref)
        problems: list[IntegrationError] = []
        for group in groups.values():
            try:
                follow = mapping.follow_of(group[0], self._follows)
                seen.update(await self._poll_group(group, follow, problems))
            except IntegrationError as error:
                problems.append(error)
        if problems and not seen:
            raise problems[0]
        return seen

    async def _poll_group(
        self, refs: Sequence[ExternalRef], follow: Follow, problems: list[IntegrationError]
    ) -> dict[str, Observation]:
        batch = follow.batch
        if batch is None:
            return await self._poll_singly(refs, follow, problems)
        seen: dict[str, Observation] = {}
        for at in range(0, len(refs), batch.max_ids):
            try:
                missing = await self._poll_batch(refs[at : at + batch.max_ids], follow, batch, seen)
            except IntegrationError as error:
                problems.append(error)
                continue
            if missing and follow.poll is not None:
                seen.update(await self._poll_singly([ref for ref, _ in missing], follow, problems))
            else:
                seen.update((ref.id, lost) for ref, lost in missing)
        return seen

    async def _poll_batch(
        self, refs: Sequence[ExternalRef], follow: Follow, batch: Batch, seen: dict[str, Observation]
    ) -> list[tuple[ExternalRef, Observation]]:
        """Fill `seen` by one request; refs left out by the answer after their grace come back as vanished."""
        ids = [str(ref.data.get("id", ref.id)) for ref in refs]
        tokens = {"{ids}": batch.separator.join(ids)}
        as_list: list[Json] = [int(one) if batch.has_number_ids and _is_number(one) else one for one in ids]
        answer = await self._http.read(
            batch.method,
            _batch_path(batch, ids),
            params=_params(batch.params, tokens),
            json=fill_json(batch.body, tokens, {"{ids}": as_list}),
        )
        items = mapping.by_id(answer.json(), batch, ids)
        missing: list[tuple[ExternalRef, Observation]] = []
        is_any_readable = not items
        for ref, vendor_id in zip(refs, ids, strict=True):
            if vendor_id not in items:
                lost = mapping.vanished(ref, follow, self._context.clock.now())
                if lost is not None:
                    missing.append((ref, lost))
                continue
            found = self._observe(items[vendor_id], batch, follow, vendor_id)
            if found is not None:
                seen[ref.id] = found
                is_any_readable = True
        if not is_any_readable:
            raise UnreadableError(f"no run in the answer has a state at `{batch.state}`; mend batch.state")
        return missing

    async def _poll_singly(
        self, refs: Sequence[ExternalRef], follow: Follow, problems: list[IntegrationError]
    ) -> dict[str, Observation]:
        poll = follow.poll
        if poll is None:
            raise UnreadableError("the runs cannot be followed: their node declares neither `poll` nor `batch`")
        seen: dict[str, Observation] = {}
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def one(ref: ExternalRef) -> None:
            async with at_once:
                try:
                    found = await self._poll_one(ref, poll, follow)
                except IntegrationError as error:
                    problems.append(error)
                else:
                    if found is not None:
                        seen[ref.id] = found

        async with asyncio.TaskGroup() as group:
            for ref in refs:
                _ = group.create_task(one(ref))
        return seen

    async def _poll_one(self, ref: ExternalRef, poll: Poll, follow: Follow) -> Observation | None:
        vendor_id = str(ref.data.get("id", ref.id))
        tokens = {"{id}": vendor_id}
        try:
            answer = await self._http.read(
                poll.method,
                fill_path(poll.path, tokens),
                params=_params(poll.params, tokens),
                json=fill_json(poll.body, tokens),
            )
        except RejectedError as error:
            if error.code in _GONE:
                return mapping.vanished(ref, follow, self._context.clock.now())
            raise
        found = self._observe(answer.json(), poll, follow, vendor_id)
        if found is None:
            raise UnreadableError(
                f"the answer holds no state at `{poll.state}`; mend poll.state", raw=answer.text()[:500]
            )
        return found

    def _observe(self, value: Json, reading: Poll | Batch, follow: Follow, vendor_id: str) -> Observation | None:
        return mapping.observe(value, reading, follow, vendor_id=vendor_id, clean=self._clean, base_url=self._base_url)

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        """Look for the run in the declared list: by our key where it comes back, else by time and place."""
        settings = JobSettings.model_validate(request.settings)
        find = settings.find
        if find is None:
            return FindUnknown(reason="the node declares no `find`: runs of this API cannot be looked up")
        since = request.permit_at or mapping.instant((baseline or Baseline()).data.get("at"))
        down_to = None if since is None else since - timedelta(seconds=_reach_s(find))
        if find.key is None and (baseline is None or since is None):
            return FindUnknown(reason="what the list showed before the start is not known")
        listing = await read_list(self._http, find, key=request.key, base_url=self._base_url, down_to=down_to)
        if find.key is not None:
            ours = [run for run in listing.runs if run.has_key]
        else:
            ours = _came_later(listing.runs, baseline or Baseline(), since, find)
        if find.key is None and len(ours) > 1:
            return FindUnknown(reason=f"{len(ours)} runs came at that time and nothing tells which is ours")
        if ours:
            return self._found(settings, min(ours, key=_age), since, is_inferred=find.key is None)
        if listing.unreadable:
            return FindUnknown(reason=f"{listing.unreadable} items of the list could not be read")
        return Absent(
            reason=f"{len(listing.runs)} runs since {down_to or 'ever'} were looked at; ours is not among them"
        )

    def _found(self, settings: JobSettings, run: Listed, since: datetime | None, *, is_inferred: bool) -> FindAnswer:
        at = run.created or since or self._context.clock.now()
        return Found(ref=mapping.ref_for(settings, run.id, at=at, link=run.link), is_inferred=is_inferred)

    async def cancel(self, ref: ExternalRef) -> None:
        """Ask the API to stop the run."""
        if "end" in ref.data:
            return
        cancel = mapping.follow_of(ref, self._follows).cancel
        if cancel is None:
            raise RejectedError(f"{self._context.connection}: the node declares no `cancel`; stop the run in the tool")
        tokens = {"{id}": str(ref.data.get("id", ref.id))}
        try:
            await self._http.act(
                cancel.method,
                fill_path(cancel.path, tokens),
                params=_params(cancel.params, tokens),
                json=fill_json(cancel.body, tokens),
            )
        except IntegrationError as error:
            if error.code not in {str(status) for status in cancel.done_statuses}:
                raise

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The run's log, where the node says where it is."""
        logs = mapping.follow_of(ref, self._follows).logs
        if logs is None:
            return LogExcerpt(link=ref.link)
        tokens = {"{id}": str(ref.data.get("id", ref.id))}
        answer = await self._http.read("GET", fill_path(logs.path, tokens), params=_params(logs.params, tokens))
        found = answer.text() if logs.text is None else dig(answer.json(), logs.text)
        lines = [str(line) for line in found] if isinstance(found, list) else str(found or "").splitlines()
        kept = tuple(self._clean(line[:2000]) for line in lines[-_LOG_LINES:])
        return LogExcerpt(lines=kept, is_truncated=len(lines) > _LOG_LINES, link=ref.link)

    async def check(self) -> Health:
        """Read `check_path`, where the connection names one."""
        path = self._connection.check_path
        if path is None:
            return Health(is_ok=True, message="nothing was asked: set check_path to a path that needs the credentials")
        try:
            answer = await self._http.read("GET", path)
        except IntegrationError as error:
            return Health(is_ok=False, message=f"{error}; check base_url, credentials and check_path")
        return Health(is_ok=True, message=f"GET {path} answered {answer.status}")


def _params(params: Mapping[str, str | int], tokens: Mapping[str, str]) -> dict[str, str | int]:
    return {name: fill(value, tokens) if isinstance(value, str) else value for name, value in params.items()}


def _batch_path(batch: Batch, ids: Sequence[str]) -> str:
    if "{ids}" not in batch.path:
        return batch.path
    quoted = [fill_path("{id}", {"{id}": one}) for one in ids]
    return batch.path.replace("{ids}", batch.separator.join(quoted))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _reach_s(find: Find) -> float:
    """How far before the permit the list is read. Our key proves itself, so an earlier send of it is looked for too."""
    return find.skew_s if find.key is None else find.skew_s + 2 * find.lag_s + _EARLIER_SENDS_S


def _came_later(runs: Sequence[Listed], baseline: Baseline, since: datetime | None, find: Find) -> list[Listed]:
    before = baseline.data.get("ids")
    known = {str(one) for one in before} if isinstance(before, list) else set()
    until = None if since is None else since + timedelta(seconds=find.lag_s + find.skew_s)
    return [
        run for run in runs if run.id not in known and (until is None or run.created is None or run.created <= until)
    ]


def _age(run: Listed) -> float:
    return float("inf") if run.created is None else run.created.timestamp()
