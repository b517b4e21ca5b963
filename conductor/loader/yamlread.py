"""Reads a YAML 1.2 file as plain values and remembers where each stands. Limits first; knows nothing of pipelines.

The events come from libyaml, through PyYAML: a pure-Python composer needs some four seconds for ten thousand nodes,
this reader less than one. Only the scanner is theirs: scalars are resolved here by the core schema of YAML 1.2, so
`10:30`, `on` and `no` stay text. There is no recursion and nothing is expanded, so no input costs more than its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import yaml

from conductor.core.vendor import Json
from conductor.loader.diagnostics import Diagnostic, Report
from conductor.loader.source import Key, Mark, Source

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "YamlFile", "read_yaml"]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 200_000

_CONSTANTS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NUMERIC_START = frozenset("-+.0123456789")
_LARGEST = 2**63
_LONGEST_NUMBER = 40
_MOST_PROBLEMS = 100
_PARSER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlFile:
    """What a file holds.

    Attributes:
        value: Plain JSON values; None where the file could not be read to its end. Keys are always text.
        source: For the places of values.
        diagnostics: What was wrong; duplicate keys and refused features are all named, syntax ends at the first.
    """

    value: Json
    source: Source
    diagnostics: tuple[Diagnostic, ...]


def read_yaml(data: bytes, *, path: str) -> YamlFile:
    """Read one document. Never raises for its content; `path` is the name that diagnostics use."""
    if len(data) > MAX_BYTES:
        return _refused(path, "CND007", f"the file has {len(data):,} bytes; 1 MiB is the limit")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _refused(path, "CND001", f"the file is not UTF-8: byte {error.start + 1} cannot be read")
    source = Source(path, text)
    report = Report(source)
    builder = _Builder(report)
    try:
        value, source.root = builder.read(text)
    except _Stop:
        return YamlFile(value=None, source=source, diagnostics=report.diagnostics())
    except yaml.YAMLError as error:
        _report_syntax(report, error)
        return YamlFile(value=None, source=source, diagnostics=report.diagnostics())
    return YamlFile(value=None if report.has_errors() else value, source=source, diagnostics=report.diagnostics())


class _Stop(Exception):  # noqa: N818 - control flow inside this module, never seen outside
    """Reading on would cost more than it tells."""


class _Frame:
    """A list or mapping that is not closed yet."""

    __slots__ = ("fields", "items", "key", "key_mark", "marks", "named_marks", "start")

    def __init__(self, start: int, *, is_mapping: bool) -> None:
        self.start = start
        self.items: list[Json] | None = None if is_mapping else []
        self.marks: list[Mark] = []
        self.fields: dict[str, Json] = {}
        self.named_marks: dict[str, tuple[Key, Mark]] = {}
        self.key: str | None = None
        self.key_mark = Key(0, 0)


class _Builder:
    """Turns parser events into values and marks, with a stack of its own."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._stack: list[_Frame] = []
        self._count = 0
        self._documents = 0
        self._problems = 0
        self._result: tuple[Json, Mark] | None = None

    def read(self, text: str) -> tuple[Json, Mark]:
        handlers: dict[type, Callable[[yaml.Event], None]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        parser = _PARSER(text)
        try:
            while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
                handler = handlers.get(type(event))
                if handler is not None:
                    handler(event)
        finally:
            parser.dispose()
        if self._result is None:
            self._report.add("CND001", "the file is empty", help_text="write at least `version: 1` and a `name`")
            raise _Stop
        return self._result

    def _document(self, event: yaml.Event) -> None:
        self._documents += 1
        if self._documents > 1:
            self._fatal("CND006", "a second document begins here", event, "one file holds one document")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        start, end = event.start_mark.index, event.end_mark.index
        frame = self._stack[-1] if self._stack else None
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        if frame is not None and frame.items is None and frame.key is None:
            self._begin_field(frame, event, start, end)
            return
        value: Json = event.value
        if event.implicit[0] and not event.style:
            value = self._resolve(event)
        self._add(value, Mark(start, end))

    def _begin_field(self, frame: _Frame, event: yaml.ScalarEvent, start: int, end: int) -> None:
        key = event.value
        if key == "<<" and not event.style:
            self._problem("CND006", "merge keys are not accepted", event, "use `defaults` for what nodes share")
        elif key in frame.fields:
            first = self._report.source.place_of_span(frame.named_marks[key][0].start, 1)
            message = f"`{key[:80]}` is written twice; the first is in line {first.line}"
            self._problem("CND005", message, event, "keep one of the two")
        frame.key = key
        frame.key_mark = Key(start, end)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        if self._stack and self._stack[-1].items is None and self._stack[-1].key is None:
            self._fatal("CND006", "a key must be text", event, "quote it if it is meant as text")
        if len(self._stack) >= MAX_DEPTH:
            self._fatal("CND007", f"nested more than {MAX_DEPTH} levels deep", event, "flatten it")
        self._stack.append(_Frame(event.start_mark.index, is_mapping=isinstance(event, yaml.MappingStartEvent)))

    def _close(self, event: yaml.Event) -> None:
        frame = self._stack.pop()
        end = event.end_mark.index
        if frame.items is None:
            self._add(frame.fields, Mark(frame.start, end, None, frame.named_marks))
        else:
            self._add(frame.items, Mark(frame.start, end, tuple(frame.marks)))

    def _add(self, value: Json, mark: Mark) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            self._report.add(
                "CND007", f"more than {MAX_VALUES:,} values", span=(mark.start, 1), help_text="split the file"
            )
            raise _Stop
        if not self._stack:
            self._result = (value, mark)
            return
        frame = self._stack[-1]
        if frame.items is not None:
            frame.items.append(value)
            frame.marks.append(mark)
        elif frame.key is not None:
            frame.fields[frame.key] = value
            frame.named_marks[frame.key] = (frame.key_mark, mark)
            frame.key = None

    def _alias(self, event: yaml.AliasEvent) -> None:
        if self._stack and self._stack[-1].items is None and self._stack[-1].key is None:
            self._fatal("CND006", "a key must be text", event, "aliases are not accepted")
        self._problem("CND006", f"alias `*{event.anchor[:80]}` is not accepted", event, "write the value out")
        self._add(None, Mark(event.start_mark.index, event.end_mark.index))

    def _refuse_properties(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        what = f"anchor `&{event.anchor[:80]}`" if event.anchor is not None else f"tag `{event.tag[:80]}`"
        self._problem("CND006", f"{what} is not accepted", event, "remove it; use `defaults` for what nodes share")

    def _resolve(self, event: yaml.ScalarEvent) -> Json:
        text: str = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _NUMERIC_START:
            return text
        if _INTEGER.fullmatch(text):
            number = int(text, 0 if text[:2] in {"0x", "0o"} else 10) if len(text) <= _LONGEST_NUMBER else _LARGEST
            if -_LARGEST <= number < _LARGEST:
                return number
            self._problem("CND004", "the number has more than 64 bits", event, "quote it to make it text")
        elif _FLOAT.fullmatch(text):
            value = float(text) if text.strip("+-")[:2].lower() not in {".i", ".n"} else math.nan
            if math.isfinite(value):
                return value
            self._problem("CND004", "the number is not finite", event, "quote it to make it text")
        return text

    def _problem(self, code: str, message: str, event: yaml.Event, help_text: str) -> None:
        start = event.start_mark.index
        self._problems += 1
        self._report.add(code, message, span=(start, max(1, event.end_mark.index - start)), help_text=help_text)

        if self._problems >= _MOST_PROBLEMS:
            raise _Stop

    def _fatal(self, code: str, message: str, event: yaml.Event, help_text: str) -> None:
        self._problem(code, message, event, help_text)
        raise _Stop


def _report_syntax(report: Report, error: yaml.YAMLError) -> None:
    mark = getattr(error, "problem_mark", None)
    at = min(mark.index if mark is not None else getattr(error, "position", 0) or 0, len(report.source.text))
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid"
    context = getattr(error, "context", None)
    message = f"YAML: {problem}" + (f" ({context})" if context else "")
    hint = "indent with spaces, not with tabs" if report.source.text[at : at + 1] == "\t" else ""
    report.add("CND001", message, span=(at, 1), help_text=hint)


def _refused(path: str, code: str, message: str) -> YamlFile:
    report = Report(Source(path))
    report.add(code, message)
    return YamlFile(value=None, source=report.source, diagnostics=report.diagnostics())
