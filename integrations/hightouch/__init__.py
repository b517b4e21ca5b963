"""Hightouch: triggers a sync of a workspace and follows its run.

Hightouch takes no key and no label, queues a second trigger instead of refusing it, and lists runs per sync. So a lost
start is recognised by place and time alone: the one run that is newer than the baseline and as young as the start.
Conductor never triggers twice by itself; where it cannot tell, the node is held.
"""

from __future__ import annotations

from pydantic import BaseModel

from conductor.sdk import Clock, Context, Integration, Operation, Plugin, Sandbox
from integrations.hightouch.config import Connection, SyncOutputs, SyncSettings
from integrations.hightouch.integration import CAPABILITIES, Hightouch, scope_of

__all__ = ["plugin"]


def _build(context: Context, connection: BaseModel) -> Integration:
    return Hightouch(context, Connection.model_validate(connection))


def _sandbox(clock: Clock) -> Sandbox:
    """A workspace whose run ids no earlier one has given."""
    from integrations.hightouch.sandbox import HightouchSandbox

    return HightouchSandbox(clock, first_id=int(clock.now().timestamp()))


plugin = Plugin(
    kind="hightouch",
    title="Hightouch",
    summary="Triggers syncs from the warehouse into business tools and follows their runs.",
    connection=Connection,
    operations={
        "sync": Operation(
            name="sync",
            summary="Run one sync and wait until its rows have been pushed.",
            settings=SyncSettings,
            outputs=SyncOutputs,
            capabilities=lambda _settings: CAPABILITIES,
            scope=scope_of,
            guarantee=(
                "Triggered at most once per attempt. A trigger whose answer was lost is adopted when exactly one run "
                "of the sync is newer than the baseline and as young as the trigger (marked inferred); otherwise the "
                "node is held. Adoption can be wrong only if something else triggers the sync in those minutes. "
                "A run cannot be cancelled remotely."
            ),
        )
    },
    build=_build,
    sandbox=_sandbox,
)
