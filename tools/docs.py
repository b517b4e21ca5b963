"""Writes `docs/reference/` from the code: `python -m tools.docs`; with `--check` it only names what differs.

The pages are made in memory by `pages`, so that a test can hold the files to the code. It must read no clock and
nothing of this machine: the same code gives the same pages.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping

import typer

from conductor.cli.failures import Code, report
from conductor.cli.main import build_app
from conductor.core import errors
from tools.reference.cli import Command, cli_page
from tools.reference.entry import shipped_plugins
from tools.reference.errors import errors_page
from tools.reference.files import pipeline_page, project_page, settings_page
from tools.reference.integrations import integrations_page
from tools.reference.source import ROOT, member_lines, table
from tools.reference.states import states_page

__all__ = ["main", "pages"]

_MARK = "<!-- Made by `make docs` from the code. Change the code, not this page. -->\n\n"


def pages() -> Mapping[str, str]:
    """Path from the project's root → text."""
    plugins = shipped_plugins()
    made = {
        "states": states_page(),
        "integrations": integrations_page(plugins),
        "errors": errors_page(plugins, _exit_code),
        "pipeline-file": pipeline_page(),
        "project-files": project_page(),
        "settings": settings_page(),
        "cli": cli_page(_root(), _exit_codes()),
    }
    return {f"docs/reference/{name}.md": _MARK + text.rstrip("\n") + "\n" for name, text in made.items()}


def _root() -> Command:
    root = typer.main.get_command(build_app())
    assert isinstance(root, Command)
    return root


def _exit_codes() -> str:
    rows = [(f"`{number}`", says) for number, says in member_lines("conductor.cli.failures", Code.__name__).items()]
    return table(("Code", "Meaning"), rows)


def _exit_code(name: str) -> str:
    """What the command line really does with an error of this class."""
    with contextlib.redirect_stderr(io.StringIO()):
        return f"`{int(report(getattr(errors, name)('an example'), shows_traceback=False))}`"


def main(arguments: list[str]) -> int:
    """Write or check; 1 where a check found a difference."""
    differs = []
    for name, text in pages().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            differs.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    for name in differs:
        print(f"{'differs from the code, run `make docs`' if '--check' in arguments else 'written'}: {name}")
    return 1 if differs and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
