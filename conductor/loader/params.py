"""A pipeline's parameters as expressions see them. Values are checked by `conductor.core.params`."""

from __future__ import annotations

from conductor.core.vendor import Json
from conductor.loader.types import ANY, Schema

__all__ = ["param_schema"]

_JSON_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


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
