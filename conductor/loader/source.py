"""Where values stand in a file: marks by path of keys, turned into line and column. Knows nothing of YAML."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Key", "Mark", "Place", "Source", "Where", "printable"]

Where = tuple[str | int, ...]
"""Keys and indices from the root of a document."""


class Key(NamedTuple):
    """Where a key stands: offsets in the text."""

    start: int
    end: int


class Mark(NamedTuple):
    """Where a value stands: offsets in the text, and the marks of what it holds. A tuple because files have many."""

    start: int
    end: int
    items: tuple[Mark, ...] | None = None
    fields: Mapping[str, tuple[Key, Mark]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A part of one line.

    Attributes:
        line: From 1; 0 for a definition without text.
        column: From 1, in characters.
        length: Up to the end of the line at most, at least 1.
        source_line: The line's text without its end.
    """

    line: int = 0
    column: int = 0
    length: int = 0
    source_line: str = ""


class Source:
    """A file's name, text and marks; or only a name, for definitions that have no text."""

    def __init__(self, path: str, text: str = "", root: Mark | None = None) -> None:
        self.path = path
        self.text = text
        self.root = root
        self._starts: list[int] = []
        self._last: tuple[int, str] = (-1, "")

    def mark(self, where: Where) -> Mark | None:
        """The mark of exactly this value; None when there is none."""
        mark = self.root
        for step in where:
            child = _child(mark, step)
            if child is None:
                return None
            mark = child[1]
        return mark

    def place(self, where: Where, *, on_key: bool = False) -> Place:
        """Where the value stands, or its key; the nearest part above it that exists otherwise."""
        if self.root is None:
            return self.place_of_span(0, 1) if self.text else Place()
        mark, key = self.root, None
        for step in where:
            child = _child(mark, step)
            if child is None:
                on_key = True
                break
            key, mark = child
        if key is not None and (on_key or mark.start >= mark.end):
            return self.place_of_span(key.start, key.end - key.start)
        return self.place_of_span(mark.start, mark.end - mark.start)

    def place_of_span(self, start: int, length: int) -> Place:
        """Line and column of an offset in the text."""
        if not self._starts:
            self._starts = _line_starts(self.text)
        line = bisect_right(self._starts, start) - 1
        text = self._line(line)
        column = min(start - self._starts[line], len(text))
        return Place(line=line + 1, column=column + 1, length=max(1, min(length, len(text) - column)), source_line=text)

    def _line(self, line: int) -> str:
        """The line's text. Kept, so that ten thousand mistakes in one long line share it."""
        if self._last[0] != line:
            end = self._starts[line + 1] if line + 1 < len(self._starts) else len(self.text)
            self._last = (line, printable(self.text[self._starts[line] : end].rstrip("\r\n")))
        return self._last[1]


def printable(text: str) -> str:
    """`text` with one replacement character for each that could move a terminal's cursor or hide; tabs stay."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character == "\t" else "\ufffd" for character in text)


def _child(mark: Mark | None, step: str | int) -> tuple[Key | None, Mark] | None:
    if mark is None:
        return None
    if isinstance(step, int):
        items = mark.items
        return (None, items[step]) if items is not None and 0 <= step < len(items) else None
    return mark.fields.get(step) if mark.fields is not None else None


def _line_starts(text: str) -> list[int]:
    starts, at = [0], 0
    while (at := text.find("\n", at) + 1) > 0:
        starts.append(at)
    return starts
