"""The command integration on real processes, for the contract suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from conductor.core.vendor import ExternalState
from conductor.sdk.child import Children
from conductor.sdk.child_sandbox import READ_PATH, START_PATH, ChildSandbox
from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.command.config import Connection, RunSettings
from integrations.command.integration import Commands, plugin

__all__ = ["HARNESSES"]

_SECRET = "canary-of-the-command"  # noqa: S105 - made up
_SCOPE = "command"

# Tells that it was launched, waits for a word, does what it says.
_STAND_IN = """
echo "$CONDUCTOR_KEY" >> "$1/ledger"
echo "logging in with $PASSWORD"
read -r word number < "$1/$CONDUCTOR_KEY" || exit 99
echo "told: $word $number"
echo '{"rows": 3}' > "$CONDUCTOR_OUTPUT"
case $word in
  exit) exit "$number" ;;
  signal) kill -s "$number" $$ ;;
esac
"""

WORDS: Mapping[str, ExternalState] = {
    "exit 0": ExternalState.SUCCEEDED,
    "exit 1": ExternalState.FAILED,
    "exit 3": ExternalState.WARNED,
    "exit 4": ExternalState.SUCCEEDED,
    "exit 75": ExternalState.FAILED,
    "signal KILL": ExternalState.FAILED,
    "vanished": ExternalState.VANISHED,
}


def _run(folder: Path) -> Harness:
    clock = FakeClock()
    root = folder / "state" / "children"
    sandbox = ChildSandbox(
        root,
        steer=folder / "steer",
        clock=clock,
        scope=_SCOPE,
        words={ExternalState.SUCCEEDED: "exit 0", ExternalState.FAILED: "exit 1", ExternalState.WARNED: "exit 3"},
    )
    context = context_for(sandbox.app, clock=clock, state_dir=folder / "state", project_dir=folder)
    connection = Connection(secret_env={"PASSWORD": SecretStr(_SECRET)})
    children = Children(root, redact=context.redact, clock=clock, spawn=sandbox.spawn, read=sandbox.read)
    settings = RunSettings.model_validate(
        {
            "argv": ["sh", "-c", _STAND_IN, "stand-in", str(sandbox.steer)],
            "exit_codes": {"3": "warned", "4": "succeeded", "75": "transient"},
        }
    )

    def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        sandbox.settle()

    return Harness(
        name="command.run",
        operation=plugin.operations["run"],
        integration=Commands(context, connection, children),
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


HARNESSES: Mapping[str, Callable[[Path], Harness]] = {"command.run": _run}
