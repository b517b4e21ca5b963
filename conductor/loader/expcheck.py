"""Checks expressions at load: syntax, names, ancestry, types on samples. Reports; never raises for a user's text."""

from __future__ import annotations

from conductor.core.vendor import Json
from conductor.loader.celscan import FUNCTIONS, METHODS, Reference, ScanError
from conductor.loader.expressions import CelExpression, EvaluationError, Fault, compile_expression
from conductor.loader.scope import Scope
from conductor.loader.source import Where
from conductor.loader.templates import Hole, holes_in
from conductor.loader.types import Found, find_type

__all__ = ["check_condition", "check_text", "is_certain", "try_on_samples"]

_FORBIDDEN = frozenset({"secret", "env_var", "item", "partition"})
_ROOTS = ("params", "run", "nodes", "pipeline", "env")


def check_text(scope: Scope, node: str, text: str, where: Where, inside: Where) -> Hole | None:
    """Compile and check one text of a node's settings; None when it is wrong.

    Args:
        scope: The pipeline.
        node: The node whose text it is.
        text: Holds `${{`.
        where: Its place in the file.
        inside: Its place in the node's settings.
    """
    try:
        hole = holes_in(text, inside)
    except ScanError as error:
        _report_at(scope, error.code, str(error), where, offset=error.at, length=1)
        return None
    is_right = True
    for at, piece in enumerate(hole.pieces):
        if isinstance(piece, CelExpression):
            is_right &= _check_names(scope, node, piece, where, hole.offsets[at])
    return hole if is_right else None


def check_condition(scope: Scope, node: str, *, written: bool | str, where: Where) -> CelExpression | None:
    """The compiled `if`; None for true, and when it is wrong."""
    if written is True:
        return None
    if written is False:
        return compile_expression("false")
    if "${{" not in written:
        help_text = f"write `if: ${{{{ {written[:60]} }}}}`"
        scope.report.add("CND050", "`if` is not an expression", where, help_text=help_text)
        return None
    hole = check_text(scope, node, written, where, ())
    if hole is None:
        return None
    condition = hole.pieces[0]
    if not hole.is_whole or not isinstance(condition, CelExpression):
        scope.report.add(
            "CND050", "`if` is text around an expression", where, help_text="write one `${{ ... }}`, alone"
        )
        return None
    values = try_on_samples(scope, hole, where)
    if values and is_certain(scope, condition) and not any(isinstance(value, bool) for value in values):
        found = f"`if` gives {values[0]!r:.40}, not true or false"
        scope.report.add("CND055", found, where, help_text="compare it, for example with `== 0`")
    return condition


def try_on_samples(scope: Scope, hole: Hole, where: Where) -> list[Json]:
    """The values on the samples; a failure that no value of these types could avoid is reported."""
    values: list[Json] = []
    for at, piece in enumerate(hole.pieces):
        if not isinstance(piece, CelExpression):
            continue
        values = []
        for context in scope.samples:
            try:
                values.append(piece.evaluate(context))
            except EvaluationError as error:
                if error.fault is Fault.TYPE and is_certain(scope, piece):
                    _report_at(scope, "CND053", str(error), where, offset=hole.offsets[at], length=len(piece.source))
                    return []
    return values


def is_certain(scope: Scope, expression: CelExpression) -> bool:
    """The types of all names in it are known, so samples stand for every value."""
    for reference in expression.names.references:
        found = find_type(scope.types, reference.path)
        if not isinstance(found, Found) or not found.is_certain:
            return False
    return True


def _check_names(scope: Scope, node: str, expression: CelExpression, where: Where, offset: int) -> bool:
    is_right = True
    for call in expression.names.calls:
        known = METHODS if call.is_method else FUNCTIONS
        if call.name in known:
            continue
        is_right = False
        code = "CND043" if call.name in _FORBIDDEN and not call.is_method else "CND051"
        help_text = "secrets and variables stand in connections.yml" if code == "CND043" else ""
        help_text = help_text or scope.report.suggest(call.name, known)
        message = f"`{call.name}` is not a function here"
        at = offset + call.at
        _report_at(scope, code, message, where, offset=at, length=len(call.name), help_text=help_text)
    for reference in expression.names.references:
        is_right &= _check_reference(scope, node, reference, where, offset)
    return is_right


def _check_reference(scope: Scope, node: str, reference: Reference, where: Where, offset: int) -> bool:
    at = offset + reference.at
    path = reference.path
    if path[0] == "nodes" and len(path) > 1 and path[1] in scope.written:
        if not scope.ancestry.has(above=path[1], below=node):
            message = f"`{node}` does not depend on `{path[1]}`, so that need not have ended"
            help_text = (
                f"add `{path[1]}` to its `depends_on`" if path[1] != node else "a node cannot use its own outputs"
            )
            _report_at(scope, "CND052", message, where, offset=at, length=reference.length, help_text=help_text)
            return False
        if path[1] not in scope.file.nodes:
            return True  # its own mistake is reported already
    found = find_type(scope.types, path)
    if isinstance(found, Found):
        return True
    if path[0] == "params" and len(path) > 1 and path[1] not in scope.file.params and found.depth == 1:
        message = f"`{path[1]}` is not a parameter of this pipeline"
    elif path[0] == "nodes" and len(path) > 1 and found.depth == 1:
        message = f"`{path[1]}` is not a node of this pipeline"
    else:
        message = f"`{path[found.depth]}` is unknown" + (
            f" in `{'.'.join(path[: found.depth])}`" if found.depth else ""
        )
    names = found.names if found.depth else _ROOTS
    help_text = scope.report.suggest(path[found.depth], names) or _offer(path, found.depth, names)
    _report_at(scope, "CND051", message, where, offset=at, length=reference.length, help_text=help_text)
    return False


def _offer(path: tuple[str, ...], depth: int, names: tuple[str, ...]) -> str:
    if path[0] in {"item", "partition"} and depth == 0:
        return "fan-out and partitions are not supported in this version"
    if path[0] == "nodes" and depth == 1 and any(name.startswith(f"{path[1]}-") for name in names):
        return "an id with a dash is written `nodes['a-b']`"
    return f"known here: {', '.join(names[:20])}" if names else "it has no fields"


def _report_at(
    scope: Scope, code: str, message: str, where: Where, *, offset: int, length: int, help_text: str = ""
) -> None:
    """Report at an offset in a text, if the text stands in the file as it is; at the whole value otherwise."""
    source = scope.report.source
    mark = source.mark(where)
    span = None
    if mark is not None:
        raw = source.text[mark.start : mark.end]
        lead = 1 if raw[:1] in {'"', "'"} else 0
        if "\n" not in raw and "\\" not in raw and "''" not in raw[1:-1]:
            span = (mark.start + lead + offset, max(1, length))
    scope.report.add(code, message, where, span=span, help_text=help_text)
