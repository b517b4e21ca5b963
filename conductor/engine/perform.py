"""Performs one effect by one call to an integration and turns whatever comes back into an event. Never raises.

The table of reactions lives here: what kind of exception, at which point, means what to the attempt.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from conductor.core.errors import (
    AuthError,
    BusyError,
    ErrorClass,
    ErrorInfo,
    IntegrationError,
    RefusedError,
    RejectedError,
)
from conductor.core.events import (
    Accepted,
    AttemptEvent,
    Busy,
    CancelAnswered,
    CannotSee,
    Lost,
    NotSeen,
    Prepared,
    PrepareFailed,
    Refused,
    Rejected,
    Seen,
)
from conductor.core.keys import canonical
from conductor.core.plan import NodePlan
from conductor.core.run import Attempt, Run
from conductor.core.vendor import Absent, Baseline, ExternalRef, Found, Observation, Request
from conductor.engine.checked import expect, expect_found, expect_ref, expect_seen
from conductor.engine.connections import Connections
from conductor.sdk.redact import Redactor

__all__ = ["Performer", "Polled", "is_news", "request_of"]

_MOST_OUTPUT_CHARS = 1_000_000
_LONGEST_REFUSAL_S = 3600.0
_log = structlog.get_logger("conductor.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What one poll request brought.

    Attributes:
        seen: By external id; empty after an error.
        error: Why nothing was learnt; None after an answer.
        retry_after_s: How long the vendor asked us to wait.
    """

    seen: Mapping[str, Observation]
    error: str | None = None
    retry_after_s: float | None = None


def request_of(run: Run, plan: NodePlan, attempt: Attempt) -> Request:
    """The frozen request of an attempt."""
    return Request(
        key=attempt.key,
        operation=plan.operation,
        settings=attempt.settings,
        pipeline=run.plan.name,
        node=plan.id,
        run_id=run.id,
        attempt_no=attempt.no,
        baseline=attempt.baseline,
        permit_at=attempt.permit_at,
        resume=attempt.resume,
    )


class Performer:
    """Calls integrations on behalf of the engine."""

    def __init__(self, connections: Connections, redact: Redactor) -> None:
        self._connections = connections
        self._redact = redact

    async def prepare(self, run: Run, plan: NodePlan, attempt: Attempt) -> AttemptEvent:
        """Read the baseline."""
        node, no = plan.id, attempt.no
        try:
            integration = self._connections.integration(plan.connection)
            baseline = expect(Baseline, await integration.prepare(request_of(run, plan, attempt)))
        except RejectedError as error:
            self._note_auth(plan.connection, error)
            return PrepareFailed(node=node, attempt_no=no, error=self._info(error), is_definite=True)
        except RefusedError as error:
            info, retry_after_s = self._info(error), _bounded_s(error.retry_after_s)
            return PrepareFailed(node=node, attempt_no=no, error=info, is_definite=False, retry_after_s=retry_after_s)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outer edge: no baseline was read
            _reraise_own(error)
            return PrepareFailed(node=node, attempt_no=no, error=self._info(error), is_definite=False)
        return Prepared(node=node, attempt_no=no, baseline=baseline)

    async def start(self, run: Run, plan: NodePlan, attempt: Attempt) -> AttemptEvent:
        """Send the start, once."""
        node, no = plan.id, attempt.no
        try:
            integration = self._connections.integration(plan.connection)
        except IntegrationError as error:  # nothing was sent: it could not even be built
            return Refused(node=node, attempt_no=no, error=self._info(error), retry_after_s=30.0)
        try:
            ref = expect_ref(await integration.start(request_of(run, plan, attempt)))
        except BusyError as error:
            return Busy(node=node, attempt_no=no, error=self._info(error), running=error.running)
        except RefusedError as error:
            info, retry_after_s = self._info(error), _bounded_s(error.retry_after_s)
            return Refused(node=node, attempt_no=no, error=info, retry_after_s=retry_after_s)
        except RejectedError as error:
            self._note_auth(plan.connection, error)
            return Rejected(node=node, attempt_no=no, error=self._info(error))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outer edge: it may have started
            _reraise_own(error)
            return Lost(node=node, attempt_no=no, error=self._info(error))
        return Accepted(node=node, attempt_no=no, ref=ref)

    async def find(self, run: Run, plan: NodePlan, attempt: Attempt) -> AttemptEvent:
        """Look the start up. An error while looking is "cannot see"."""
        node, no = plan.id, attempt.no
        try:
            integration = self._connections.integration(plan.connection)
            answer = expect_found(await integration.find(request_of(run, plan, attempt), attempt.baseline))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outer edge: nothing was seen
            _reraise_own(error)
            return CannotSee(node=node, attempt_no=no, reason=self._info(error).message)
        if isinstance(answer, Found):
            return Seen(node=node, attempt_no=no, ref=answer.ref, is_inferred=answer.is_inferred)
        if isinstance(answer, Absent):
            return NotSeen(node=node, attempt_no=no, reason=self._redact(answer.reason))
        return CannotSee(node=node, attempt_no=no, reason=self._redact(answer.reason))

    async def cancel(self, plan: NodePlan, attempt: Attempt) -> AttemptEvent:
        """Ask the vendor to stop the run."""
        assert attempt.ref is not None
        try:
            await self._connections.integration(plan.connection).cancel(attempt.ref)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outer edge: the vendor is asked again
            _reraise_own(error)
            return CancelAnswered(node=plan.id, attempt_no=attempt.no, error=self._info(error))
        return CancelAnswered(node=plan.id, attempt_no=attempt.no)

    async def poll(self, connection: str, refs: Sequence[ExternalRef]) -> Polled:
        """See how runs are doing."""
        try:
            seen = expect_seen(await self._connections.integration(connection).poll(refs))
            return Polled(seen={ref: self._capped(one) for ref, one in seen.items()})
        except RefusedError as error:
            return Polled(seen={}, error=self._info(error).message, retry_after_s=_bounded_s(error.retry_after_s))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the outer edge: losing sight is not failing
            _reraise_own(error)
            self._note_auth(connection, error)
            return Polled(seen={}, error=self._info(error).message)

    @staticmethod
    def _capped(seen: Observation) -> Observation:
        """An observation whose outputs fit into a row; too many are left out, and the message says so."""
        if not seen.outputs or len(canonical(dict(seen.outputs))) <= _MOST_OUTPUT_CHARS:
            return seen
        words = f"its outputs are left out: they are larger than {_MOST_OUTPUT_CHARS} characters"
        return replace(seen, outputs={}, message=f"{seen.message}; {words}" if seen.message else words)

    def _note_auth(self, connection: str, error: BaseException) -> None:
        if isinstance(error, AuthError):
            self._connections.close(connection, str(error))

    def _info(self, error: BaseException) -> ErrorInfo:
        if isinstance(error, IntegrationError):
            info = error.info()
            return ErrorInfo(
                error_class=info.error_class, message=self._redact(info.message), code=info.code, link=info.link
            )
        _log.error("an integration raised what it must not", error=type(error).__name__, exc_info=error)
        words = f"{type(error).__name__}: {error}"
        return ErrorInfo(error_class=ErrorClass.UNKNOWN, message=self._redact(words)[:4000])


def _reraise_own(error: BaseException) -> None:
    """Pass on a cancellation of this very task; one that an integration let escape is an error like any other."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error


def _bounded_s(retry_after_s: float | None) -> float | None:
    """What `RefusedError` promises, held also where an integration does not: within [1, 3600], or None."""
    if retry_after_s is None or math.isnan(retry_after_s):
        return None
    return min(max(retry_after_s, 1.0), _LONGEST_REFUSAL_S)


def is_news(attempt: Attempt, seen: Observation) -> bool:
    """Whether an observation changes anything about the attempt."""
    return not (
        seen.state is attempt.seen_state
        and seen.word == attempt.seen_word
        and seen.marker == attempt.marker
        and seen.progress == attempt.progress
        and seen.message == attempt.seen_message
        and (seen.ref is None or seen.ref == attempt.ref)
        and (seen.started_at is None or seen.started_at == attempt.vendor_started_at)
    )
