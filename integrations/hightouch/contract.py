"""Harnesses of Hightouch for the SDK's contract suite: the same operation by number and by slug."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.hightouch import plugin
from integrations.hightouch.config import SyncSettings
from integrations.hightouch.mapping import STATES
from integrations.hightouch.sandbox import API_KEY, HightouchSandbox

__all__ = ["HARNESSES"]

_ORIGIN = "http://hightouch.test"


def _harness(state_dir: Path, *, name: str, settings: SyncSettings) -> Harness:
    clock = FakeClock()
    sandbox = HightouchSandbox(clock, run_s=None)
    operation = plugin.operations["sync"]
    connection = plugin.connection.model_validate(sandbox.connection(_ORIGIN))
    return Harness(
        name=name,
        operation=operation,
        integration=plugin.build(context_for(sandbox.app, clock=clock, state_dir=state_dir), connection),
        settings=settings.model_dump(mode="json"),
        sandbox=sandbox,
        scope="1001",
        start_path=r"/trigger$",
        read_path=r"/runs$",
        words=STATES,
        secret=API_KEY,
        pass_time=clock.advance,
    )


def _by_id(state_dir: Path) -> Harness:
    return _harness(state_dir, name="hightouch.sync", settings=SyncSettings(sync_id=1001))


def _by_slug(state_dir: Path) -> Harness:
    return _harness(state_dir, name="hightouch.sync by slug", settings=SyncSettings(sync_slug="contacts-to-crm"))


HARNESSES: dict[str, Callable[[Path], Harness]] = {"hightouch.sync": _by_id, "hightouch.sync-by-slug": _by_slug}
"""Name → a fresh harness."""
