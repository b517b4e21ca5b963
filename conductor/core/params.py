"""Parameters of a run: do values fit their declared types, and what a run gets in the end. Pure."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping

from conductor.core.errors import ConflictError
from conductor.core.plan import Plan
from conductor.core.vendor import Json

__all__ = ["bind_params", "fitted", "parse_param"]


def fitted(type_: str, value: Json) -> Json:
    """`value` as its type; a whole number given for a `number` becomes a float, so that expressions see one type.

    Raises:
        ValueError: It does not fit; says what was expected.
    """
    match type_, value:
        case "string", str():
            return value
        case "boolean", bool():
            return value
        case (("integer" | "number"), bool()):
            pass
        case "integer", int() if -(2**63) <= value < 2**63:
            return value
        case "number", int() | float() if math.isfinite(value):
            return float(value)
        case "list", list():
            return value
        case "object", Mapping():
            return dict(value)
        case _:
            pass
    raise ValueError(f"expected {type_}, found {_kind(value)}")


def parse_param(plan: Plan, name: str, text: str) -> Json:
    """A parameter's value from text, as command lines give it. Unknown names stay text: `bind_params` names them.

    Raises:
        ConflictError: The text does not read as the declared type.
    """
    type_ = plan.param_types.get(name, "string")
    if type_ == "string":
        return text
    try:
        return fitted(type_, json.loads(text))
    except ValueError as error:
        why = f"{error}" if str(error).startswith("expected") else f"expected {type_} written as JSON"
        raise ConflictError(f"parameter `{name}` of pipeline `{plan.name}` is `{text[:60]}`: {why}") from None


def bind_params(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """The parameters of one run: what was given, checked, over the defaults.

    Raises:
        ConflictError: A name is unknown, a value does not fit, or a required one is missing; all are named at once.
    """
    problems = []
    values = {name: value for name, value in plan.params.items() if name not in plan.required_params}
    for name, value in given.items():
        if name not in plan.param_types:
            near = difflib.get_close_matches(name, plan.param_types, n=1)
            problems.append(f"`{name}` is not a parameter" + (f" (did you mean `{near[0]}`?)" if near else ""))
            continue
        try:
            values[name] = fitted(plan.param_types[name], value)
        except ValueError as error:
            problems.append(f"`{name}`: {error}")
    problems += [f"`{name}` is required" for name in sorted(plan.required_params - given.keys())]
    if problems:
        accepted = ", ".join(f"{name} ({type_})" for name, type_ in plan.param_types.items()) or "none"
        raise ConflictError(
            f"pipeline `{plan.name}` cannot run with these parameters: {'; '.join(problems)}; it accepts: {accepted}"
        )
    return {name: values[name] for name in plan.param_types}


def _kind(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "object"
