"""A node's `with`, compiled: constants are rendered once at load, the rest from a run's values. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from conductor.core.errors import ExpressionError
from conductor.core.plan import Rendered
from conductor.core.vendor import Json
from conductor.loader.expressions import CelExpression, compile_expression, find_expressions, format_value
from conductor.loader.problems import lookup, plain_message
from conductor.loader.source import Where
from conductor.sdk.plugin import Operation

__all__ = ["Hole", "SettingsTemplate", "has_expression", "holes_in", "render_constant", "strings_in"]

_SHOWN = 3


@dataclass(slots=True, kw_only=True)
class Hole:
    """A text with expressions in a node's settings.

    Attributes:
        where: Its place in the settings.
        pieces: Plain texts and expressions, in order.
        offsets: Where each expression begins in the text, by its index in `pieces`.
    """

    where: Where
    pieces: tuple[str | CelExpression, ...]
    offsets: Mapping[int, int] = field(compare=False, default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """It is one expression and nothing else, so the value keeps its type."""
        return len(self.pieces) == 1 and isinstance(self.pieces[0], CelExpression)

    def fill(self, context: Mapping[str, Json]) -> Json:
        """The value or text.

        Raises:
            ExpressionError: An expression fails.
        """
        first = self.pieces[0]
        if len(self.pieces) == 1:
            return first.evaluate(context) if isinstance(first, CelExpression) else first
        return "".join(
            piece if isinstance(piece, str) else format_value(piece.evaluate(context), piece.source)
            for piece in self.pieces
        )


# Not frozen: core.plan.Template declares `constant` as a plain attribute, which a read-only field would not satisfy.
@dataclass(slots=True, kw_only=True)
class SettingsTemplate:
    """Implements `core.plan.Template`. Equal to another of the same operation and text.

    Attributes:
        operation: Whose model the result must fit.
        written: The `with` as JSON.
        constant: The result where there is no expression.
        holes: Where the expressions are.
    """

    operation: Operation = field(repr=False)
    written: Mapping[str, Json]
    constant: Rendered | None = None
    holes: tuple[Hole, ...] = ()

    def render(self, context: Mapping[str, Json]) -> Rendered:
        """The settings on `context`; pure.

        Raises:
            ExpressionError: An expression fails or the result does not fit the operation's model.
        """
        if self.constant is not None:
            return self.constant
        values = self.fill(context)
        try:
            return render_constant(self.operation, values)
        except ValidationError as error:
            raise ExpressionError(_misfit(self.operation.name, error, values)) from None

    def fill(self, context: Mapping[str, Json]) -> Mapping[str, Json]:
        """The settings on `context`, not validated.

        Raises:
            ExpressionError: An expression fails.
        """
        filled = {hole.where: hole.fill(context) for hole in self.holes}
        return {name: _fill(value, (name,), filled) for name, value in self.written.items()}


def render_constant(operation: Operation, values: Mapping[str, Json]) -> Rendered:
    """Validate and dump to JSON, by the names that users write, so that validating again gives the same.

    Raises:
        ValidationError: The values do not fit the operation's model.
    """
    settings = operation.settings.model_validate(values).model_dump(mode="json", by_alias=True)
    return Rendered(settings=settings, scope=operation.scope(settings))


def holes_in(value: Json, where: Where) -> Hole:
    """Compile one text.

    Raises:
        ScanError: An expression is wrong; its offset is relative to the text.
    """
    parts = find_expressions(str(value))
    pieces = tuple(compile_expression(part.text) if part.is_expression else part.text for part in parts)
    return Hole(
        where=where, pieces=pieces, offsets={at: part.at for at, part in enumerate(parts) if part.is_expression}
    )


def strings_in(value: Json, where: Where = ()) -> Iterator[tuple[Where, str]]:
    """Every text in a value with its place, in the order written; keys not included."""
    stack: list[tuple[Where, Json]] = [(where, value)]
    while stack:
        at, item = stack.pop()
        if isinstance(item, str):
            yield at, item
        elif isinstance(item, Mapping):
            stack.extend(((*at, name), item[name]) for name in reversed(list(item)))
        elif isinstance(item, list):
            stack.extend(((*at, index), item[index]) for index in range(len(item) - 1, -1, -1))


def has_expression(value: Json) -> bool:
    """True when some text in it holds `${{`, escaped or not."""
    return any("${{" in text for _, text in strings_in(value))


def _fill(value: Json, where: Where, filled: Mapping[Where, Json]) -> Json:
    if where in filled:
        return filled[where]
    if isinstance(value, Mapping):
        return {name: _fill(inner, (*where, name), filled) for name, inner in value.items()}
    if isinstance(value, list):
        return [_fill(inner, (*where, index), filled) for index, inner in enumerate(value)]
    return value


def _misfit(operation: str, error: ValidationError, values: Mapping[str, Json]) -> str:
    errors = error.errors(include_url=False, include_input=False)
    shown = []
    for item in errors[:_SHOWN]:
        found = plain_message(item["type"], item["msg"], lookup(values, item["loc"]))
        shown.append(f"`{'.'.join(map(str, item['loc']))}`: {found}" if item["loc"] else found)
    more = f" and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return f"the settings of `{operation}` do not fit: {'; '.join(shown)}{more}; correct `with` or the run's parameters"
