"""The command `conductor`: builds the tree of commands, runs one, and gives the exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from conductor import __version__
from conductor.cli import (
    admin,
    connections,
    definitions,
    observing,
    pipelines,
    runs,
    sandbox,
    serving,
    starting,
)
from conductor.cli.failures import Code, report
from conductor.cli.given import Given, hoisted
from conductor.cli.session import Session

__all__ = ["build_app", "main"]

_EPILOG = (
    "Every command takes --json, --project, --store, --color, --no-input, -v and -q, before or behind its name. "
    "Exit codes: 0 good, 1 bad answer, 2 could not, 3 timed out, 4 not allowed, 5 unreachable, 6 cancelled, 130 Ctrl-C."
)


def build_app() -> typer.Typer:
    """The tree of commands."""
    app = typer.Typer(
        name="conductor",
        help="Coordinates the tools of a data stack: starts runs, follows them, judges them.",
        epilog=_EPILOG,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_options)
    for part in (definitions, starting, observing, runs, pipelines, connections, serving, sandbox, admin):
        part.add(app)
    return app


def _show_version(value: bool) -> None:
    if value:
        print(f"conductor {__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print stable JSON; prose goes to stderr.")] = False,
    project: Annotated[str | None, typer.Option("--project", metavar="DIR", help="The project's folder.")] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="URL", help="The database.")] = None,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv shows tracebacks.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say less.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask.")] = False,
    color: Annotated[str | None, typer.Option("--color", metavar="WHEN", help="auto, always or never.")] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    given = Given(
        is_json=is_json,
        project=project,
        store=store,
        verbosity=-1 if quiet else verbose,
        is_without_input=no_input,
        color=color,
    )
    context.obj = Session(given)
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    given = hoisted(sys.argv[1:] if words is None else words)
    try:
        code = build_app()(given, standalone_mode=False, prog_name="conductor")
    except BaseException as error:  # the outer edge: every end of the process has a code and a sentence
        if isinstance(error, SystemExit):
            raise
        code = report(error, shows_traceback="-vv" in given)
    sys.stdout.flush()
    sys.exit(int(code) if isinstance(code, int) else Code.GOOD)
