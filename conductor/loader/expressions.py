"""`${{ }}`: one CEL expression, compiled at load and evaluated on a run's values. The only file that knows the library.

CEL has no loops without bounds, no I/O and no attributes of objects. What its Rust implementation leaves open is
closed here: `map` takes the square of a list's length, a large regular expression takes its size times the text's, and
a bug in it would surface as a panic. So only the values that an expression names are handed over, their amount is
limited before, and whatever comes out is an `ExpressionError` or plain JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import cel

from conductor.core.errors import ExpressionError
from conductor.core.keys import canonical
from conductor.core.vendor import Json
from conductor.loader.celscan import Scan, ScanError, scan, scan_end

__all__ = [
    "CelExpression",
    "EvaluationError",
    "Fault",
    "Part",
    "compile_expression",
    "find_expressions",
    "format_value",
]

_MAX_ITEMS = 100_000
_MAX_CHARACTERS = 1_000_000
_MACRO_ITEMS = 500
_MACRO_CHARACTERS = 16_000
_REGEX_CHARACTERS = 4_000
_MAX_RESULT_ITEMS = 100_000
_MAX_DEPTH = 64
_SYNTAX = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


class Fault(StrEnum):
    """Why an evaluation failed."""

    MISSING = "missing"
    """A value is not there."""
    TYPE = "type"
    """Types do not fit; other values of the same types would not help."""
    VALUE = "value"
    """These values do not fit; others may."""
    SIZE = "size"
    """The values are too large."""


class EvaluationError(ExpressionError):
    """An expression failed on these values.

    Attributes:
        fault: Why.
    """

    def __init__(self, message: str, *, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


# Not frozen: core.plan.Expression declares `source` as a plain attribute, which a read-only field would not satisfy.
@dataclass(slots=True)
class CelExpression:
    """A compiled expression. Equal to another of the same source. Never changed after it is made.

    Attributes:
        source: What stands between `${{` and `}}`, without outer spaces.
        names: What it refers to and calls.
    """

    source: str
    names: Scan = field(compare=False, repr=False)
    _program: cel.Program = field(compare=False, repr=False)

    def evaluate(self, context: Mapping[str, Json]) -> Json:
        """Its value on `context`; pure, and bounded in time by the limits of this module.

        Raises:
            ExpressionError: A value is missing, does not fit or is too large.
        """
        chosen = self._choose(context)
        try:
            value = self._program.execute(chosen)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a Rust panic is a BaseException and must not stop the engine
            raise _explain(self.source, error) from None
        return _plain(value, self.source, _Budget())

    def _choose(self, context: Mapping[str, Json]) -> dict[str, Json]:
        """Only the values that the expression names, so that its cost does not grow with the run's."""
        chosen: dict[str, Json] = {}
        budget = _Budget()
        for reference in self.names.references:
            value = _put(chosen, context, reference.path)
            budget.add(value)
        items, characters = _MAX_ITEMS, _MAX_CHARACTERS
        if self.names.has_macro:
            items, characters = _MACRO_ITEMS, _MACRO_CHARACTERS
        if self.names.has_regex:
            characters = _REGEX_CHARACTERS
        if budget.items > items or budget.characters > characters:
            raise EvaluationError(
                f"${{{{ {self.source} }}}} failed: its values are too large ({budget.items} items, {budget.characters} "
                f"characters; {items} and {characters} are the limits); pass less, or do this in the tool that runs",
                fault=Fault.SIZE,
            )
        return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a text: plain, or one expression.

    Attributes:
        text: The plain text, or the expression's source.
        is_expression: Which of the two.
        at: Offset of `text` in the whole.
    """

    text: str
    is_expression: bool
    at: int


def find_expressions(text: str) -> tuple[Part, ...]:
    """Split a text at its `${{ }}`; `$${{` stands for a literal `${{`.

    Raises:
        ScanError: An expression is not closed or empty.
    """
    parts: list[Part] = []
    plain, begin, at = "", 0, 0
    while (found := text.find("${{", at)) >= 0:
        if found > 0 and text[found - 1] == "$":
            plain += text[at : found - 1] + "${{"
            at = found + 3
            continue
        plain += text[at:found]
        if plain:
            parts.append(Part(text=plain, is_expression=False, at=begin))
        end = scan_end(text, found + 3)
        if end < 0:
            raise ScanError("CND050", "`${{` is not closed by `}}`", found)
        source = text[found + 3 : end]
        if not source.strip():
            raise ScanError("CND050", "the expression is empty", found)
        lead = len(source) - len(source.lstrip())
        parts.append(Part(text=source.strip(), is_expression=True, at=found + 3 + lead))
        plain, at = "", end + 2
        begin = at
    plain += text[at:]
    if plain or not parts:
        parts.append(Part(text=plain, is_expression=False, at=begin))
    return tuple(parts)


def compile_expression(source: str) -> CelExpression:
    """Compile; evaluates nothing.

    Raises:
        ScanError: It is not CEL, or more than allowed; says where.
    """
    source = source.strip()
    names = scan(source)
    try:
        program = cel.compile(source)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a Rust panic is a BaseException
        raise _syntax_error(source, str(error)) from None
    return CelExpression(source, names, program)


def format_value(value: Json, source: str) -> str:
    """A value inside a text: text as it is, `true`, `3`, lists and objects as JSON.

    Raises:
        ExpressionError: It is null, which no text stands for.
    """
    if value is None:
        raise EvaluationError(
            f"${{{{ {source} }}}} is null inside a text: no text stands for null; choose one by `x == null ? '-' : x`",
            fault=Fault.VALUE,
        )
    return value if isinstance(value, str) else canonical(value)


class _Budget:
    """Counts values and characters, also of nested ones."""

    def __init__(self) -> None:
        self.items = 0
        self.characters = 0

    def add(self, value: Json) -> None:
        stack = [value]
        while stack:
            item = stack.pop()
            self.items += 1
            if self.items > _MAX_ITEMS:
                return
            if isinstance(item, str):
                self.characters += len(item)
            elif isinstance(item, Mapping):
                self.characters += sum(map(len, item))
                stack.extend(item.values())
            elif isinstance(item, list | tuple):
                stack.extend(item)


def _put(chosen: dict[str, Json], context: Mapping[str, Json], path: tuple[str, ...]) -> Json:
    """Copy the value at `path` into `chosen` as far as it exists; returns what was copied."""
    source: Json = context
    target = chosen
    for depth, step in enumerate(path):
        if not isinstance(source, Mapping):
            return None
        if step not in source:
            # A node that has not ended has no facts yet; `has(nodes.x.outputs.y)` shall say false, not fail.
            if depth == 1 and path[0] == "nodes":
                target.setdefault(step, {"outputs": {}})
            return None
        source = source[step]
        if depth == len(path) - 1 or not isinstance(source, Mapping):
            target[step] = source
            return source
        below = target.setdefault(step, {})
        if not isinstance(below, dict) or below is source:
            return None
        target = below
    return None


def _explain(source: str, error: BaseException) -> EvaluationError:
    says = str(error).split(" CEL does not", 1)[0].split("\n", 1)[0].strip().rstrip(".")
    head = f"${{{{ {source} }}}} failed: "
    match error:
        case KeyError():
            message = f"there is no value {says}; guard it with `has(...)` (a skipped or failed node has no outputs)"
            return EvaluationError(head + message, fault=Fault.MISSING)
        case TypeError():
            return EvaluationError(f"{head}{says}; convert with int(), double() or string()", fault=Fault.TYPE)
        case RuntimeError() if "Undefined variable or function" in says:
            name = says.split("'")[1] if "'" in says else "?"
            message = f"`{name}` is unknown, or does not take values of these types; check its arguments"
            return EvaluationError(head + message, fault=Fault.TYPE)
        case ValueError() | ArithmeticError() | LookupError() | RuntimeError():
            return EvaluationError(f"{head}{says}; check the values", fault=Fault.VALUE)
        case _:
            return EvaluationError(f"{head}the evaluator gave up; simplify the expression", fault=Fault.VALUE)


def _syntax_error(source: str, says: str) -> ScanError:
    match = _SYNTAX.search(says)
    if match is None:
        return ScanError("CND050", "not a CEL expression, or nested too deeply", 0)
    lines = source.split("\n")
    row, column = int(match[1]) - 1, int(match[2]) - 1
    at = sum(len(line) + 1 for line in lines[:row]) + column
    reason = match[3].split(" expecting ")[0].replace("'<EOF>'", "the end")
    return ScanError("CND050", f"not a CEL expression: {reason}", min(at, len(source)))


def _plain(value: object, source: str, budget: _Budget, depth: int = 0) -> Json:
    budget.items += 1
    if budget.items > _MAX_RESULT_ITEMS or depth > _MAX_DEPTH:
        raise EvaluationError(f"${{{{ {source} }}}} gave too large a value; narrow it", fault=Fault.SIZE)
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return f"{value.total_seconds():g}s"
        case list() | tuple():
            return [_plain(item, source, budget, depth + 1) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item, source, budget, depth + 1) for key, item in value.items()}
        case float():
            raise EvaluationError(f"${{{{ {source} }}}} gave {value}, which is no number; check it", fault=Fault.VALUE)
        case _:
            raise EvaluationError(
                f"${{{{ {source} }}}} gave a {type(value).__name__}, which JSON does not have; convert it",
                fault=Fault.TYPE,
            )
