"""What stands before and behind a command: options that every command takes, wherever they are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Given", "hoisted"]

_ALONE = frozenset({"--json", "--no-input", "--quiet", "--verbose"})
_WITH_VALUE = frozenset({"--project", "--store", "--color"})
_SHORT = re.compile(r"-(?:v+|q)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options of every command.

    Attributes:
        is_json: Print stable JSON.
        project: The project's folder.
        store: The database.
        verbosity: Above 0 says more, below 0 less; 2 shows tracebacks.
        is_without_input: Never ask.
        color: `auto`, `always` or `never`; None when not given.
    """

    is_json: bool = False
    project: str | None = None
    store: str | None = None
    verbosity: int = 0
    is_without_input: bool = False
    color: str | None = None

    def flags(self) -> Mapping[str, str]:
        """Setting → value, for `config.read_settings`."""
        found: dict[str, str | None] = {
            "project": self.project,
            "store.url": self.store,
            "color": self.color,
            "no_input": "true" if self.is_without_input else None,
            "log.level": {0: None, -1: "warning"}.get(min(self.verbosity, 1), "debug"),
        }
        return {name: value for name, value in found.items() if value is not None}


def hoisted(words: Sequence[str]) -> list[str]:
    """`words` with the options of every command in front, so that they may also be written behind one."""
    front: list[str] = []
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            rest.extend(words[at:])
            break
        if word in _ALONE or _SHORT.fullmatch(word) or (word.partition("=")[0] in _WITH_VALUE and "=" in word):
            front.append(word)
        elif word in _WITH_VALUE:
            front.extend(words[at : at + 2])
            at += 1
        else:
            rest.append(word)
        at += 1
    return [*front, *rest]
