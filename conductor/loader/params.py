"""A pipeline's parameters: do values fit their declared types, and what a run gets in the end. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from conductor.core.errors import RequestError
from conductor.core.plan import Plan
from conductor.core.vendor import Json
from conductor.loader.diagnostics import did_you_mean
from conductor.loader.types import ANY, Schema

__all__ = ["bind_params", "fitted", "param_schema", "parse_param"]

_JSON_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


def fitted(type_: str, value: Json) -> Json:
    """`value` as its type; a whole number given for a `number` becomes a float, so that CEL sees one type.

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


def parse_param(type_: str, text: str) -> Json:
    """A value from text, as command lines give it.

    Raises:
        ValueError: It does not fit; says what was expected.
    """
    if type_ == "string":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        raise ValueError(f"expected {type_} written as JSON, found `{text[:60]}`") from None
    return fitted(type_, value)


def bind_params(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """The parameters of one run: what was given, checked, over the defaults.

    Raises:
        RequestError: A name is unknown, a value does not fit, or a required one is missing; all are named at once.
    """
    problems = []
    values = {name: value for name, value in plan.params.items() if name not in plan.required_params}
    for name, value in given.items():
        if name not in plan.param_types:
            hint = did_you_mean(name, plan.param_types)
            problems.append(f"`{name}` is not a parameter{f' ({hint})' if hint else ''}")
            continue
        try:
            values[name] = fitted(plan.param_types[name], value)
        except ValueError as error:
            problems.append(f"`{name}`: {error}")
    problems += [f"`{name}` is required" for name in sorted(plan.required_params - given.keys())]
    if problems:
        accepted = ", ".join(f"{name} ({type_})" for name, type_ in plan.param_types.items()) or "none"
        raise RequestError(
            f"pipeline `{plan.name}` cannot run with these parameters: {'; '.join(problems)}; it accepts: {accepted}"
        )
    return {name: values[name] for name in plan.param_types}


def param_schema(type_: str, *, default: Json, has_default: bool) -> Schema:
    """The type as expressions see it; the default stands as the sample."""
    base: dict[str, object] = {"type": _JSON_TYPES[type_]} if type_ in _JSON_TYPES else dict(ANY)
    if has_default:
        base["sample"] = default
    elif type_ == "list":
        base["sample"] = []
    elif type_ == "object":
        base["sample"] = {}
    return base


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
