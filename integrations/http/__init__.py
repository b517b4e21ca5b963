"""Any tool with a REST API as a node, `http.job`, without code.

What it can promise depends on what the node declares: `key` effectively once; `find` adopts a lost start, by our key or
by time; with neither the user chooses between at most once and at least once.
"""

from __future__ import annotations

from pydantic import BaseModel

from conductor.sdk import Context, Integration, Operation, Plugin
from integrations.http.config import Connection, JobSettings, Outputs
from integrations.http.integration import HttpIntegration, capabilities, scope
from integrations.http.sandbox import make_server

__all__ = ["plugin"]


def _build(context: Context, connection: BaseModel) -> Integration:
    return HttpIntegration(context, Connection.model_validate(connection))


plugin = Plugin(
    kind="http",
    title="HTTP API",
    summary="Start and follow runs in any tool with a REST API.",
    connection=Connection,
    operations={
        "job": Operation(
            name="job",
            summary="Start a run by one request, follow it by others, as the node declares.",
            settings=JobSettings,
            outputs=Outputs,
            capabilities=capabilities,
            scope=scope,
            guarantee=(
                "With `key`: effectively once, for as long as the API remembers keys. With `find`: a lost start is "
                "looked up and adopted, else held. With neither: `delivery` must be chosen, and a lost start is either "
                "held or sent again."
            ),
        )
    },
    build=_build,
    sandbox=make_server,
)
