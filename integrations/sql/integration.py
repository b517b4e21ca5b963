"""Runs gates: one read-only query each, in a worker thread, inside the poll that decides it.

A start sends nothing. What cannot be asked (no connection, a locked file) decides nothing and is asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from conductor.core.vendor import (
    Absent,
    Baseline,
    CancelSupport,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    FindAnswer,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Request,
)
from conductor.sdk import (
    Context,
    ErrorClass,
    ErrorInfo,
    IntegrationError,
    RefusedError,
    RejectedError,
    UnreadableError,
)
from integrations.sql import mapping
from integrations.sql.config import Connection, GateSettings
from integrations.sql.database import Database, QueryResult, Running, StatementError

__all__ = ["SqlIntegration", "capabilities"]


def capabilities(settings: Mapping[str, Json]) -> Capabilities:
    """A gate starts nothing anywhere, so it may be repeated at will."""
    del settings
    return Capabilities(
        correlation=Correlation.NONE,
        delivery=Delivery.AT_LEAST_ONCE,
        cancel=CancelSupport.NONE,
        batch_size=1,
        poll_floor_s=5.0,
        sends_nothing=True,
        maturity="real server",
    )


class SqlIntegration:
    """One database."""

    def __init__(self, context: Context, connection: Connection) -> None:
        url = connection.address
        self._context = context
        self._connection = connection
        self._database = Database(
            url,
            folder=context.project_dir,
            connect_timeout_s=connection.connect_timeout_s,
            has_external_files=connection.external_files,
        )
        self._slots = asyncio.Semaphore(connection.max_queries)
        context.redact.add(url)
        if self._database.password is not None:
            context.redact.add(self._database.password)

    async def prepare(self, request: Request) -> Baseline:
        """Nothing: a gate needs no baseline."""
        del request
        return Baseline()

    async def start(self, request: Request) -> ExternalRef:
        """Freeze the question. Nothing is sent.

        Raises:
            RejectedError: The settings are not a question.
        """
        try:
            settings = GateSettings.model_validate(request.settings)
        except ValueError as error:
            raise RejectedError(f"{self._context.connection}: the gate cannot be asked: {error}") from error
        frozen = settings.model_dump(mode="json", exclude_defaults=True)
        return ExternalRef(id=request.key, data={"gate": frozen})

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """Ask each question and decide it, within its `timeout_s`."""
        seen: dict[str, Observation] = {}
        problem: IntegrationError | None = None
        for ref in refs:
            try:
                seen[ref.id] = await self._decided(ref)
            except IntegrationError as error:
                problem = error
        if problem is not None and not seen:
            raise problem
        return seen

    async def _decided(self, ref: ExternalRef) -> Observation:
        settings = _settings_of(ref)
        async with self._slots:
            began = self._context.clock.now()
            try:
                result = await self._ask(settings.query, keep_rows=settings.max_rows, timeout_s=settings.timeout_s)
                seen = mapping.judge(settings, result)
            except StatementError as error:
                seen = mapping.failed(error.info)
            except IntegrationError as error:
                self._named(error)
                raise
        return self._cleaned(replace(seen, started_at=began, ended_at=self._context.clock.now()))

    async def _ask(self, sql: str, *, keep_rows: int, timeout_s: float) -> QueryResult:
        """Run one query in a worker thread; when the limit passes or we are cancelled, it is interrupted and left."""
        running = Running()
        asked = asyncio.ensure_future(
            asyncio.to_thread(self._database.query, sql, keep_rows=keep_rows, timeout_s=timeout_s, running=running)
        )
        asked.add_done_callback(_forget)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(asked)
        except TimeoutError:
            if not running.is_connected:
                raise RefusedError(f"the database did not let us in within {timeout_s:g} s") from None
            raise StatementError(
                ErrorInfo(
                    error_class=ErrorClass.TIMEOUT,
                    message=f"the query took longer than {timeout_s:g} s: make it cheaper or raise timeout_s",
                )
            ) from None
        finally:
            running.stop()

    def _named(self, error: IntegrationError) -> IntegrationError:
        error.connection = self._context.connection
        error.operation = "poll"
        error.args = (self._context.redact(f"{self._context.connection}: {error.args[0]}"), *error.args[1:])
        return error

    def _cleaned(self, seen: Observation) -> Observation:
        redact, error = self._context.redact, seen.error
        if error is not None:
            detail = redact(error.detail) if error.detail is not None else None
            error = replace(error, message=redact(error.message)[:4000], detail=detail)
        return replace(seen, message=redact(seen.message or "")[:4000] or None, error=error)

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        """A gate starts nothing: it may simply be asked again."""
        del request, baseline
        return Absent(reason="a gate starts nothing, so nothing can be lost")

    async def cancel(self, ref: ExternalRef) -> None:
        """Nothing: no run exists outside the poll that decides it."""
        del ref

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The question that was asked."""
        lines = _settings_of(ref).query.splitlines()
        return LogExcerpt(
            lines=tuple(self._context.redact(line) for line in lines[:200]), is_truncated=len(lines) > 200
        )

    async def check(self) -> Health:
        """Connect and ask for nothing."""
        try:
            await self._ask("SELECT 1", keep_rows=1, timeout_s=float(self._connection.connect_timeout_s))
        except StatementError as error:
            return Health(is_ok=False, message=self._context.redact(error.info.message))
        except IntegrationError as error:
            return Health(is_ok=False, message=f"{self._named(error)}; check the url, the network and the permissions")
        return Health(is_ok=True, message=f"{self._database.dialect}: connected, read-only")


def _settings_of(ref: ExternalRef) -> GateSettings:
    try:
        return GateSettings.model_validate(ref.data.get("gate"))
    except ValueError as error:
        raise UnreadableError(
            f"gate {ref.id}: its kept question cannot be read; run the node again", raw=str(error)
        ) from error


def _forget(asked: asyncio.Future[QueryResult]) -> None:
    """Take note of how a query that nobody waits for ended."""
    if not asked.cancelled():
        asked.exception()
