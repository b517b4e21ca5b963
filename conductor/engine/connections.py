"""The connections in use: each integration is built once, lazily, with its own HTTP client and request budget.

A connection whose credentials were refused is closed: nothing is started on it until a check succeeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from conductor.core.errors import ConductorError, IntegrationError
from conductor.core.vendor import Health
from conductor.sdk.classify import Phase
from conductor.sdk.clock import Clock
from conductor.sdk.http import Http, HttpSettings
from conductor.sdk.limits import RateLimit, TokenBucket
from conductor.sdk.plugin import Context, Integration
from conductor.sdk.redact import Redactor

__all__ = ["Connections", "Opened"]

_RECHECK_S = 60.0
_RETIRED_FOR_S = 900.0
"""Longer than any request takes."""
_log = structlog.get_logger("conductor.connections")


@dataclass(slots=True, kw_only=True)
class Opened:
    """A connection in use.

    Attributes:
        integration: The vendor behind it.
        buckets: Its request budgets.
        clients: Its HTTP clients.
    """

    integration: Integration
    buckets: list[TokenBucket]
    clients: list[Http]

    def wait_s(self) -> float:
        """How long the next request would wait for the budget, in seconds."""
        return max((bucket.wait_s() for bucket in self.buckets), default=0.0)


@dataclass(slots=True, kw_only=True)
class _Closed:
    why: str
    since_s: float
    recheck_at_s: float


class Connections:
    """All connections of a project."""

    def __init__(
        self,
        *,
        build: Callable[[str, Context], Integration],
        clock: Clock,
        redact: Redactor,
        state_dir: Path,
        project_dir: Path,
    ) -> None:
        self._build = build
        self._clock = clock
        self._redact = redact
        self._state_dir = state_dir
        self._project_dir = project_dir
        self._opened: dict[str, Opened] = {}
        self._closed: dict[str, _Closed] = {}
        self._retired: list[tuple[float, Http]] = []
        self._is_checking = False
        self.requests: Counter[tuple[str, str]] = Counter()

    def open(self, name: str) -> Opened | None:
        """The connection, built if need be; None (and closed) when it cannot be built."""
        found = self._opened.get(name)
        if found is not None:
            return found
        try:
            made = self._make(name)
        except Exception as error:  # noqa: BLE001 - the outer edge: an integration's own code builds it
            self.close(name, _words(error))
            return None
        self._opened[name] = made
        return made

    def integration(self, name: str) -> Integration:
        """The integration behind a connection.

        Raises:
            IntegrationError: It cannot be built; the reason is in the message.
        """
        opened = self.open(name)
        if opened is None:
            raise IntegrationError(self._closed[name].why, connection=name)
        return opened.integration

    def _make(self, name: str) -> Opened:
        buckets: list[TokenBucket] = []
        clients: list[Http] = []

        def http(settings: HttpSettings, limit: RateLimit) -> Http:
            bucket = TokenBucket(limit, self._clock)
            client = Http(
                connection=name,
                settings=settings,
                clock=self._clock,
                bucket=bucket,
                redact=self._redact,
                on_request=self._count,
            )
            buckets.append(bucket)
            clients.append(client)
            return client

        context = Context(
            connection=name,
            clock=self._clock,
            redact=self._redact,
            state_dir=self._state_dir,
            project_dir=self._project_dir,
            http=http,
        )
        return Opened(integration=self._build(name, context), buckets=buckets, clients=clients)

    def _count(self, connection: str, phase: Phase) -> None:
        self.requests[connection, phase.value] += 1

    def close(self, name: str, why: str) -> None:
        """Start nothing on the connection until a check succeeds. A second time only tells the newer reason."""
        why, known = self._redact(why), self._closed.get(name)
        if known is not None:
            # The check stays due when it was: whoever goes on failing here must not put it off for ever.
            known.why = why
            return
        _log.warning("connection stopped", connection=name, why=why)
        now_s = self._clock.monotonic()
        self._closed[name] = _Closed(why=why, since_s=now_s, recheck_at_s=now_s + _RECHECK_S)

    @property
    def closed(self) -> Mapping[str, str]:
        """Closed connection → why."""
        return {name: closed.why for name, closed in self._closed.items()}

    def closed_for(self, patience_s: float) -> Mapping[str, str]:
        """Connections that have been closed for at least `patience_s` seconds → why."""
        before_s = self._clock.monotonic() - patience_s
        return {name: closed.why for name, closed in self._closed.items() if closed.since_s <= before_s}

    def recheck_in_s(self) -> float | None:
        """Seconds until a closed connection is to be checked again; None when none is, or one is being checked."""
        if not self._closed or self._is_checking:
            return None
        return max(min(closed.recheck_at_s for closed in self._closed.values()) - self._clock.monotonic(), 0.0)

    async def recheck(self) -> bool:
        """Check the closed connections that are due, once at a time; True when one was opened again."""
        if self._is_checking:
            return False
        self._is_checking = True
        try:
            await self._let_go(older_than_s=_RETIRED_FOR_S)
            now_s = self._clock.monotonic()
            due = [name for name, closed in self._closed.items() if closed.recheck_at_s <= now_s]
            return any([await self._recheck(name) for name in due])
        finally:
            self._is_checking = False

    async def _recheck(self, name: str) -> bool:
        self._retire(name)
        health = await self.check(name)
        if health.is_ok:
            self._closed.pop(name, None)
            _log.info("connection works again", connection=name)
        else:
            self._closed[name].recheck_at_s = self._clock.monotonic() + _RECHECK_S
        return health.is_ok

    def _retire(self, name: str) -> None:
        """Build the connection anew when it is next used: its secrets may have been mended meanwhile."""
        opened = self._opened.pop(name, None)
        if opened is not None:
            self._retired.extend((self._clock.monotonic(), client) for client in opened.clients)

    async def _let_go(self, *, older_than_s: float) -> None:
        """Close the clients of connections that were built anew so long ago that nothing of theirs is on the wire."""
        before_s = self._clock.monotonic() - older_than_s
        old = [client for retired_s, client in self._retired if retired_s <= before_s]
        self._retired = [one for one in self._retired if one[0] > before_s]
        for client in old:
            await client.aclose()

    async def check(self, name: str) -> Health:
        """Try a connection. Never raises for what a vendor, a setting or an integration does."""
        try:
            made = self._opened.get(name)
            if made is None:
                made = self._make(name)
                self._opened[name] = made
            health: object = await made.integration.check()
        except Exception as error:  # noqa: BLE001 - the outer edge: whatever it was, the connection does not work
            return Health(is_ok=False, message=self._redact(_words(error)))
        if not isinstance(health, Health):
            return Health(is_ok=False, message=f"the integration's check answered {type(health).__name__}, no Health")
        return health

    async def aclose(self) -> None:
        """Close every client."""
        for name in list(self._opened):
            self._retire(name)
        await self._let_go(older_than_s=0.0)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ConductorError) else f"{type(error).__name__}: {error}"
