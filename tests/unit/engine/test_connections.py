"""Connections that were stopped: checked again and again, built anew each time, and nothing piles up meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from conductor.engine.connections import Connections
from conductor.sdk.http import HttpSettings
from conductor.sdk.limits import RateLimit
from conductor.sdk.plugin import Context, Integration
from conductor.sdk.redact import Redactor
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, FakeVendor


def _connections(clock: SimClock, vendor: FakeVendor, built: list[str]) -> Connections:
    def build(name: str, context: Context) -> Integration:
        context.http(HttpSettings(base_url="http://vendor.test"), RateLimit(requests=1, per_s=1, burst=1))
        built.append(name)
        return vendor

    redact = Redactor()
    redact.add("s3cret-token")
    return Connections(build=build, clock=clock, redact=redact, state_dir=Path(), project_dir=Path())


def test_a_connection_that_stays_stopped_is_built_anew_and_keeps_few_clients() -> None:
    clock = SimClock()
    vendor = FakeVendor("vendor", KEYED, clock)
    vendor.is_healthy = False
    built: list[str] = []
    connections = _connections(clock, vendor, built)

    async def a_day() -> None:
        connections.open("vendor")
        connections.close("vendor", "the token was refused")
        for _ in range(24 * 60):
            clock.advance(60.0)
            assert connections.recheck_in_s() == 0.0
            assert not await connections.recheck()
        assert len(connections._retired) <= 20
        vendor.is_healthy = True
        clock.advance(60.0)
        assert await connections.recheck()
        await connections.aclose()

    asyncio.run(a_day())
    assert not connections.closed
    assert len(built) == 24 * 60 + 2
    assert connections._retired == []


def test_why_a_connection_is_stopped_holds_no_secret_and_is_the_newest_reason() -> None:
    clock = SimClock()
    connections = _connections(clock, FakeVendor("vendor", KEYED, clock), [])
    connections.close("vendor", "the token s3cret-token was refused")
    assert "s3cret-token" not in connections.closed["vendor"]
    clock.advance(30.0)
    connections.close("vendor", "the account is gone")
    assert connections.closed == {"vendor": "the account is gone"}
    assert connections.recheck_in_s() == 30.0
