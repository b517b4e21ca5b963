"""The page of the command line, read from the commands themselves through Typer: help, arguments and options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from tools.reference.source import one_line, table

__all__ = ["Command", "cli_page", "commands", "option_names"]

Command = TyperCommand | TyperGroup

_INTRO = """\
# Command line

Every command with its arguments and options, as `conductor --help` has them. The options of `conductor` itself may
stand before or behind a command. With `--json` the answer is JSON on stdout and everything else goes to stderr.
"""


def cli_page(root: Command, exit_codes: str) -> str:
    """`docs/reference/cli.md`.

    Args:
        root: The command `conductor`.
        exit_codes: A table of them, in Markdown.
    """
    found = list(commands(root))
    index = [
        (f"[`{' '.join(path)}`](#{'-'.join(path)})", one_line(_help(command).split("\n\n")[0]))
        for path, command in found
        if not isinstance(command, TyperGroup)
    ]
    return "\n".join(
        [
            _INTRO,
            "## Exit codes\n",
            exit_codes,
            "## Commands\n",
            table(("Command", "What it does"), index),
            *(_section(path, command) for path, command in found),
        ]
    )


def commands(root: Command, path: tuple[str, ...] = ("conductor",)) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command that people may see, groups before what they hold: its words and itself."""
    yield path, root
    if isinstance(root, TyperGroup):
        for name, command in root.commands.items():
            if isinstance(command, Command) and not command.hidden:
                yield from commands(command, (*path, name))


def option_names(command: Command) -> set[str]:
    """Every spelling of its options."""
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}


def _help(command: Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\f")[0].strip()


def _section(path: tuple[str, ...], command: Command) -> str:
    words = " ".join(path)
    context = typer.Context(command, info_name=words)
    arguments: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for one in command.params:
        record = one.get_help_record(context)
        if record is not None:
            row = (f"`{record[0]}`", record[1])
            (arguments if isinstance(one, TyperArgument) else options).append(row)
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    return "\n".join(
        part
        for part in [
            f"## {words}\n",
            f"{_help(command)}\n",
            f"```text\n{usage}\n```\n",
            table(("Argument", "Meaning"), arguments),
            table(("Option", "Meaning"), options),
        ]
        if part
    )
