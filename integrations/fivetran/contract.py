"""Fresh harnesses for the SDK's contract suite: with a sync history, without one, and on a manual schedule.

Fivetran has no word for an end. The words here are the `sync_state` values, the stamp that moves (`succeeded_at`,
`failed_at`), and `cancelled` for a sync that was stopped in the dashboard and leaves no stamp at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from conductor.sdk import ExternalState
from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.fivetran import plugin
from integrations.fivetran.config import FivetranConnection, SyncSettings
from integrations.fivetran.sandbox import FivetranSandbox

__all__ = ["HARNESSES"]

_CONNECTION = "contract_conn"
_WORDS: Mapping[str, ExternalState] = {
    "scheduled": ExternalState.QUEUED,
    "syncing": ExternalState.RUNNING,
    "paused": ExternalState.QUEUED,
    "succeeded_at": ExternalState.SUCCEEDED,
    "failed_at": ExternalState.FAILED,
    "cancelled": ExternalState.VANISHED,
}


def _harness(
    state_dir: Path, *, name: str, schedule_type: str, has_history: bool, rescheduled: ExternalState
) -> Harness:
    clock = FakeClock()
    sandbox = FivetranSandbox(clock, sync_duration_s=3600.0)
    sandbox.history_enabled = has_history
    sandbox.add_connection(_CONNECTION, schedule_type=schedule_type)
    credentials = sandbox.connection("http://fivetran.test")
    integration = plugin.build(
        context_for(sandbox.app, clock=clock, state_dir=state_dir), FivetranConnection.model_validate(credentials)
    )
    # Without a history a sync that came and went between two polls is only told by its long absence.
    settings = SyncSettings(connection_id=_CONNECTION, start_limit_s=3600.0 if has_history else 60.0)
    return Harness(
        name=name,
        operation=plugin.operations["sync"],
        integration=integration,
        settings=settings.model_dump(mode="json"),
        sandbox=sandbox,
        scope=_CONNECTION,
        start_path=r"/sync$",
        read_path=r"^/v1/connections(/[^/]+(/sync-history)?)?$",
        words={**_WORDS, "rescheduled": rescheduled},
        secret=str(credentials["api_secret"]),
        pass_time=clock.advance,
    )


def _with_history(state_dir: Path) -> Harness:
    return _harness(
        state_dir, name="fivetran.sync", schedule_type="auto", has_history=True, rescheduled=ExternalState.QUEUED
    )


def _without_history(state_dir: Path) -> Harness:
    return _harness(
        state_dir,
        name="fivetran.sync without history",
        schedule_type="auto",
        has_history=False,
        rescheduled=ExternalState.QUEUED,
    )


def _manual(state_dir: Path) -> Harness:
    return _harness(
        state_dir,
        name="fivetran.sync on a manual schedule",
        schedule_type="manual",
        has_history=True,
        rescheduled=ExternalState.FAILED,
    )


HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "fivetran.sync": _with_history,
    "fivetran.sync without history": _without_history,
    "fivetran.sync on a manual schedule": _manual,
}
"""By name; each call gives a fresh sandbox."""
