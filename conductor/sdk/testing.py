"""What tests of an integration need: a clock that moves when told, and a context whose HTTP goes to an ASGI app."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from conductor.sdk.http import Http, HttpSettings, asgi_transport
from conductor.sdk.limits import RateLimit, TokenBucket
from conductor.sdk.plugin import Context
from conductor.sdk.redact import Redactor
from conductor.sdk.sandbox import AsgiApp

__all__ = ["FakeClock", "context_for"]


class FakeClock:
    """A clock that stands still until `advance` or `sleep` moves it."""

    def __init__(self, start: datetime = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """The wall clock, UTC-aware."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        """Move the clock by `delay_s` and return at once."""
        self.advance(delay_s)

    def advance(self, delay_s: float) -> None:
        """Move the clock by `delay_s` seconds."""
        self._elapsed_s += max(delay_s, 0.0)


def context_for(
    app: AsgiApp, *, clock: FakeClock, state_dir: Path, connection: str = "test", project_dir: Path | None = None
) -> Context:
    """A context whose HTTP calls go to `app` in this process, on `clock`."""
    redact = Redactor()

    def http(settings: HttpSettings, limit: RateLimit) -> Http:
        return Http(
            connection=connection,
            settings=settings,
            clock=clock,
            bucket=TokenBucket(limit, clock),
            redact=redact,
            transport=asgi_transport(app),
        )

    return Context(
        connection=connection,
        clock=clock,
        redact=redact,
        state_dir=state_dir,
        project_dir=project_dir or state_dir,
        http=http,
    )
