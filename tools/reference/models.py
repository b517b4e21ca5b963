"""Tables of fields, from the pydantic models that read what users write: name, type, default, description."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TypeGuard, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from conductor.loader.durations import PATTERN, format_duration
from tools.reference.source import cell, heading_anchor, member_lines, one_line, table

__all__ = ["enums_in", "fields_table", "model_sections", "models_below", "says", "word_sections"]

_Schema = Mapping[str, object]
_LONGEST_DEFAULT = 60
_PLAIN = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean", "null": "null"}


def fields_table(model: type[BaseModel], *, heading: Callable[[str], str] = str) -> str:
    """The fields of `model`, its own before those that it inherits.

    Args:
        model: What a user writes.
        heading: The heading under which a nested model's table stands; links lead there.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    definitions = _mapping(schema.get("$defs"))
    properties = _mapping(schema.get("properties"))
    rows = []
    for name in _own_first(model):
        field = model.model_fields[name]
        written = field.alias or name
        body = _mapping(properties[written])
        type_ = _type(body, definitions, heading)
        default = _default(field, is_duration=_is_duration(body))
        rows.append((f"`{written}`", type_, default, field.description or ""))
    return table(("Field", "Type", "Default", "Meaning"), rows)


def model_sections(models: Sequence[type[BaseModel]], *, level: int, heading: Callable[[str], str] = str) -> str:
    """A section for each model: its heading, its docstring, its fields."""
    return "\n".join(
        f"{'#' * level} {heading(model.__name__)}\n\n{says(model)}{fields_table(model, heading=heading)}"
        for model in models
    )


def models_below(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models in the fields of `model`, and theirs, in the order of reading; without itself."""
    found: list[type[BaseModel]] = []
    _gather(model, found)
    return found[1:]


def enums_in(models: Sequence[type[BaseModel]]) -> list[type[StrEnum]]:
    """The enumerations in the fields of `models`, in the order of reading."""
    found: dict[type[StrEnum], None] = {}
    for model in models:
        for name in _own_first(model):
            for part in _parts(model.model_fields[name].annotation):
                if isinstance(part, type) and issubclass(part, StrEnum):
                    found.setdefault(part)
    return list(found)


def word_sections(enums: Sequence[type[StrEnum]], *, titles: Mapping[str, str], level: int) -> str:
    """A section for each enumeration: every word with its line. `titles` maps class names to headings."""
    parts = []
    for enum in enums:
        rows = [(f"`{word}`", says) for word, says in member_lines(enum.__module__, enum.__name__).items()]
        title = titles.get(enum.__name__, enum.__name__)
        parts.append(f"{'#' * level} {title}\n\n{table(('Word', 'Meaning'), rows)}")
    return "\n".join(parts)


def says(model: type[BaseModel]) -> str:
    """The first paragraph of the model's own docstring, with an empty line after it; empty when it has none."""
    text = one_line((model.__dict__.get("__doc__") or "").split("\n\n")[0])
    return f"{text}\n\n" if text else ""


def _own_first(model: type[BaseModel]) -> list[str]:
    own = [name for name in inspect.get_annotations(model) if name in model.model_fields]
    return [*own, *(name for name in model.model_fields if name not in own)]


def _gather(model: type[BaseModel], found: list[type[BaseModel]]) -> None:
    if model in found:
        return
    found.append(model)
    for name in _own_first(model):
        for part in _parts(model.model_fields[name].annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                _gather(part, found)


def _parts(annotation: object) -> Iterator[object]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _parts(part)


def _mapping(value: object) -> _Schema:
    return value if isinstance(value, Mapping) else {}


def _is_duration(body: _Schema) -> bool:
    return any(one.get("pattern") == PATTERN for one in (body, *map(_mapping, _list(body.get("anyOf")))))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _type(body: _Schema, definitions: _Schema, heading: Callable[[str], str]) -> str:
    reference = body.get("$ref")
    if isinstance(reference, str):
        name = reference.rpartition("/")[2]
        target = _mapping(definitions[name])
        if "enum" in target:
            return _words(_list(target["enum"]))
        if "properties" not in target:
            return _type(target, definitions, heading)
        return f"[{heading(name)}](#{heading_anchor(heading(name))})"
    if "anyOf" in body:
        parts = [_type(_mapping(one), definitions, heading) for one in _list(body["anyOf"])]
        return " or ".join(dict.fromkeys(part for part in parts if part != "null"))
    if "allOf" in body:
        return _type(_mapping(_list(body["allOf"])[0]), definitions, heading)
    if "const" in body:
        return _words([body["const"]])
    if "enum" in body:
        return _words(_list(body["enum"]))
    return _plain_type(body, definitions, heading)


def _plain_type(body: _Schema, definitions: _Schema, heading: Callable[[str], str]) -> str:
    match body.get("type"):
        case "array":
            items = body.get("items") or next(iter(_list(body.get("prefixItems"))), {})
            return f"list of {_type(_mapping(items), definitions, heading)}"
        case "object":
            patterns = _mapping(body.get("patternProperties"))
            values = body.get("additionalProperties") or next(iter(patterns.values()), None)
            return f"map to {_type(values, definitions, heading)}" if _is_schema(values) else "map"
        case "string" if body.get("format") == "password":
            return "secret"
        case "string" if body.get("format") == "date-time":
            return "instant"
        case "string" if _is_duration(body):
            return "duration"
        case str(plain):
            return _PLAIN[plain] + _range(body)
        case _:
            return "any value"


def _is_schema(value: object) -> TypeGuard[_Schema]:
    return isinstance(value, Mapping) and bool(value)


def _words(words: Sequence[object]) -> str:
    shown = [f"`{word}`" for word in words]
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _range(body: _Schema) -> str:
    low, high = body.get("minimum"), body.get("maximum")
    above = body.get("exclusiveMinimum")
    match low, above, high:
        case ((int() | float()), _, (int() | float())):
            return f", {low:g} to {_number(high)}"
        case ((int() | float()), _, None):
            return f", {_number(low)} or more"
        case None, (int() | float()), (int() | float()):
            return f", above {above:g}, at most {_number(high)}"
        case None, (int() | float()), None:
            return f", above {above:g}"
        case _:
            return ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _default(field: FieldInfo, *, is_duration: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return "none"
        case BaseModel():
            return "its own defaults"
        case StrEnum():
            return f"`{value.value}`"
        case float() if is_duration:
            return f"`{format_duration(value)}`"
        case "":
            return "empty"
        case str():
            return f"`{value}`"
        case tuple() | list():
            written = ", ".join(str(one.value if isinstance(one, StrEnum) else one) for one in value)
            return cell(f"`[{written}]`") if len(written) <= _LONGEST_DEFAULT * 2 else "see below"
        case bool() | int() | float():
            return f"`{json.dumps(_plain(value))}`"
        case _:
            return f"`{json.dumps(value)}`"


def _plain(value: float) -> float:
    return value if isinstance(value, bool) or value != int(value) else int(value)
