"""Parameters of a run: the values given, checked against what the pipeline declares, defaults filled in. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from conductor.core.errors import ConflictError
from conductor.core.plan import Plan
from conductor.core.vendor import Json

__all__ = ["check_params", "parse_param"]

_TRUE = frozenset({"true", "yes", "1"})
_FALSE = frozenset({"false", "no", "0"})


def check_params(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """Every parameter's value.

    Raises:
        ConflictError: One is missing, unknown, or of another type; says which and what is accepted.
    """
    for name in given:
        if name not in plan.param_types:
            near = difflib.get_close_matches(name, plan.param_types, n=1)
            hint = f": did you mean {near[0]}?" if near else f"; it has {', '.join(plan.param_types) or 'none'}"
            raise ConflictError(f"pipeline {plan.name} has no parameter {name!r}{hint}")
    missing = sorted(plan.required_params - set(given))
    if missing:
        raise ConflictError(f"pipeline {plan.name} needs parameter {missing[0]!r}: give it with -p {missing[0]}=…")
    for name, value in given.items():
        kind = plan.param_types[name]
        if not _fits(value, kind):
            raise ConflictError(f"parameter {name!r} of pipeline {plan.name} must be a {kind}, not {value!r}")
    return {**plan.params, **given}


def _fits(value: Json, kind: str) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "list":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def parse_param(plan: Plan, name: str, text: str) -> Json:
    """The value of a parameter written as text, such as on a command line; unknown names stay text.

    Raises:
        ConflictError: The text does not read as the declared type.
    """
    import json

    kind = plan.param_types.get(name, "string")
    if kind == "string":
        return text
    if kind == "boolean":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ConflictError(f"parameter {name!r} must be true or false, not {text!r}")
    try:
        value: Json = json.loads(text)
    except ValueError:
        raise ConflictError(f"parameter {name!r} must be a {kind} written as JSON, not {text!r}") from None
    return value
