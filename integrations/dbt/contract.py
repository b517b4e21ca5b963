"""The dbt integration for the contract suite: real supervisors, and a stand-in for dbt that leaves its artifacts.

The real dbt takes five seconds a command; `tests/integration/test_dbt.py` runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from conductor.core.vendor import ExternalState
from conductor.sdk.child import Children
from conductor.sdk.child_sandbox import READ_PATH, START_PATH, ChildSandbox
from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.dbt.config import BuildSettings, Connection, FreshnessSettings
from integrations.dbt.integration import Dbt, plugin
from integrations.dbt.mapping import STATUSES, Kind

__all__ = ["HARNESSES"]

_SECRET = "canary-of-the-warehouse"  # noqa: S105 - made up
_SCOPE = "project"

# Tells that it was launched, waits for a word, leaves results in which one node has that word as its status.
_STAND_IN = """#!/bin/sh
what=$1
while [ $# -gt 0 ]; do
  case $1 in --target-path) target=$2 ;; esac
  shift
done
mkdir -p "$target"
key=$DBT_ENV_CUSTOM_ENV_CONDUCTOR_KEY
echo "$key" >> "$STEER/ledger"
node='"node_info": {"unique_id": "model.shop.orders"}'
echo '{"info": {"name": "LogStartLine", "level": "info"}, "data": {"index": 1, "total": 1, '"$node"'}}'
echo "connecting with $DBT_ENV_SECRET_PASSWORD"
read -r word < "$STEER/$key" || exit 99
code=0
case $word in
  "exit 2")
    echo '{"info": {"name": "MainEncounteredError", "level": "error", "msg": "Compilation Error in model bad"}}'
    exit 2 ;;
  "signal KILL") kill -s KILL $$ ;;
  error | fail | skipped | "runtime error" | "partial success") code=1 ;;
esac
name=run_results
[ "$what" = source ] && name=sources
cat > "$target/$name.json" <<END
{"metadata": {"invocation_id": "i-1", "dbt_version": "1.11.0", "env": {"CONDUCTOR_KEY": "$key"}}, "elapsed_time": 0.1,
 "results": [{"unique_id": "model.shop.orders", "status": "$word", "message": "told $word by $DBT_ENV_SECRET_PASSWORD",
  "execution_time": 0.1, "adapter_response": {}}]}
END
exit $code
"""

_BY_KIND: Mapping[Kind, ExternalState] = {
    Kind.GOOD: ExternalState.SUCCEEDED,
    Kind.WARNED: ExternalState.SUCCEEDED,
    Kind.FAILED: ExternalState.FAILED,
    Kind.SKIPPED: ExternalState.FAILED,
}
WORDS: Mapping[str, ExternalState] = {
    **{word: _BY_KIND[kind] for word, kind in STATUSES.items()},
    "blessed": ExternalState.WARNED,
    "exit 2": ExternalState.FAILED,
    "signal KILL": ExternalState.FAILED,
    "vanished": ExternalState.VANISHED,
}
"""dbt's words for a node, one that no dbt says yet, and the ways to end without results."""


def _harness(folder: Path, operation: str, settings: BuildSettings | FreshnessSettings) -> Harness:
    clock = FakeClock()
    root = folder / "state" / "children"
    words = {ExternalState.SUCCEEDED: "success", ExternalState.FAILED: "error", ExternalState.WARNED: "blessed"}
    sandbox = ChildSandbox(root, steer=folder / "steer", clock=clock, scope=_SCOPE, words=words)
    (folder / "dbt_project.yml").write_text("name: shop\n")
    stand_in = folder / "stand-in"
    stand_in.write_text(_STAND_IN)
    stand_in.chmod(0o700)
    context = context_for(sandbox.app, clock=clock, state_dir=folder / "state", project_dir=folder)
    connection = Connection(
        executable=str(stand_in),
        env={"STEER": str(sandbox.steer)},
        secret_env={"DBT_ENV_SECRET_PASSWORD": SecretStr(_SECRET)},
    )
    context.redact.add(_SECRET)
    children = Children(root, redact=context.redact, clock=clock, spawn=sandbox.spawn, read=sandbox.read)

    def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        sandbox.settle()

    return Harness(
        name=f"dbt.{operation}",
        operation=plugin.operations[operation],
        integration=Dbt(context, connection, children),
        settings=settings.model_dump(mode="json"),
        sandbox=sandbox,
        scope=_SCOPE,
        start_path=START_PATH,
        read_path=READ_PATH,
        words=WORDS,
        secret=_SECRET,
        pass_time=pass_time,
        extra={"has_wire": False, "has_remote_check": False},
    )


HARNESSES: Mapping[str, Callable[[Path], Harness]] = {
    "dbt.core_build": lambda folder: _harness(folder, "core_build", BuildSettings(select=["tag:daily"])),
    "dbt.core_source_freshness": lambda folder: _harness(folder, "core_source_freshness", FreshnessSettings()),
}
