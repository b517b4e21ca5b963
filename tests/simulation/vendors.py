"""Vendors as they are: a ledger of what they accepted, and every sin of the failure model, on a script or by a seed.

A vendor implements the integration protocol itself, so that no HTTP stands between a fault and the engine.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from conductor.core.errors import (
    AmbiguousError,
    AuthError,
    BusyError,
    ErrorClass,
    ErrorInfo,
    IntegrationError,
    RefusedError,
    RejectedError,
)
from conductor.core.vendor import (
    Absent,
    Baseline,
    CancelSupport,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    FindAnswer,
    FindUnknown,
    Found,
    Health,
    LogExcerpt,
    Observation,
    Request,
)
from tests.simulation.clock import SimClock

__all__ = ["BLIND", "KEYED", "SENSOR", "TAGGED", "WINDOWED", "FakeVendor", "Job", "Sin"]

KEYED = Capabilities(correlation=Correlation.KEY, delivery=Delivery.EFFECTIVELY_ONCE, batch_size=100)
TAGGED = Capabilities(correlation=Correlation.TAG, delivery=Delivery.PREFER_LOOKUP, batch_size=100)
WINDOWED = Capabilities(
    correlation=Correlation.WINDOW,
    delivery=Delivery.PREFER_LOOKUP,
    needs_baseline=True,
    is_exclusive=True,
    batch_size=100,
)
BLIND = Capabilities(correlation=Correlation.NONE, delivery=Delivery.AT_MOST_ONCE, batch_size=100)
SENSOR = Capabilities(
    correlation=Correlation.NONE,
    delivery=Delivery.AT_LEAST_ONCE,
    cancel=CancelSupport.NONE,
    sends_nothing=True,
    batch_size=100,
)


class Sin(StrEnum):
    """What a vendor, or the wire to it, does to one call."""

    NONE = "none"
    LOSE_REQUEST = "lose_request"
    LOSE_ANSWER = "lose_answer"
    ERROR_AFTER = "error_after"
    RAISE_AFTER = "raise_after"
    """The integration itself trips over the answer of a start that was accepted."""
    REFUSE = "refuse"
    REJECT = "reject"
    AUTH = "auth"
    BUSY = "busy"
    HANG = "hang"
    """The work is done and the call never comes back."""
    FAIL = "fail"
    """A read or a cancel fails."""
    RAISE = "raise"
    """The integration raises what it must not."""
    CANCELLED = "cancelled"
    """The integration lets a cancellation of its own escape."""


@dataclass(slots=True, kw_only=True)
class Job:
    """One run at the vendor.

    Attributes:
        id: The vendor's id.
        connection: Where.
        scope: The object that it works on.
        key: Our key.
        run_id: Our run ...
        node: ... node ...
        attempt_no: ... and attempt; empty for somebody else's.
        at: When it was accepted.
        ends_at: When it will have ended by itself.
        outcome: How.
        is_forgotten: The vendor knows it no more.
        strange_until: Until then the vendor uses a word that nobody knows.
        is_cancelled: It was stopped on request.
    """

    id: str
    connection: str
    scope: str
    key: str
    at: datetime
    ends_at: datetime
    run_id: str = ""
    node: str = ""
    attempt_no: int = 0
    outcome: ExternalState = ExternalState.SUCCEEDED
    is_forgotten: bool = False
    strange_until: datetime | None = None
    is_cancelled: bool = False

    def is_active(self, now: datetime) -> bool:
        return not self.is_forgotten and now < self.ends_at

    def state(self, now: datetime) -> ExternalState:
        if now < self.ends_at:
            is_strange = self.strange_until is not None and now < self.strange_until
            return ExternalState.UNRECOGNISED if is_strange else ExternalState.RUNNING
        return ExternalState.CANCELLED if self.is_cancelled else self.outcome


@dataclass(slots=True, kw_only=True)
class Plan:
    """How the next jobs go. Functions, so that a test scripts them and a universe draws them."""

    duration_s: Callable[[Request], float] = field(default=lambda _: 10.0)
    outcome: Callable[[Request], ExternalState] = field(default=lambda _: ExternalState.SUCCEEDED)
    latency_s: Callable[[str], float] = field(default=lambda _: 0.0)
    sin: Callable[[str], Sin] = field(default=lambda _: Sin.NONE)
    strange_s: Callable[[Request], float] = field(default=lambda _: 0.0)
    vanishes: Callable[[Request], bool] = field(default=lambda _: False)
    obeys_cancel: Callable[[str], bool] = field(default=lambda _: True)


class FakeVendor:
    """One account. It outlives every life of the engine; `ledger` is the truth.

    Attributes:
        ledger: Every accepted start, in order.
        sins: Scripted sins by call, taken first in, first out, before the plan's own.
        calls: How many calls came, by kind.
        batches: The sizes of the polls.
        looked: How often each run was looked at.
        lag_s: How long a new job stays out of lists and reads.
        retry_after_s: What a refusal asks for.
        key_ttl_s: How long a key is remembered.
        on_call: Told the kind of each call before anything else.
        is_healthy: What a check says.
    """

    def __init__(self, connection: str, capabilities: Capabilities, clock: SimClock) -> None:
        self.connection = connection
        self.capabilities = capabilities
        self.clock = clock
        self.plan = Plan()
        self.ledger: list[Job] = []
        self.sins: dict[str, deque[Sin]] = {}
        self.calls: Counter[str] = Counter()
        self.batches: list[int] = []
        self.looked: Counter[str] = Counter()
        self.lag_s = 0.0
        self.retry_after_s: float | None = 7.0
        self.key_ttl_s = capabilities.key_ttl_s + 300.0
        self.on_call: Callable[[str], None] = lambda _: None
        self.on_accept: Callable[[Job], None] = lambda _: None
        self.is_healthy = True
        self.watched: dict[str, tuple[datetime, Request]] = {}
        self._by_id: dict[str, Job] = {}
        self._by_key: dict[str, Job] = {}

    # --- what a test says --------------------------------------------------------------------------------------------

    def will(self, call: str, *sins: Sin) -> None:
        """The next calls of this kind go like that."""
        self.sins.setdefault(call, deque()).extend(sins)

    def job(self, node: str, *, run_id: str | None = None) -> Job:
        """The newest job of a node."""
        return [job for job in self.ledger if job.node == node and run_id in {None, job.run_id}][-1]

    def finish(self, node: str, outcome: ExternalState = ExternalState.SUCCEEDED) -> None:
        """The newest job of a node ends now."""
        job = self.job(node)
        job.outcome, job.ends_at = outcome, self.clock.true()

    def foreign(self, scope: str, *, duration_s: float) -> Job:
        """Somebody else starts something."""
        now = self.clock.true()
        job = Job(
            id=f"{self.connection}-x{len(self._by_id)}",
            connection=self.connection,
            scope=scope,
            key="",
            at=now,
            ends_at=now + timedelta(seconds=duration_s),
        )
        self._by_id[job.id] = job
        return job

    def active(self) -> list[Job]:
        """Our jobs that are running there right now."""
        now = self.clock.true()
        return [job for job in self.ledger if job.is_active(now)]

    # --- the protocol ------------------------------------------------------------------------------------------------

    async def prepare(self, request: Request) -> Baseline:
        await self._read("prepare")
        scope = _scope(request)
        now = self.clock.true()
        running = [job for job in self._by_id.values() if job.scope == scope and scope and job.is_active(now)]
        ref = ExternalRef(id=running[-1].id) if running else None
        ids = sorted(job.id for job in self._by_id.values() if job.scope == scope)
        return Baseline(data={"ids": list(ids)}, is_busy=bool(running), running=ref)

    async def start(self, request: Request) -> ExternalRef:
        sin = self._sin("start")
        await self._on_the_wire("start")
        match sin:
            case Sin.LOSE_REQUEST:
                raise AmbiguousError("the connection broke")
            case Sin.REFUSE:
                raise RefusedError("slow down", retry_after_s=self.retry_after_s, error_class=ErrorClass.QUOTA)
            case Sin.REJECT:
                raise RejectedError("no such table", error_class=ErrorClass.TRANSIENT)
            case Sin.AUTH:
                raise AuthError("the token was refused")
            case Sin.BUSY:
                # Whose run that is, the vendor does not care: it may be another node's.
                newest = self.ledger[-1:] if self.capabilities.correlation is not Correlation.NONE else []
                running = ExternalRef(id=newest[0].id) if newest else None
                raise BusyError("something else is running there", running=running)
            case _:
                job = self._accept(request)
        if sin is Sin.HANG:
            await asyncio.get_running_loop().create_future()
        await self._on_the_wire("answer")
        match sin:
            case Sin.LOSE_ANSWER:
                raise AmbiguousError("the answer was lost")
            case Sin.ERROR_AFTER:
                raise AmbiguousError("HTTP 503", code="503")
            case Sin.RAISE_AFTER | Sin.RAISE:
                raise ValueError("not the answer that I know")
            case Sin.CANCELLED:
                raise asyncio.CancelledError
            case _:
                return ExternalRef(id=job.id, link=f"https://vendor.example/{job.id}")

    def _accept(self, request: Request) -> Job:
        now = self.clock.true()
        if self.capabilities.sends_nothing:
            return self._watch(request, now)
        if self.capabilities.correlation is Correlation.KEY:
            first = self._by_key.get(request.key)
            if first is not None and now <= first.at + timedelta(seconds=self.key_ttl_s):
                return first
        strange_s = self.plan.strange_s(request)
        job = Job(
            id=f"{self.connection}-{len(self._by_id) + 1}",
            connection=self.connection,
            scope=_scope(request),
            key=request.key,
            run_id=request.run_id,
            node=request.node,
            attempt_no=request.attempt_no,
            at=now,
            ends_at=now + timedelta(seconds=self.plan.duration_s(request)),
            outcome=self.plan.outcome(request),
            is_forgotten=self.plan.vanishes(request),
            strange_until=now + timedelta(seconds=strange_s) if strange_s else None,
        )
        self.ledger.append(job)
        self._by_id[job.id] = job
        self._by_key[request.key] = job
        self.on_accept(job)
        return job

    def _watch(self, request: Request, now: datetime) -> Job:
        ends_at = now + timedelta(seconds=self.plan.duration_s(request))
        job = Job(
            id=f"{self.connection}-{request.key}",
            connection=self.connection,
            scope="",
            key=request.key,
            run_id=request.run_id,
            node=request.node,
            attempt_no=request.attempt_no,
            at=now,
            ends_at=ends_at,
            outcome=self.plan.outcome(request),
        )
        self._by_id[job.id] = job
        self.watched[request.key] = (ends_at, request)
        return job

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        assert refs, "a poll of nothing"
        assert len(refs) <= self.capabilities.batch_size, "more refs than one call takes"
        self.batches.append(len(refs))
        self.looked.update(ref.id for ref in refs)
        await self._read("poll")
        now = self.clock.true()
        seen: dict[str, Observation] = {}
        for ref in refs:
            job = self._by_id.get(ref.id)
            if job is None or job.is_forgotten:
                seen[ref.id] = Observation(state=ExternalState.VANISHED)
            elif now >= job.at + timedelta(seconds=self.lag_s) or now >= job.ends_at:
                seen[ref.id] = _observation(job, now)
        return seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        await self._read("find")
        visible_to = self.clock.true() - timedelta(seconds=self.lag_s)
        listed = [job for job in self._by_id.values() if job.at <= visible_to and not job.is_forgotten]
        match self.capabilities.correlation:
            case Correlation.KEY | Correlation.TAG:
                ours = [job for job in listed if job.key == request.key]
                return Found(ref=ExternalRef(id=ours[0].id)) if ours else Absent(reason="not in the list")
            case Correlation.WINDOW:
                assert baseline is not None, "a look-up by time without its baseline"
                known = baseline.data["ids"]
                assert isinstance(known, list)
                new = [job for job in listed if job.scope == _scope(request) and job.id not in known]
                if len(new) > 1:
                    return FindUnknown(reason="two candidates")
                return Found(ref=ExternalRef(id=new[0].id), is_inferred=True) if new else Absent()
            case Correlation.NONE:
                return FindUnknown(reason="there is no list")

    async def cancel(self, ref: ExternalRef) -> None:
        sin = self._sin("cancel")
        await self._on_the_wire("cancel")
        if sin is not Sin.NONE:
            raise IntegrationError("HTTP 500 on cancel")
        now = self.clock.true()
        job = self._by_id.get(ref.id)
        if job is not None and now < job.ends_at and self.plan.obeys_cancel(job.id):
            job.ends_at, job.is_cancelled = now + timedelta(seconds=1), True

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        return LogExcerpt()

    async def check(self) -> Health:
        await self._read("check")
        return Health(is_ok=self.is_healthy, message="as told")

    # --- the wire ----------------------------------------------------------------------------------------------------

    def _sin(self, call: str) -> Sin:
        self.calls[call] += 1
        scripted = self.sins.get(call)
        return scripted.popleft() if scripted else self.plan.sin(call)

    async def _on_the_wire(self, call: str) -> None:
        self.on_call(call)
        await self.clock.sleep(self.plan.latency_s(call))

    async def _read(self, call: str) -> None:
        sin = self._sin(call)
        await self._on_the_wire(call)
        match sin:
            case Sin.NONE:
                return
            case Sin.AUTH:
                raise AuthError("the token was refused")
            case Sin.REFUSE:
                raise RefusedError("slow down", retry_after_s=self.retry_after_s, error_class=ErrorClass.QUOTA)
            case Sin.RAISE:
                raise ValueError("not the answer that I know")
            case Sin.CANCELLED:
                raise asyncio.CancelledError
            case Sin.HANG:
                await asyncio.get_running_loop().create_future()
            case _:
                raise IntegrationError("HTTP 502")


def _scope(request: Request) -> str:
    return str(request.settings.get("scope", ""))


def _observation(job: Job, now: datetime) -> Observation:
    state = job.state(now)
    error = None
    if state is ExternalState.FAILED:
        error = ErrorInfo(error_class=ErrorClass.TRANSIENT, message="the worker was lost")
    return Observation(state=state, word=state.value, error=error, outputs={"job": job.id} if state.is_final else {})
