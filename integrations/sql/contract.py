"""Gates on real files, SQLite and DuckDB, for the SDK's contract checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from conductor.core.vendor import ExternalState, Json
from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.sql import plugin
from integrations.sql.config import Connection, GateSettings
from integrations.sql.sandbox import SqlSandbox

__all__ = ["HARNESSES"]

_ROWS: Mapping[str, Json] = {"sql": "SELECT id, customer, amount FROM orders WHERE amount < 0", "message": "bad orders"}
_VALUE: Mapping[str, Json] = {"assert": {"sql": "SELECT min(amount) FROM orders", "at_least": 0}}


def _harness(name: str, folder: Path, settings: Mapping[str, Json], *, dialect: str = "sqlite") -> Harness:
    clock = FakeClock()
    sandbox = SqlSandbox(folder / f"warehouse.{dialect}", dialect=dialect)
    connection = Connection.model_validate(sandbox.connection(""))
    context = context_for(sandbox.app, clock=clock, state_dir=folder)
    return Harness(
        name=f"sql.gate ({name})",
        operation=plugin.operations["gate"],
        integration=plugin.build(context, connection),
        settings=GateSettings.model_validate(settings).model_dump(mode="json"),
        sandbox=sandbox,
        scope="orders",
        start_path="^$",
        read_path="^$",
        words={"passed": ExternalState.SUCCEEDED, "failed": ExternalState.FAILED},
        secret=connection.address,
        pass_time=clock.advance,
        extra={"has_wire": False, "has_remote_check": False, "has_running": False},
    )


HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "gate-rows": lambda folder: _harness("gate-rows", folder, _ROWS),
    "gate-value": lambda folder: _harness("gate-value", folder, _VALUE),
    "gate-duckdb": lambda folder: _harness("gate-duckdb", folder, _ROWS, dialect="duckdb"),
}
