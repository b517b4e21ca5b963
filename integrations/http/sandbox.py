"""A small job service over HTTP, with a ledger: for the demo, the contract checks, users' tests and the benchmark.

Plain ASGI without a framework, because the benchmark asks it about ten thousand runs. It is no kinder than real ones:
lists lag, keys are forgotten, cancelling takes time, answers can be late, and jobs can vanish.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from conductor.core.vendor import ExternalState, Json
from conductor.sdk import Clock, Faults, LedgerEntry, with_faults
from conductor.sdk.sandbox import AsgiApp

__all__ = ["HttpSandbox", "make_sandbox", "make_server"]

_LARGEST_BODY = 1_000_000
_MOST_IDS = 1000
_DEFAULT_WORDS: Mapping[ExternalState, str] = {
    ExternalState.QUEUED: "pending",
    ExternalState.RUNNING: "running",
    ExternalState.SUCCEEDED: "done",
    ExternalState.WARNED: "done_with_warnings",
    ExternalState.FAILED: "error",
    ExternalState.CANCELLED: "stopped",
}
_OUTCOMES = {state.value: state for state in _DEFAULT_WORDS if state.is_final}

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, Json]


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str, **more: Json) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Json] = {"error": {"code": code, "message": message}, **more}


class _Job:
    __slots__ = (
        "created",
        "created_text",
        "duration_s",
        "id",
        "is_forgotten",
        "key",
        "key_body",
        "name",
        "no",
        "outcome",
        "pinned",
        "stop_at",
        "tag",
    )

    def __init__(self, no: int, job_id: str, name: str, created: float, created_text: str) -> None:
        self.no = no
        self.id = job_id
        self.name = name
        self.created = created
        self.created_text = created_text
        self.duration_s = 0.0
        self.outcome = ExternalState.SUCCEEDED
        self.key = ""
        self.key_body = b""
        self.tag = ""
        self.pinned: str | None = None
        self.stop_at: float | None = None
        self.is_forgotten = False


class HttpSandbox:
    """The job service. All attributes may be changed while it runs.

    Attributes:
        id_prefix: Ids begin with it. A server that is started again and again takes a new one, as ids are given once.
        token: The bearer token that it accepts.
        duration_s: How long a job runs that does not say `duration_s` itself, in seconds.
        queue_s: How long a job is queued before it runs, in seconds.
        words: The service's words for our states; a harness or test may change them.
        stopping_word: The word while a cancel is under way.
        cancel_s: How long a cancel takes, in seconds.
        list_lag_s: How long a new job stays invisible in lists by time, in seconds (V11).
        read_lag_s: How long a new job stays invisible by id, in seconds (V8).
        answer_delay_s: Starts are accepted now and answered so much later, in seconds (V1, V19).
        is_deduping: `Idempotency-Key` (or `idempotency_key` in the body) starts one job per key.
        has_conflicts: A repeated key is answered 409 with the first job instead of 200 with it.
        key_ttl_s: How long a key is remembered, in seconds.
        max_running: More unfinished jobs than this are refused with 409 `busy`; None for no limit (V14).
        max_requests_per_s: More requests in a second are refused with 429; None for no limit (V4).
        page_size: The most jobs in one page of a list.
    """

    def __init__(self, clock: Clock) -> None:
        self.id_prefix = "j"
        self.token = "sandbox-http-2f61c9"  # noqa: S105 - opens nothing but this sandbox
        self.duration_s = 5.0
        self.queue_s = 0.0
        self.words: dict[ExternalState, str] = dict(_DEFAULT_WORDS)
        self.stopping_word = "stopping"
        self.cancel_s = 2.0
        self.list_lag_s = 0.0
        self.read_lag_s = 0.0
        self.answer_delay_s = 0.0
        self.is_deduping = True
        self.has_conflicts = False
        self.key_ttl_s = 86_400.0
        self.max_running: int | None = None
        self.max_requests_per_s: int | None = None
        self.page_size = 100
        self.faults = Faults()
        self.ledger: list[LedgerEntry] = []
        self.requests: dict[str, int] = {}
        self.app: AsgiApp = with_faults(self._serve, self.faults)
        self._clock = clock
        self._jobs: list[_Job] = []
        self._by_id: dict[str, _Job] = {}
        self._by_key: dict[str, _Job] = {}
        self._newest: dict[str, _Job] = {}
        self._second = (-1, 0)

    def connection(self, base_url: str) -> dict[str, object]:
        """Settings of a connection to this sandbox."""
        return {
            "base_url": base_url,
            "bearer": self.token,
            "check_path": "/account",
            "rate": {"requests": 1000, "per_s": 1, "burst": 1000},
        }

    def advance(self, scope: str, state: ExternalState, *, word: str = "") -> None:
        """Drive the newest job named `scope`; it stays there. `vanished` makes the service forget it (V8)."""
        job = self._newest[scope]
        if state is ExternalState.VANISHED and not word:
            job.is_forgotten = True
            return
        job.pinned = word or self.words.get(state, "zorbing")

    def forget(self, job_id: str) -> None:
        """Forget one job: by id it answers 404, and lists leave it out (V8)."""
        self._by_id[job_id].is_forgotten = True

    def job_ids(self) -> list[str]:
        """The ids of all jobs ever accepted, oldest first."""
        return [job.id for job in self._jobs]

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        body = await _body(receive)
        retry_after: tuple[tuple[bytes, bytes], ...] = ()
        try:
            self._admit(scope)
            status, answer = self._route(scope, body)
        except _RefusalError as refusal:
            status, answer = refusal.status, refusal.body
            retry_after = ((b"retry-after", b"1"),) if status == 429 else ()
        if self.answer_delay_s > 0 and scope["method"] == "POST" and scope["path"] == "/jobs":
            await self._clock.sleep(self.answer_delay_s)
        await _answer(send, status, answer, retry_after)

    def _admit(self, scope: MutableMapping[str, Any]) -> None:
        if self.max_requests_per_s is not None:
            second = int(self._clock.monotonic())
            count = self._second[1] + 1 if self._second[0] == second else 1
            self._second = (second, count)
            if count > self.max_requests_per_s:
                raise _RefusalError(429, "too_many_requests", "slow down")
        sent = _header(scope, b"authorization")
        if not hmac.compare_digest(sent, b"Bearer " + self.token.encode()):
            raise _RefusalError(401, "unauthorized", "the bearer token is missing or wrong")

    def _route(self, scope: MutableMapping[str, Any], body: bytes) -> Reply:
        method, path = scope["method"], scope["path"]
        parts = path.strip("/").split("/")
        match (method, *parts):
            case ("POST", "jobs"):
                self._count("POST /jobs")
                return self._start(scope, body)
            case ("GET", "jobs"):
                self._count("GET /jobs")
                return 200, self._list(dict(parse_qsl(scope["query_string"].decode("ascii", errors="replace"))))
            case ("GET", "jobs", job_id):
                self._count("GET /jobs/{id}")
                return 200, self._shown(self._known(job_id), self._now())
            case ("POST", "jobs", job_id, "cancel"):
                self._count("POST /jobs/{id}/cancel")
                return self._cancel(self._known(job_id))
            case ("GET", "jobs", job_id, "log"):
                self._count("GET /jobs/{id}/log")
                return 200, {"lines": [f"job {self._known(job_id).id} accepted", "step load: began"]}
            case ("GET", "account"):
                self._count("GET /account")
                return 200, {"account": "sandbox"}
            case _:
                raise _RefusalError(404, "not_found", f"no such path: {method} {path}")

    def _count(self, template: str) -> None:
        self.requests[template] = self.requests.get(template, 0) + 1

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _start(self, scope: MutableMapping[str, Any], raw: bytes) -> Reply:
        body = _object(raw)
        now = self._now()
        key = _header(scope, b"idempotency-key").decode("ascii", errors="replace") or str(
            body.get("idempotency_key", "")
        )
        if key and self.is_deduping:
            first = self._by_key.get(key)
            if first is not None and now - first.created <= self.key_ttl_s:
                return self._repeated(first, raw, now)
        if self.max_running is not None and self._running(now) >= self.max_running:
            raise _RefusalError(409, "busy", "too many jobs are running")
        job = self._accept(body, now)
        job.key, job.key_body = key, raw
        if key and self.is_deduping:
            self._by_key[key] = job
        self.ledger.append(LedgerEntry(at=self._clock.now(), scope=job.name, run=job.id, key=key or job.tag))
        return 201, self._shown(job, now)

    def _repeated(self, first: _Job, raw: bytes, now: float) -> Reply:
        if first.key_body != raw:
            raise _RefusalError(422, "key_reused", "this key came with another body before")
        if self.has_conflicts:
            raise _RefusalError(
                409, "exists", "a job with this key exists", existing={"id": first.id, "key": first.key}
            )
        return 200, self._shown(first, now)

    def _accept(self, body: Mapping[str, Json], now: float) -> _Job:
        duration_s, outcome = body.get("duration_s", self.duration_s), body.get("outcome", "succeeded")
        if isinstance(duration_s, bool) or not isinstance(duration_s, int | float) or duration_s < 0:
            raise _RefusalError(400, "invalid", "duration_s must be a number of seconds")
        if outcome not in _OUTCOMES:
            raise _RefusalError(400, "invalid", f"outcome must be one of {', '.join(_OUTCOMES)}")
        no = len(self._jobs) + 1
        job = _Job(no, f"{self.id_prefix}{no}", str(body.get("name", "default")), now, self._clock.now().isoformat())
        job.duration_s = float(duration_s)
        job.outcome = _OUTCOMES[str(outcome)]
        job.tag = str(body.get("tag", ""))
        self._jobs.append(job)
        self._by_id[job.id] = job
        self._newest[job.name] = job
        return job

    def _running(self, now: float) -> int:
        ended = {word for state, word in self.words.items() if state.is_final}
        return sum(1 for job in self._jobs if not job.is_forgotten and self._word(job, now) not in ended)

    def _known(self, job_id: str) -> _Job:
        job = self._by_id.get(unquote(job_id))
        if job is None or job.is_forgotten or self._now() < job.created + self.read_lag_s:
            raise _RefusalError(404, "not_found", f"there is no job {job_id[:60]}")
        return job

    def _cancel(self, job: _Job) -> Reply:
        now = self._now()
        if self._word(job, now) in {word for state, word in self.words.items() if state.is_final}:
            raise _RefusalError(409, "ended", "the job has ended already")
        job.pinned = None
        job.stop_at = now + self.cancel_s if job.stop_at is None else job.stop_at
        return 202, self._shown(job, now)

    def _word(self, job: _Job, now: float) -> str:
        if job.pinned is not None:
            return job.pinned
        if job.stop_at is not None:
            return self.words[ExternalState.CANCELLED] if now >= job.stop_at else self.stopping_word
        runs_at = job.created + self.queue_s
        if now < runs_at:
            return self.words[ExternalState.QUEUED]
        return self.words[ExternalState.RUNNING if now < runs_at + job.duration_s else job.outcome]

    def _shown(self, job: _Job, now: float) -> dict[str, Json]:
        word = self._word(job, now)
        shown: dict[str, Json] = {
            "id": job.id,
            "state": word,
            "name": job.name,
            "tag": job.tag,
            "created_at": job.created_text,
            "url": f"/ui/jobs/{job.id}",
        }
        if word == self.words[ExternalState.RUNNING]:
            span = max(job.duration_s, 0.001)
            shown["progress"] = round(min(max(now - job.created - self.queue_s, 0.0) / span, 0.99), 3)
        elif word == self.words[ExternalState.SUCCEEDED]:
            shown["result"] = {"rows": 1000 + job.no}
        elif word in {self.words[ExternalState.FAILED], self.words[ExternalState.WARNED]}:
            shown["message"] = "step load: 3 rows were rejected"
        return shown

    def _list(self, query: Mapping[str, str]) -> dict[str, Json]:
        now = self._now()
        if "ids" in query:
            ids = query["ids"].split(",")
            if len(ids) > _MOST_IDS:
                raise _RefusalError(400, "invalid", f"at most {_MOST_IDS} ids")
            found = (self._by_id.get(job_id) for job_id in ids)
            return {
                "jobs": [
                    self._shown(job, now)
                    for job in found
                    if job is not None and not job.is_forgotten and now >= job.created + self.read_lag_s
                ]
            }
        return self._page(query, now)

    def _page(self, query: Mapping[str, str], now: float) -> dict[str, Json]:
        """Newest first, by a cursor that stays true while new jobs come (V12)."""
        since, at = _since(query.get("since")), len(self._jobs)
        if (cursor := query.get("cursor", "")).isdecimal():
            at = min(int(cursor[:12]), at)
        shown: list[Json] = []
        while at > 0 and len(shown) < self.page_size:
            job = self._jobs[at - 1]
            if job.created < since:
                return {"jobs": shown, "next": None}
            at -= 1
            if not job.is_forgotten and now >= job.created + self.list_lag_s:
                shown.append(self._shown(job, now))
        return {"jobs": shown, "next": str(at) if at > 0 else None}


def make_sandbox(clock: Clock) -> HttpSandbox:
    """A fresh job service on `clock`. Its `app` is an ASGI app: for uvicorn, or for a transport in this process."""
    return HttpSandbox(clock)


def make_server(clock: Clock) -> HttpSandbox:
    """As `make_sandbox`, with ids that no earlier server on this machine has given."""
    sandbox = HttpSandbox(clock)
    sandbox.id_prefix = f"j{int(clock.now().timestamp()):x}-"
    return sandbox


def _since(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise _RefusalError(400, "invalid", "since must be an ISO 8601 time") from error
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()


def _object(raw: bytes) -> dict[str, Json]:
    try:
        value = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise _RefusalError(400, "invalid", "the body is not JSON") from error
    if not isinstance(value, dict):
        raise _RefusalError(400, "invalid", "the body is not a JSON object")
    return value


def _header(scope: MutableMapping[str, Any], wanted: bytes) -> bytes:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body") and len(body) <= _LARGEST_BODY:
        message = await receive()
        body += message.get("body", b"")
    return body


async def _answer(send: Send, status: int, answer: Json, more: tuple[tuple[bytes, bytes], ...]) -> None:
    body = json.dumps(answer, separators=(",", ":")).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
