"""What types expressions may meet: JSON Schemas of the context, samples of them, whether a name exists. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conductor.core.vendor import Json

__all__ = ["ANY", "FLAVOURS", "RUN_TYPES", "Found", "Schema", "Unknown", "find_type", "object_type", "sample"]

Schema = Mapping[str, object]

ANY: Schema = {}
FLAVOURS = (0, 1)
"""Samples come in two: booleans differ, so that both arms of a condition are tried."""
_MAX_DEPTH = 8
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_TEXTS = {
    "date-time": "2026-01-05T06:00:00+00:00", "date": "2026-01-05", "time": "06:00:00", "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000", "uri": "https://example.com/",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A name exists.

    Attributes:
        is_certain: Its type is known, so a sample stands for every value.
    """

    is_certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A name does not exist.

    Attributes:
        depth: How many of its parts exist.
        names: What exists in that place.
    """

    depth: int
    names: tuple[str, ...]


def object_type(properties: Mapping[str, Schema]) -> Schema:
    """An object with exactly these fields."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


_TEXT: Schema = {"type": "string"}
_INSTANT: Schema = {"type": "string", "format": "date-time"}

RUN_TYPES: Schema = object_type(
    {
        "id": _TEXT,
        "date": {"type": "string", "format": "date"},
        "logical_time": _INSTANT,
        "scheduled_for": _INSTANT,
        "trigger": _TEXT,
        "attempt": {"type": "integer"},
        "is_backfill": {"type": "boolean"},
    }
)
"""The fields of `run`, as `core.context.build_context` makes them."""


def find_type(schema: Schema, path: tuple[str, ...]) -> Found | Unknown:
    """Follow `path` through a schema."""
    root = schema
    for depth, step in enumerate(path):
        schema, root = _settle(schema, root)
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and step in properties:
            schema = properties[step]
        elif schema.get("type") == "object" and schema.get("additionalProperties") is False:
            return Unknown(depth=depth, names=tuple(properties) if isinstance(properties, Mapping) else ())
        elif schema.get("type") in _SCALARS:
            return Unknown(depth=depth, names=())
        else:
            return Found(is_certain=False)
    schema, _ = _settle(schema, root)
    return Found(is_certain=schema.get("type") in _SCALARS)


def sample(schema: Schema, flavour: int) -> Json:
    """A value of the type; numbers are positive, texts are not empty."""
    return _sample(schema, schema, flavour, 0)


def _sample(schema: Schema, root: Schema, flavour: int, depth: int) -> Json:
    schema, root = _settle(schema, root)
    if "sample" in schema:
        return schema["sample"]
    if "const" in schema:
        return schema["const"]
    words = schema.get("enum")
    if isinstance(words, list) and words:
        return words[0] if flavour == 0 else words[-1]
    properties = schema.get("properties")
    match schema.get("type"):
        case "boolean":
            return flavour == 1
        case "integer":
            return flavour + 1
        case "number":
            return flavour + 1.5
        case "string":
            return _TEXTS.get(str(schema.get("format")), "sample")
        case "array":
            return []
        case "object" if isinstance(properties, Mapping) and depth < _MAX_DEPTH:
            return {name: _sample(inner, root, flavour, depth + 1) for name, inner in properties.items()}
        case "object":
            return {}
        case _:
            return None


def _settle(schema: Schema, root: Schema) -> tuple[Schema, Schema]:
    """Follow references; a union of one type and null is that type, any other union is anything."""
    for _ in range(_MAX_DEPTH):
        if "$defs" in schema:
            root = schema
        target = schema.get("$ref")
        options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
        if isinstance(target, str):
            definitions = root.get("$defs")
            found = definitions.get(target.rpartition("/")[2]) if isinstance(definitions, Mapping) else None
            schema = found if isinstance(found, Mapping) else ANY
        elif isinstance(options, list):
            real = [option for option in options if option.get("type") != "null"]
            schema = real[0] if len(real) == 1 else ANY
        else:
            return schema, root
    return ANY, root
