"""Fivetran: trigger the sync of a connection and follow it to its end.

Fivetran gives a sync no id and takes no key. A sync is told from its connection: the stamps of the last success and the
last failure before the start, the state between, and the sync history where the account has one. So a success means
"a sync that began after Conductor looked and found the connection idle has succeeded".
"""

from __future__ import annotations

from pydantic import BaseModel

from conductor.sdk import (
    CancelSupport,
    Capabilities,
    Clock,
    Context,
    Correlation,
    Delivery,
    IfRunning,
    Integration,
    Operation,
    Plugin,
    Sandbox,
)
from integrations.fivetran.config import FivetranConnection, SyncOutputs, SyncSettings
from integrations.fivetran.integration import build

__all__ = ["plugin"]

_CAPABILITIES = Capabilities(
    correlation=Correlation.WINDOW,
    delivery=Delivery.PREFER_LOOKUP,
    if_running=IfRunning.WAIT,
    needs_baseline=True,
    cancel=CancelSupport.NONE,
    batch_size=1000,
    poll_floor_s=5.0,
    settle_window_s=120.0,
    is_exclusive=True,
)


def _build(context: Context, connection: BaseModel) -> Integration:
    assert isinstance(connection, FivetranConnection)
    return build(context, connection)


_SYNC = Operation(
    name="sync",
    summary="Trigger the sync of a Fivetran connection and wait for its end.",
    settings=SyncSettings,
    outputs=SyncOutputs,
    capabilities=lambda _settings: _CAPABILITIES,
    scope=lambda settings: str(settings["connection_id"]),
    guarantee=(
        "The trigger is sent at most once; a lost one is looked up by time and adopted if exactly one sync fits, else "
        "held. Success means that a sync which began after the connection was seen idle has succeeded, whoever "
        "began it."
    ),
)


def _sandbox(clock: Clock) -> Sandbox:
    """An account with one connection, `demo`, that makes any other on first use: for trials of one's own pipelines."""
    from integrations.fivetran.sandbox import FivetranSandbox

    sandbox = FivetranSandbox(clock, creates_unknown=True)
    sandbox.add_connection("demo", schema="demo")
    return sandbox


plugin = Plugin(
    kind="fivetran",
    title="Fivetran",
    summary="Syncs sources into a warehouse; Conductor triggers its connections and follows them.",
    connection=FivetranConnection,
    operations={_SYNC.name: _SYNC},
    build=_build,
    sandbox=_sandbox,
)
