"""Talks to Fivetran: builds requests, reads answers, lets `mapping` judge. No sleep, no retry, no state of syncs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from conductor.sdk import (
    AmbiguousError,
    AuthError,
    Baseline,
    BusyError,
    Context,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Health,
    Http,
    HttpSettings,
    IntegrationError,
    LogExcerpt,
    Observation,
    RateLimit,
    RejectedError,
    Request,
    UnreadableError,
)
from integrations.fivetran import mapping
from integrations.fivetran.config import FivetranConnection
from integrations.fivetran.payloads import Reading, as_stamp, is_accepted, read_connection, read_page, read_starts
from integrations.fivetran.trace import Trace, baseline_of, dashboard, ref_of_request

__all__ = ["Fivetran", "build"]

_HEADERS = {"Accept": "application/json;version=2"}
_ONE_BY_ONE = 3
_HISTORY_READS = 10
_ASK_HISTORY_EVERY = 4
_PAGE = 1000
_HISTORY_SPAN = timedelta(days=7)
_KNOWN_STATES = frozenset({"scheduled", "syncing", "paused", "rescheduled"})
_BODY_CAP = 32 * 1024 * 1024  # A page of 1000 connections carries each one's configuration.


def build(context: Context, connection: FivetranConnection) -> Fivetran:
    """The integration for one connection. No I/O."""
    key, secret = connection.api_key.get_secret_value(), connection.api_secret.get_secret_value()
    for value in (key, secret, f"{key}:{secret}"):
        context.redact.add(value)
    settings = HttpSettings(
        base_url=connection.base_url.rstrip("/"), headers=_HEADERS, basic=(key, secret), max_body_bytes=_BODY_CAP
    )
    limit = RateLimit(
        requests=connection.requests_per_hour, per_s=3600.0, burst=max(connection.requests_per_hour // 10, 1)
    )
    return Fivetran(context=context, http=context.http(settings, limit))


class Fivetran:
    """`fivetran.sync`: one account behind one API key."""

    def __init__(self, *, context: Context, http: Http) -> None:
        self._clock = context.clock
        self._redact = context.redact
        self._http = http

    async def prepare(self, request: Request) -> Baseline:
        """The stamps and the state that the sync will be told from. Resumes a paused connection where `unpause` is set.

        Resuming happens here and not in `start`, which must send one request. The baseline is read after it, because a
        resumed connection may begin a sync by itself, and that one is not ours.

        Raises:
            RejectedError: The connection is paused, half set up, broken or unknown.
            IntegrationError: It could not be read.
        """
        connection_id = str(request.settings["connection_id"])
        force, unpause = request.settings.get("force") is True, request.settings.get("unpause") is True
        reading = await self._known(connection_id)
        mapping.refuse_unready(reading, unpause=unpause)
        if mapping.is_paused(reading):
            await self._http.act(
                "PATCH", f"/v1/connections/{connection_id}", json={"paused": False, "run_setup_tests": False}
            )
            reading = await self._known(connection_id)
            mapping.refuse_unready(reading, unpause=False)
        if reading.sync_state not in _KNOWN_STATES:
            raise UnreadableError(
                f"Fivetran connection {connection_id!r} cannot be judged idle: it says {reading.sync_state!r}, which "
                f"is not a documented sync_state; look at {dashboard(connection_id)}",
                raw=reading.sync_state,
            )
        return baseline_of(reading, read_at=self._clock.now(), force=force)

    async def start(self, request: Request) -> ExternalRef:
        """Trigger the sync by one request. A 200 says that the trigger was taken, not that a sync began.

        Raises:
            RejectedError: Nothing happened and repeating will not help.
            RefusedError: Nothing happened, later may work; BusyError where the baseline showed another sync.
            AmbiguousError: It may have happened.
        """
        connection_id = str(request.settings["connection_id"])
        if request.baseline is None:
            raise RejectedError(
                f"Fivetran connection {connection_id!r} was not started: there is no baseline to tell its sync from; "
                "prepare the attempt first"
            )
        if request.baseline.is_busy:
            raise BusyError(
                f"Fivetran connection {connection_id!r} was not started: a sync is running already; "
                "wait for its end, or set `force: true` to replace it",
                running=request.baseline.running,
            )
        ref = ref_of_request(request, request.baseline, triggered_at=request.permit_at or self._clock.now())
        force = request.settings.get("force") is True
        answer = await self._http.start("POST", f"/v1/connections/{connection_id}/sync", json={"force": force})
        try:
            is_taken = is_accepted(answer.object())
        except UnreadableError as error:
            raise AmbiguousError(
                f"Fivetran connection {connection_id!r} may have been started: {error}; look it up before another start"
            ) from error
        if not is_taken:
            raise AmbiguousError(
                f"Fivetran connection {connection_id!r} may have been started: the answer does not say Success; "
                "look it up before another start"
            )
        return ref

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """See up to 1000 syncs with one listing, or up to three with a request each.

        Raises:
            IntegrationError: Nothing was learnt.
        """
        mine, damage = _by_connection(refs)
        if damage is not None and not mine:
            raise damage
        readings = await self._readings(sorted(mine))
        now = self._clock.now()
        seen: dict[str, Observation] = {}
        for connection_id, reading in readings.items():
            for ref in mine[connection_id]:
                seen[ref.id] = mapping.gone(ref) if reading is None else mapping.judge(ref, reading, now)
        await self._add_history(refs, seen, now)
        return seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        """Look for the sync in the history since the permit, then in what the connection shows against the baseline.

        Raises:
            IntegrationError: The connection could not be read.
        """
        if baseline is None:
            return FindUnknown(reason="there is no baseline to compare the connection with")
        since = request.permit_at or as_stamp(baseline.data.get("read_at"), field="read_at")
        if since is None:
            return FindUnknown(reason="neither the permit nor the baseline says when the start was sent")
        ref = ref_of_request(request, baseline, triggered_at=since)
        trace = Trace.of(ref.data)
        reading = await self._known(trace.connection_id)
        until = min(since + timedelta(seconds=mapping.ATTRIBUTION_S), self._clock.now() + _seconds(mapping.SKEW_S))
        try:
            starts = await self._starts(trace, since=since, until=until)
        except IntegrationError:
            return mapping.recognise(ref, reading, starts=None, is_blind=True)
        return mapping.recognise(ref, reading, starts=starts)

    async def cancel(self, ref: ExternalRef) -> None:  # noqa: ARG002 - Fivetran has nothing to send.
        """Nothing: Fivetran cannot stop a sync, and pausing the connection would outlive the run.

        Source: https://github.com/dagster-io/dagster/issues/15625
        """
        return

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The connection's tasks and warnings: all the words that the API has.

        Raises:
            IntegrationError: The connection could not be read.
        """
        reading = await self._known(Trace.of(ref.data).connection_id)
        lines = [f"setup_state={reading.setup_state} sync_state={reading.sync_state}"]
        lines += [f"task {notice.code}: {notice.text}" for notice in reading.tasks]
        lines += [f"warning {notice.code}: {notice.text}" for notice in reading.warnings]
        return LogExcerpt(lines=tuple(lines), link=dashboard(reading.connection_id))

    async def check(self) -> Health:
        """Whether the key works and sees a connection, by a listing of one."""
        try:
            answer = await self._http.read("GET", "/v1/connections", params={"limit": 1})
            page = read_page(answer.object())
        except AuthError as error:
            return Health(
                is_ok=False, message=f"{error}; check the API key, its secret and its permissions in Fivetran"
            )
        except IntegrationError as error:
            return Health(is_ok=False, message=f"{error}; check the connection's base_url and try again")
        if not page.items:
            return Health(
                is_ok=False,
                message="the key works but sees no connection: give its owner a role on the destinations to be synced",
            )
        return Health(is_ok=True, message="the key works and may read connections")

    async def _readings(self, connection_ids: Sequence[str]) -> dict[str, Reading | None]:
        if len(connection_ids) <= _ONE_BY_ONE:
            return await self._one_by_one(connection_ids)
        readings: dict[str, Reading | None] = dict(await self._listed(connection_ids))
        # A listing can shift while it is paged, so what it leaves out is asked for by id before it counts as gone.
        missing = [connection_id for connection_id in connection_ids if connection_id not in readings]
        if missing:
            readings.update(await self._one_by_one(missing[:_ONE_BY_ONE], is_extra=bool(readings)))
        return readings

    async def _one_by_one(self, connection_ids: Sequence[str], *, is_extra: bool = False) -> dict[str, Reading | None]:
        readings: dict[str, Reading | None] = {}
        failure: IntegrationError | None = None
        for connection_id in connection_ids:
            try:
                readings[connection_id] = await self._connection(connection_id)
            except IntegrationError as error:
                failure = error
        if failure is not None and not readings and not is_extra:
            raise failure
        return readings

    async def _listed(self, connection_ids: Iterable[str]) -> dict[str, Reading]:
        wanted, found = set(connection_ids), dict[str, Reading]()
        cursor: str | None = None
        seen_cursors: set[str] = set()
        while True:
            params: dict[str, str | int] = {"limit": _PAGE} if cursor is None else {"limit": _PAGE, "cursor": cursor}
            page = read_page((await self._http.read("GET", "/v1/connections", params=params)).object())
            for item in page.items:
                if item.get("id") in wanted:
                    try:
                        reading = read_connection(item, redact=self._redact)
                    except UnreadableError:
                        continue
                    found[reading.connection_id] = reading
            cursor = page.next_cursor
            if cursor is None or wanted <= found.keys():
                return found
            if cursor in seen_cursors:
                raise UnreadableError("Fivetran's list of connections does not end: a cursor came twice", raw=cursor)
            seen_cursors.add(cursor)

    async def _connection(self, connection_id: str) -> Reading | None:
        """The connection; None when Fivetran does not know it."""
        try:
            answer = await self._http.read("GET", f"/v1/connections/{connection_id}")
        except AuthError:
            raise
        except RejectedError as error:
            if error.code == "404":
                return None
            raise
        reading = read_connection(answer.object().get("data"), redact=self._redact)
        if reading.connection_id != connection_id:
            raise UnreadableError(
                f"Fivetran answered another connection than {connection_id!r}", raw=reading.connection_id
            )
        return reading

    async def _known(self, connection_id: str) -> Reading:
        reading = await self._connection(connection_id)
        if reading is None:
            raise RejectedError(
                f"Fivetran connection {connection_id!r} was not found: it does not exist, or the API key may not see "
                "it; correct `connection_id` or give the key's owner a role on its destination",
                code="404",
            )
        return reading

    async def _starts(self, trace: Trace, *, since: datetime, until: datetime) -> tuple[datetime, ...] | None:
        """When the syncs that can be ours began, by the history; None when the account has no history.

        Source: https://fivetran.com/docs/rest-api/api-reference/connections/retrieve-connection-sync-history
        """
        floor = max(since - _seconds(mapping.SKEW_S), until - _HISTORY_SPAN + _seconds(1.0))
        params: dict[str, str | int] = {
            "start_time": _utc(floor),
            "end_time": _utc(max(until, floor + _seconds(1.0))),
            "limit": _PAGE,
        }
        starts: list[datetime] = []
        seen_cursors: set[str] = set()
        while True:
            try:
                answer = await self._http.read(
                    "GET", f"/v1/connections/{trace.connection_id}/sync-history", params=params
                )
            except AuthError:
                raise
            except RejectedError as error:
                if error.code == "404":
                    return None
                raise
            page = read_page(answer.object())
            starts += read_starts(page.items)
            if page.next_cursor is None:
                return mapping.begun_after(trace, sorted(starts), since=since, until=until)
            if page.next_cursor in seen_cursors:
                raise UnreadableError("Fivetran's sync history does not end: a cursor came twice", raw=page.next_cursor)
            seen_cursors.add(page.next_cursor)
            params["cursor"] = page.next_cursor

    async def _add_history(self, refs: Sequence[ExternalRef], seen: dict[str, Observation], now: datetime) -> None:
        """Ask the history what stamps cannot say: when a finished sync began, and whether an unseen one ever did.

        Only an addition: no answer changes nothing. Bounded per poll, so that a thousand ends do not become a
        thousand requests.
        """
        left = _HISTORY_READS
        for ref in refs:
            observation = seen.get(ref.id)
            if observation is None or left == 0 or not _is_history_worth(observation):
                continue
            trace = Trace.of((observation.ref or ref).data)
            since = trace.triggered_at
            if since is None or trace.started_at is not None:
                continue
            left -= 1
            try:
                starts = await self._starts(trace, since=since, until=observation.ended_at or now)
            except IntegrationError:
                continue
            if starts and observation.state is ExternalState.SUCCEEDED:
                seen[ref.id] = mapping.with_start(observation, starts[-1])
            elif starts:
                seen[ref.id] = mapping.with_unseen_start(observation, ref, trace, starts[-1])


def _is_history_worth(seen: Observation) -> bool:
    if seen.state is ExternalState.SUCCEEDED:
        return True
    polls = seen.ref.data.get("idle_polls") if seen.ref is not None else None
    is_unseen = seen.state is ExternalState.QUEUED and seen.word == "scheduled"
    return is_unseen and isinstance(polls, int) and polls > 0 and polls % _ASK_HISTORY_EVERY == 0


def _by_connection(refs: Sequence[ExternalRef]) -> tuple[dict[str, list[ExternalRef]], UnreadableError | None]:
    """The refs by connection, and why some could not be read: one damaged ref must not blind the others."""
    mine: dict[str, list[ExternalRef]] = {}
    damage: UnreadableError | None = None
    for ref in refs:
        try:
            mine.setdefault(Trace.of(ref.data).connection_id, []).append(ref)
        except UnreadableError as error:
            damage = error
    return mine, damage


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _utc(stamp: datetime) -> str:
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
