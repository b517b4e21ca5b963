"""The JSON Schema of pipeline files for editors, with the `with` of every installed operation. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from conductor.core.vendor import Json
from conductor.loader.models import PipelineFile
from conductor.sdk.plugin import Plugin

__all__ = ["pipeline_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EXPRESSION: dict[str, Json] = {"type": "string", "pattern": r"\$\{\{", "description": "An expression: `${{ ... }}`."}
_DURATION_TEXT: dict[str, Json] = {
    "type": "string",
    "description": "A duration such as `45m`.",
    "pattern": "^[0-9dhms]+$",
}
_BY_NAME = frozenset({"properties", "$defs", "patternProperties"})
_SHORTHANDS: Mapping[str, Json] = {
    "Retries": {"type": "integer", "minimum": 0, "description": "Further attempts after the first."},
    "Timeout": _DURATION_TEXT,
    "Schedule": {"type": "string", "description": "A cron expression of five fields.", "examples": ["0 6 * * *"]},
    "Concurrency": {"type": "integer", "minimum": 1, "description": "Active runs at once."},
    "Param": {
        "type": ["string", "number", "boolean", "array"],
        "description": "The default; its type is the parameter's.",
    },
}


def pipeline_schema(plugins: Mapping[str, Plugin]) -> dict[str, Json]:
    """A schema that accepts what the loader accepts as far as shape goes; `uses` offers what is installed.

    References between nodes, expressions and connections are checked by `conductor validate` only.
    """
    schema = PipelineFile.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    for name, short in _SHORTHANDS.items():
        long = definitions[name]
        definitions[name] = {"anyOf": [short, long], "description": long.get("description", "")}
    node = definitions["NodeFile"]
    node["properties"]["if"] = {"anyOf": [{"type": "boolean"}, _EXPRESSION], "description": _text(node, "if")}
    rules = []
    offered = []
    for kind, plugin in sorted(plugins.items()):
        for name, operation in sorted(plugin.operations.items()):
            uses = f"{kind}.{name}"
            key = f"with.{uses}"
            offered.append({"const": uses, "description": operation.summary})
            settings, inner = _settings_schema(operation.settings, key)
            definitions.update(inner)
            definitions[key] = settings
            rules.append(_rule(uses, key, is_required=bool(settings.get("required"))))
    if offered:
        node["properties"]["uses"] = {"oneOf": offered, "description": _text(node, "uses")}
        node["allOf"] = rules
    _drop_defaults(schema)
    return {"$schema": _DIALECT, **schema}


def _text(node: Mapping[str, Mapping[str, Mapping[str, Json]]], field: str) -> Json:
    return node["properties"][field].get("description", "")


def _rule(uses: str, key: str, *, is_required: bool) -> dict[str, Json]:
    then: dict[str, Json] = {"properties": {"with": {"$ref": f"#/$defs/{key}"}}}
    if is_required:
        then["required"] = ["with"]
    return {"if": {"properties": {"uses": {"const": uses}}, "required": ["uses"]}, "then": then}


def _settings_schema(model: type[BaseModel], key: str) -> tuple[dict[str, Json], dict[str, Json]]:
    """The model's schema with every value also allowed as an expression; and its definitions, renamed by `key`."""
    schema = model.model_json_schema(by_alias=True, mode="validation", ref_template=f"#/$defs/{key}.{{model}}")
    inner: dict[str, Json] = {
        f"{key}.{name}": _with_expressions(body) for name, body in schema.pop("$defs", {}).items()
    }
    return _with_expressions(schema), inner


def _with_expressions(schema: dict[str, Json]) -> dict[str, Json]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    return {**schema, "properties": {name: _or_expression(body) for name, body in properties.items()}}


def _or_expression(body: dict[str, Json]) -> dict[str, Json]:
    about = {key: body[key] for key in ("title", "description", "default", "examples") if key in body}
    items = body.get("items")
    if isinstance(items, dict):
        body = {**body, "items": _or_expression(items)}
    return {**about, "anyOf": [body, _EXPRESSION]}


def _drop_defaults(schema: Json) -> None:
    """Defaults are dumped in the model's own form (seconds, objects), which is not how they are written."""
    stack: list[tuple[Json, bool]] = [(schema, True)]
    while stack:
        item, is_schema = stack.pop()
        if isinstance(item, dict):
            if is_schema and not isinstance(item.get("default"), str | bool | int | None):
                del item["default"]
            # Below these words stand names that users chose; one of them may be "default".
            stack.extend((inner, not (is_schema and word in _BY_NAME)) for word, inner in item.items())
        elif isinstance(item, list):
            stack.extend((inner, True) for inner in item)
