"""Every command that a page names exists, with every option that the page gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
import typer

from conductor.cli.main import build_app
from tests.docs.blocks import ROOT, blocks, documents
from tools.reference.cli import Command, commands, option_names

_ROOT_COMMAND = typer.main.get_command(build_app())
assert isinstance(_ROOT_COMMAND, Command)
_KNOWN = dict(commands(_ROOT_COMMAND))
_EVERYWHERE = option_names(_ROOT_COMMAND) | {"--help", "-h"}
_NOT_COMMANDS = ("conductor_", "conductor.", "conductor/", "conductor-")


def _named(document: str) -> Iterator[str]:
    """Every `conductor …` in code spans and consoles."""
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (span for span in re.findall(r"`([^`\n]+)`", prose) if span.startswith("conductor "))
    for block in blocks(document):
        if block.language in {"console", "sh"}:
            yield from (
                found[1]
                for line in block.text.splitlines()
                if (found := re.search(r"^(?:\$ .*?)?\b(conductor .+)$", line))
            )


def _problem(words: list[str]) -> str:
    path: tuple[str, ...] = ("conductor",)
    given = set()
    rest = iter(words[1:])
    for word in rest:
        if word in {"--project", "--store", "--color"}:
            next(rest, None)
        elif word.startswith("-"):
            given.add(word.partition("=")[0])
        elif (*path, word) in _KNOWN:
            path = (*path, word)
        elif any(len(known) > len(path) and known[: len(path)] == path for known in _KNOWN):
            return f"there is no command `{' '.join((*path, word))}`"
    if unknown := given - option_names(_KNOWN[path]) - _EVERYWHERE:
        return f"`{' '.join(path)}` has no option {', '.join(sorted(unknown))}"
    return ""


@pytest.mark.parametrize("document", documents())
def test_every_command_that_a_page_names_exists(document: str) -> None:
    wrong = []
    for text in _named(document):
        cut = re.split(r"\s(?:&&|\||>|#)\s?", text)[0]
        problem = _problem(shlex.split(cut.replace("…", "x")))
        if problem and not text.startswith(_NOT_COMMANDS):
            wrong.append(f"{text}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert _problem(["conductor", "runs", "explode"])
    assert _problem(["conductor", "why", "--loudly"])
    assert not _problem(["conductor", "--project", "x", "runs", "show", "last", "--journal"])
