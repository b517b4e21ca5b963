"""The command line without processes: options anywhere, light imports, errors as one line with the right exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer

from conductor.cli.failures import Code, report
from conductor.cli.given import Given, hoisted
from conductor.cli.main import build_app
from conductor.cli.say import ICONS, STYLES, ago, span
from conductor.core.errors import (
    AmbiguousError,
    ConflictError,
    DefinitionError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    RejectedError,
    StoreError,
    StoreUnavailableError,
)
from conductor.core.states import NodeState, RunState


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["runs", "list", "--json"], ["--json", "runs", "list"]),
        (["why", "last", "--project", "d", "-vv"], ["--project", "d", "-vv", "why", "last"]),
        (["status", "--color=never"], ["--color=never", "status"]),
        (["trigger", "p", "-p", "a=b", "-q"], ["-q", "trigger", "p", "-p", "a=b"]),
        (["logs", "--", "--json"], ["logs", "--", "--json"]),
        (["status", "--store"], ["--store", "status"]),
    ],
)
def test_options_of_every_command_may_stand_behind_it(given: Sequence[str], wanted: Sequence[str]) -> None:
    assert hoisted(given) == wanted


def test_options_become_settings() -> None:
    given = Given(project="d", verbosity=2, color="never", is_without_input=True)
    assert given.flags() == {"project": "d", "color": "never", "no_input": "true", "log.level": "debug"}
    assert Given(verbosity=-1).flags() == {"log.level": "warning"}


def test_help_needs_no_heavy_module() -> None:
    heavy = [
        "sqlalchemy",
        "pydantic",
        "httpx",
        "aiohttp",
        "starlette",
        "uvicorn",
        "alembic",
        "yaml",
        "cel",
        "rich.console",
    ]
    script = (
        "import sys, conductor.cli.main as m\n"
        "try:\n m.main(['--help'])\nexcept SystemExit: pass\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_every_command_and_option_explains_itself() -> None:
    silent = []

    def look(command: Any, path: str) -> None:
        if not command.help:
            silent.append(path)
        silent.extend(f"{path} {param.name}" for param in command.params if not getattr(param, "help", None))
        for name, inner in getattr(command, "commands", {}).items():
            look(inner, f"{path} {name}")

    look(typer.main.get_command(build_app()), "conductor")
    assert silent == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("x"), Code.CANNOT),
        (ConflictError("x"), Code.CANNOT),
        (DefinitionError("x"), Code.CANNOT),
        (StoreError("x"), Code.CANNOT),
        (RejectedError("x"), Code.CANNOT),
        (NotAllowedError("x"), Code.NOT_ALLOWED),
        (StoreUnavailableError("x"), Code.UNREACHABLE),
        (RefusedError("x"), Code.UNREACHABLE),
        (AmbiguousError("x"), Code.UNREACHABLE),
        (OSError(13, "Permission denied", "f"), Code.CANNOT),
        (KeyboardInterrupt(), Code.INTERRUPTED),
        (ZeroDivisionError("x"), Code.CANNOT),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: Code, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error, shows_traceback=False) is code
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    assert len(told.err.splitlines()) <= 1


def test_a_bug_says_that_it_is_one_and_shows_its_trace_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        report(error, shows_traceback=True)
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "this is a bug in Conductor" in told


def test_every_state_has_its_icon_and_its_style() -> None:
    states = {state.value for kind in (NodeState, RunState) for state in kind}
    assert states == set(ICONS) == set(STYLES)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.04, "0.0s"), (9.94, "9.9s"), (59.4, "59s"), (61, "1m 01s"), (3600, "1h 00m"), (90061, "25h 01m")],
)
def test_durations_are_short(seconds: float | None, words: str) -> None:
    assert span(seconds) == words


def test_instants_are_told_from_now() -> None:
    now = datetime(2026, 1, 5, tzinfo=UTC)
    assert [ago(at, now) for at in (None, now, now - timedelta(minutes=3), now + timedelta(hours=2))] == [
        "-",
        "now",
        "3m 00s ago",
        "in 2h 00m",
    ]
