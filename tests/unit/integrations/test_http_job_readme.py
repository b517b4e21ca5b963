"""The examples in the READMEs of `http.job` and `sql.gate` are accepted as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conductor.sdk import Plugin
from integrations import http, sql

_ROOT = Path(__file__).parents[3] / "integrations"
_PLUGINS = {"http": http.plugin, "sql": sql.plugin}


def _examples() -> Iterator[tuple[str, str]]:
    for kind in _PLUGINS:
        text = (_ROOT / kind / "README.md").read_text(encoding="utf-8")
        for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL):
            yield kind, block


@pytest.mark.parametrize(("kind", "block"), list(_examples()))
def test_an_example_is_accepted(kind: str, block: str) -> None:
    plugin: Plugin = _PLUGINS[kind]
    example = YAML(typ="safe").load(block.replace("${env:WAREHOUSE_URL}", "sqlite:///w.db"))
    if "uses" in example:
        plugin.operations[example["uses"].partition(".")[2]].settings.model_validate(example["with"])
        return
    for connection in example.values():
        assert connection.pop("type") == kind
        plugin.connection.model_validate(connection)
