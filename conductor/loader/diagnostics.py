"""What is wrong in a file and where: one value, how it is found, sorted and shown. Reads no file and judges nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from conductor.core.errors import DefinitionError
from conductor.core.vendor import Json
from conductor.loader.codes import CODES
from conductor.loader.source import Source, Where, printable

__all__ = [
    "Diagnostic",
    "Report",
    "Severity",
    "did_you_mean",
    "has_errors",
    "raise_errors",
    "render_json",
    "render_text",
]

_SHOWN = 120
_SUGGESTIONS = 50
_CANDIDATES = 2000
_MOST = 2000
_MASK = "•••"


class Severity(StrEnum):
    """Whether the file can be used."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One thing that is wrong, at one place.

    Attributes:
        code: Stable, `CND` and three digits; `codes.CODES` explains it.
        severity: A warning never stops anything.
        message: What is wrong; names and values stand in backticks. Never holds a secret.
        path: The file as people know it, relative to the project.
        line: From 1; 0 where the definition has no text (it came from the database or from Python).
        column: From 1, in characters; 0 as above.
        length: Of the part to underline, in characters, at least 1 where there is a line.
        source_line: That line's text, without its end.
        help: What to do; may be empty.
    """

    code: str
    severity: Severity
    message: str
    path: str
    line: int = 0
    column: int = 0
    length: int = 0
    source_line: str = ""
    help: str = ""


class Report:
    """Collects the diagnostics of one source. Belongs to one load; not shared."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: list[Diagnostic] = []
        self._concealed: set[str] = set()
        self._suggestions = 0
        self._has_errors = False

    def add(
        self,
        code: str,
        message: str,
        at: Where = (),
        *,
        on_key: bool = False,
        help_text: str = "",
        span: tuple[int, int] | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Record `code` at the value `at` leads to, or at its key.

        Args:
            code: One of `codes.CODES`.
            message: As in `Diagnostic`.
            at: Keys and indices from the root; the nearest part that exists is underlined.
            on_key: Underline the key instead of the value.
            help_text: As in `Diagnostic.help`.
            span: Offset and length in the file's text, where the place is known better than by `at`.
            severity: Where it differs from the code's own.

        After two thousand no more are kept: nobody reads them, and a hostile file could hold a million.
        """
        severity = severity or Severity(CODES[code].severity)
        self._has_errors |= severity is Severity.ERROR
        if len(self._found) >= _MOST:
            return
        place = self.source.place_of_span(*span) if span else self.source.place(at, on_key=on_key)
        where = f"{self.source.path} ({'.'.join(map(str, at))})" if not place.line and at else self.source.path
        self._found.append(
            Diagnostic(
                code=code,
                severity=severity,
                message=printable(message),
                path=where,
                line=place.line,
                column=place.column,
                length=place.length,
                source_line=place.source_line,
                help=help_text,
            )
        )

    def suggest(self, word: str, candidates: Iterable[str]) -> str:
        """`did_you_mean`, but silent after fifty suggestions: the search is slow, and nobody reads the fifty-first."""
        self._suggestions += 1
        return did_you_mean(word, candidates) if self._suggestions <= _SUGGESTIONS else ""

    def conceal(self, secret: str) -> None:
        """Never show `secret`, not even in the line of source beside another mistake."""
        if secret:
            self._concealed.add(secret)

    def has_errors(self) -> bool:
        """True when what was read cannot be used."""
        return self._has_errors

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All of them once, by position."""
        found = self._found
        if self._concealed:
            lines = {diagnostic.source_line: self._hide(diagnostic.source_line) for diagnostic in found}
            found = [
                replace(diagnostic, source_line=lines[diagnostic.source_line], message=self._hide(diagnostic.message))
                for diagnostic in found
            ]
        return tuple(sorted(dict.fromkeys(found), key=_position))

    def _hide(self, text: str) -> str:
        parts = {part for secret in self._concealed for part in secret.splitlines() if part.strip()}
        for part in sorted(parts, key=len, reverse=True):
            text = text.replace(part, _MASK)
        return text


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """True when one of them is an error."""
    return any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)


def raise_errors(what: str, diagnostics: Sequence[Diagnostic]) -> None:
    """Raise when one of them is an error.

    Raises:
        DefinitionError: Names `what` and the first error; carries all diagnostics.
    """
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]
    if not errors:
        return
    first = errors[0]
    place = f"{first.path}:{first.line}:{first.column}" if first.line else first.path
    more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
    hint = f"; {first.help}" if first.help else "; mend the definition"
    raise DefinitionError(
        f"{what} cannot be used: {place}: {first.message} [{first.code}]{more}{hint}", diagnostics=tuple(diagnostics)
    )


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`did you mean ...?` with the nearest of `candidates`; empty when none is near."""
    near = [other for other in candidates if abs(len(other) - len(word)) <= max(4, len(word) // 2)][:_CANDIDATES]
    best = difflib.get_close_matches(word.lower(), near, n=1, cutoff=0.6)
    return f"did you mean `{best[0]}`?" if best else ""


def render_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Json]]:
    """Plain JSON objects with the fields of `Diagnostic`; the names are stable."""
    return [
        {
            "code": diagnostic.code,
            "severity": diagnostic.severity.value,
            "message": diagnostic.message,
            "path": diagnostic.path,
            "line": diagnostic.line,
            "column": diagnostic.column,
            "length": diagnostic.length,
            "source_line": diagnostic.source_line,
            "help": diagnostic.help,
        }
        for diagnostic in diagnostics
    ]


def render_text(diagnostics: Sequence[Diagnostic]) -> str:
    """For people: each with its line and a caret, then a count. Empty for none; no colour."""
    if not diagnostics:
        return ""
    blocks = [_block(diagnostic) for diagnostic in diagnostics]
    return "\n\n".join([*blocks, _summary(diagnostics)]) + "\n"


def _block(diagnostic: Diagnostic) -> str:
    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    if not diagnostic.line:
        lines = [head, f"  --> {diagnostic.path}"]
        return "\n".join([*lines, f"   = help: {diagnostic.help}"] if diagnostic.help else lines)
    text, column = _window(diagnostic.source_line, diagnostic.column)
    number = str(diagnostic.line)
    bar = " " * (len(number) + 1) + "|"
    lead = "".join(character if character == "\t" else " " for character in text[: column - 1])
    carets = "^" * max(1, min(diagnostic.length, len(text) - column + 1))
    lines = [
        head,
        f"  --> {diagnostic.path}:{diagnostic.line}:{diagnostic.column}",
        bar,
        f"{number} | {text}".rstrip(),
        f"{bar} {lead}{carets}",
    ]
    if diagnostic.help:
        lines.append(f"{' ' * (len(number) + 1)}= help: {diagnostic.help}")
    return "\n".join(lines)


def _window(line: str, column: int) -> tuple[str, int]:
    """The part of a long line round `column`, and the column in it."""
    if len(line) <= _SHOWN:
        return line, column
    start = max(0, min(column - 1 - _SHOWN // 3, len(line) - _SHOWN))
    part = line[start : start + _SHOWN]
    lead = "…" if start else ""
    return lead + part + ("…" if start + _SHOWN < len(line) else ""), column - start + len(lead)


def _summary(diagnostics: Sequence[Diagnostic]) -> str:
    errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    files = len({diagnostic.path for diagnostic in diagnostics})
    counts = [_plural(errors, "error")] if errors else []
    counts += [_plural(warnings, "warning")] if warnings else []
    return f"{' and '.join(counts)} in {_plural(files, 'file')}; run `conductor explain {diagnostics[0].code}` for more"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _position(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    return diagnostic.path, diagnostic.line, diagnostic.column, diagnostic.code, diagnostic.message
