"""Gates on data, `sql.gate`: one read-only query decides whether the pipeline goes on.

It starts nothing and changes nothing, so it may be repeated at will. SQLite, DuckDB and PostgreSQL.
"""

from __future__ import annotations

from pydantic import BaseModel

from conductor.sdk import Context, Integration, Operation, Plugin
from integrations.sql.config import Connection, GateSettings, Outputs
from integrations.sql.integration import SqlIntegration, capabilities

__all__ = ["plugin"]


def _build(context: Context, connection: BaseModel) -> Integration:
    return SqlIntegration(context, Connection.model_validate(connection))


plugin = Plugin(
    kind="sql",
    title="SQL database",
    summary="Hold a pipeline until the data in a database is as it should be.",
    connection=Connection,
    operations={
        "gate": Operation(
            name="gate",
            summary="Run one read-only query and pass when it returns no rows, or the value that was asserted.",
            settings=GateSettings,
            outputs=Outputs,
            capabilities=capabilities,
            guarantee=(
                "Reads only, over a read-only connection, and may run more than once; a database that cannot be "
                "reached decides nothing, and anything but a clear pass is no success."
            ),
        )
    },
    build=_build,
)
