"""Puts things on the terminal: tables, states, durations, JSON. Results on stdout, prose on stderr with `--json`.

No escape codes unless the stream is a terminal or colour is asked for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ICONS", "STYLES", "Say", "ago", "span", "state_words"]

ICONS: Mapping[str, str] = MappingProxyType(
    {
        "waiting": "○",
        "queued": "◌",
        "running": "▶",
        "retrying": "↻",
        "held": "◆",
        "succeeded": "✓",
        "warned": "!",
        "failed": "✕",
        "skipped": "»",
        "upstream_failed": "⊘",
        "cancelled": "⊘",
    }
)
STYLES: Mapping[str, str] = MappingProxyType(
    {
        "waiting": "dim",
        "queued": "blue",
        "running": "bold blue",
        "retrying": "yellow",
        "held": "bold yellow",
        "succeeded": "green",
        "warned": "yellow",
        "failed": "bold red",
        "skipped": "dim",
        "upstream_failed": "red",
        "cancelled": "dim",
    }
)


class _Jsonable(Protocol):
    def to_json(self) -> dict[str, object]: ...


def state_words(state: str) -> str:
    """A state with its icon."""
    return f"{ICONS.get(state, '·')} {state}"


def span(seconds: float | None) -> str:
    """A duration for people: `4s`, `12m`, `1h 05m`; a dash for none."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def ago(at: datetime | None, now: datetime) -> str:
    """How far an instant lies in the past or future: `3m ago`, `in 2h 10m`; a dash for none."""
    if at is None:
        return "-"
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


class Say:
    """Where this command's words go."""

    def __init__(self, *, is_json: bool, color: str, verbosity: int) -> None:
        self.is_json = is_json
        self.verbosity = verbosity
        self._color = color

    @property
    def is_terminal(self) -> bool:
        """A person watches standard output, and lines may be drawn over."""
        return sys.stdout.isatty() and not self.is_json and self._color != "never"

    def console(self, *, is_error: bool = False) -> Console:
        """A console that colours as it was asked to."""
        from rich.console import Console

        return Console(
            file=sys.stderr if is_error else sys.stdout,
            force_terminal={"always": True, "never": False}.get(self._color),
            color_system=None if self._color == "never" else "auto",
            highlight=False,
            soft_wrap=True,
            emoji=False,
            markup=False,
        )

    def result(self, view: _Jsonable) -> None:
        """A view as JSON."""
        indent = 2 if sys.stdout.isatty() else None
        print(json.dumps(view.to_json(), ensure_ascii=False, indent=indent))

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line of the answer; on stderr with `--json`."""
        if self.is_json:
            print(text, file=sys.stderr)
        elif style:
            self.console().print(text, style=style)
        else:
            print(text)

    def note(self, text: str) -> None:
        """Prose beside the answer, on stderr; silent with `-q`."""
        if self.verbosity >= 0:
            print(text, file=sys.stderr)

    def flush(self) -> None:
        """What was said so far is visible now, also in a pipe."""
        sys.stdout.flush()
        sys.stderr.flush()

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, state_column: int | None = None) -> None:
        """Rows under heads: aligned text; colours for states on a terminal. Nothing is cut off."""
        widths = [max(len(text) for text in column) for column in zip(heads, *rows, strict=True)]
        console = self.console(is_error=self.is_json)
        console.print(_aligned(heads, widths), style="bold")
        for row in rows:
            style = STYLES.get(row[state_column].split(" ")[-1], "") if state_column is not None else ""
            console.print(_aligned(row, widths), style=style or None)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
