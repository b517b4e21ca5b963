"""Pure: from what a query returned to a verdict, in our words. Anything but a clear pass is no success."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation

from conductor.core.vendor import ExternalState, Json, Observation
from conductor.sdk import ErrorClass, ErrorInfo
from integrations.sql.config import Assertion, GateSettings
from integrations.sql.database import QueryResult

__all__ = ["failed", "judge", "json_value", "table"]

_LONGEST_CELL = 60
_LONGEST_VALUE = 500
_LONGEST_TABLE = 15_000
_LARGEST_EXPONENT = 30

Comparable = Decimal | datetime | str


def judge(settings: GateSettings, result: QueryResult) -> Observation:
    """The verdict of a gate: passed, or failed or warned with what was expected, what came and the rows."""
    if settings.assertion is None:
        count = f"more than {result.row_count}" if result.has_more else str(result.row_count)
        expected = None if result.row_count == 0 else f"expected no rows, {count} came back"
        return _verdict(settings, result, problem=expected, value=None)
    if result.row_count != 1 or len(result.columns) != 1:
        return failed(
            ErrorInfo(
                error_class=ErrorClass.CONFIG,
                message=f"an assertion needs one row with one column; the query returned {result.row_count} rows "
                f"with {len(result.columns)} columns: aggregate it, such as SELECT count(*)",
            )
        )
    value = result.rows[0][0]
    problem = _problem(settings.assertion, value)
    if isinstance(problem, ErrorInfo):
        return failed(problem)
    return _verdict(settings, result, problem=problem, value=json_value(value))


def failed(info: ErrorInfo) -> Observation:
    """The verdict where the question itself cannot be answered; `severity: warn` does not soften it."""
    return Observation(state=ExternalState.FAILED, word="error", message=info.message, error=info)


def _verdict(settings: GateSettings, result: QueryResult, *, problem: str | None, value: Json) -> Observation:
    shown = result.rows[: settings.max_rows]
    outputs: dict[str, Json] = {
        "row_count": result.row_count,
        "value": value,
        "rows": [dict(zip(_names(result.columns), map(json_value, row), strict=True)) for row in shown],
    }
    if problem is None:
        return Observation(state=ExternalState.SUCCEEDED, word="passed", message="the gate passed", outputs=outputs)
    message = f"{settings.message}: {problem}" if settings.message else f"the gate did not pass: {problem}"
    detail = table(result.columns, shown, row_count=result.row_count, has_more=result.has_more)
    is_warning = settings.severity == "warn"
    return Observation(
        state=ExternalState.WARNED if is_warning else ExternalState.FAILED,
        word="warned" if is_warning else "failed",
        message=message,
        outputs=outputs,
        error=ErrorInfo(error_class=ErrorClass.DATA, message=message, detail=detail or None),
    )


def _problem(assertion: Assertion, value: object) -> str | ErrorInfo | None:
    """What is wrong with `value`; None when it is as asserted; an error when the two cannot be compared."""
    bounds = {
        "equal to": assertion.equals,
        "at least": assertion.at_least,
        "at most": assertion.at_most,
    }
    if assertion.between is not None:
        bounds |= {"at least": assertion.between[0], "at most": assertion.between[1]}
    for relation, bound in bounds.items():
        if bound is None:
            continue
        expected = f"expected a value {relation} {bound}"
        if value is None:
            return f"{expected}, got no value (NULL)"
        pair = _pair(value, bound)
        if pair is None:
            return ErrorInfo(
                error_class=ErrorClass.CONFIG,
                message=f"{expected}, but {str(json_value(value))[:100]!r} ({type(value).__name__}) cannot be compared "
                "with it: cast the value in the query",
            )
        if not _holds(relation, *pair):
            return f"{expected}, got {str(json_value(value))[:200]}"
    return None


def _holds(relation: str, value: Comparable, bound: Comparable) -> bool:
    if isinstance(value, Decimal) and value.is_nan():
        return False
    match relation:
        case "equal to":
            return value == bound
        case "at least":
            return value >= bound  # type: ignore[operator]  # `_pair` gives two of one kind.
        case _:
            return value <= bound  # type: ignore[operator]


def _pair(value: object, bound: object) -> tuple[Comparable, Comparable] | None:
    """Both sides as one kind: numbers, instants or texts; None where they have none in common."""
    if isinstance(value, date):
        instant = _instant(bound)
        return None if instant is None else (_utc(value), instant)
    if isinstance(bound, str):
        return (value, bound) if isinstance(value, str) else None
    number, limit = _number(value), _number(bound)
    return None if number is None or limit is None else (number, limit)


def _number(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool | int | float):
        return Decimal(int(value)) if isinstance(value, bool) else Decimal(str(value))
    if isinstance(value, str):
        try:
            return Decimal(value.strip())
        except InvalidOperation:
            return None
    return None


def _instant(bound: object) -> datetime | None:
    if not isinstance(bound, str):
        return None
    try:
        return _utc(datetime.fromisoformat(bound.strip()))
    except ValueError:
        return None


def _utc(value: date) -> datetime:
    instant = value if isinstance(value, datetime) else datetime.combine(value, time())
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def json_value(value: object) -> Json:
    """A database value as JSON: numbers stay numbers where JSON has them, times are ISO 8601, the rest is text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Decimal():
            if not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
                return str(value)
            return int(value) if value == value.to_integral_value() else float(value)
        case date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value)[:64].hex()
        case _:
            text = str(value).encode("utf-8", errors="replace").decode().replace("\x00", "?")
            return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _names(columns: Sequence[str]) -> list[str]:
    """The column names, made different where a query gives one twice."""
    names: list[str] = []
    for column in columns:
        name, no = column, 2
        while name in names:
            name, no = f"{column}_{no}", no + 1
        names.append(name)
    return names


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, row_count: int, has_more: bool = False) -> str:
    """The rows as aligned text, numbers to the right; says how many more there are."""
    if not rows:
        return ""
    cells = [[_cell(value) for value in row] for row in rows]
    heads = [_cell(name) for name in _names(columns)]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    rights = [all(_is_number(row[at]) for row in rows) for at in range(len(heads))]
    lines = [_line(line, widths, rights) for line in [heads, ["-" * width for width in widths], *cells]]
    hidden = row_count - len(rows)
    if hidden > 0:
        lines.append(f"… and {'more than ' if has_more else ''}{hidden} more rows")
    text = "\n".join(lines)
    return text if len(text) <= _LONGEST_TABLE else f"{text[:_LONGEST_TABLE].rpartition(chr(10))[0]}\n… cut off"


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if is_right else cell.ljust(width)
        for cell, width, is_right in zip(cells, widths, rights, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    shown = json_value(value)
    text = "NULL" if shown is None else str(shown)
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))
