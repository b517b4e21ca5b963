"""The editor's schema accepts what the loader accepts, and refuses what has the wrong shape."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from conductor.core.vendor import Json
from conductor.loader.schema import pipeline_schema
from tests.unit.loader.fakes import PLUGINS, good
from tests.unit.loader.test_compile import FULL, HEAD

SCHEMA = pipeline_schema(PLUGINS)
DEFINITIONS: Any = SCHEMA["$defs"]
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def small(**node: Json) -> dict[str, Json]:
    return {"version": 1, "name": "x", "nodes": {"a": {"uses": "vendor.sync", "with": {"target": "t"}} | node}}


def test_the_schema_is_one_and_is_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_a_file_with_everything_is_accepted() -> None:
    CHECK.validate(good(FULL, HEAD).definition)
    CHECK.validate(small())


@pytest.mark.parametrize(
    "node",
    [
        {"retries": 3}, {"timeout": "45m"}, {"timeout": {"queued": "5m"}}, {"if": False}, {"if": "${{ true }}"},
        {"with": {"target": "t", "rows": "${{ params.n }}"}}, {"with": {"target": "t", "labels": ["${{ params.n }}"]}},
        {"with": {"target": "t", "schema": "raw"}},
    ],
)  # fmt: skip
def test_shorthands_and_expressions_are_accepted(node: dict[str, Json]) -> None:
    CHECK.validate(small(**node))


@pytest.mark.parametrize(
    "node",
    [
        {"needs": []}, {"uses": "vendor.none"}, {"with": {}}, {"with": {"target": 1}},
        {"with": {"target": "t", "x": 1}}, {"retries": -1}, {"timeout": 45}, {"timeout": "PT45M"},
        {"on_failure": "explode"}, {"depends_on": "a"},
        {"with": {"target": "t", "rows": "many"}}, {"if": 3},
    ],
)  # fmt: skip
def test_wrong_shapes_are_refused(node: dict[str, Json]) -> None:
    assert not CHECK.is_valid(small(**node))


def test_every_field_says_what_it_is() -> None:
    for name in ("PipelineFile", "NodeFile", "Defaults"):
        body: Any = SCHEMA if name == "PipelineFile" else DEFINITIONS[name]
        for field, schema in body["properties"].items():
            assert schema.get("description"), f"{name}.{field}"
