"""Every YAML block of the documents is read by the real loader with the integrations that are shipped.

A block says what it is: by a title (`conductor.yml`, `connections.yml`, any other file is a pipeline), by a first line
such as `# connections.yml`, or by its shape (a node, a set of nodes, connections). Marks: `fragment` is only parsed,
`wrong` shows a mistake, and the page of errors is made from the loader's own words about it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conductor.loader import Diagnostic, load_project, render_text
from conductor.loader.yamlread import read_yaml
from tests.docs.blocks import Block, blocks, documents
from tools.reference.entry import shipped_plugins

_PROJECT = "version: 1\nname: example\npools: {warehouse: 4}\n"
_CONNECTIONS = """\
fivetran: {type: fivetran, api_key: "${{ secret('KEY') }}", api_secret: "${{ secret('SECRET') }}"}
hightouch: {type: hightouch, api_key: "${{ secret('HIGHTOUCH') }}"}
"""
"""For pages that show none of their own."""


def _value(block: Block) -> Mapping[str, object]:
    file = read_yaml(block.text.encode(), path=str(block))
    assert not file.diagnostics, f"{block}\n{render_text(file.diagnostics)}"
    assert isinstance(file.value, Mapping), f"{block} is no mapping"
    return file.value


def _place(block: Block) -> str:
    """The file that the block is; `nodes` and `node` for parts of a pipeline."""
    if block.title:
        name = Path(block.title).name
        return name if name in {"conductor.yml", "connections.yml"} else "pipeline"
    value = _value(block)
    if "uses" in value:
        return "node"
    if "version" in value:
        return "pipeline"
    if "nodes" in value:
        return "nodes"
    assert all(isinstance(one, Mapping) and "type" in one for one in value.values()), (
        f"{block} is no file that the loader knows: give it a title, or mark it `fragment`"
    )
    return "connections.yml"


def _pipeline(block: Block, place: str) -> str:
    match place:
        case "node":
            return f"version: 1\nname: example\nnodes:\n  example:\n{textwrap.indent(block.text, '    ')}"
        case "nodes":
            return f"version: 1\nname: example\n{block.text}"
        case _:
            return block.text


def _yaml(document: str) -> Iterator[Block]:
    for block in blocks(document):
        if block.language in {"yaml", "yml"} and "wrong" not in block.marks:
            yield block


def _load(folder: Path, files: Mapping[str, str]) -> list[Diagnostic]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    project = load_project(folder, plugins=shipped_plugins(), environment={})
    return [one for one in project.diagnostics if one.severity == "error"]


@pytest.mark.parametrize("document", documents())
def test_every_yaml_block_is_accepted_by_the_loader(document: str, tmp_path: Path) -> None:
    whole = [(block, _place(block)) for block in _yaml(document) if "fragment" not in block.marks]
    for block in _yaml(document):
        _value(block)
    connections = "".join(block.text for block, place in whole if place == "connections.yml") or _CONNECTIONS
    projects = [block.text for block, place in whole if place == "conductor.yml"] or [_PROJECT]
    pipelines = [(str(block), _pipeline(block, place)) for block, place in whole if place in _PARTS]
    if whole and not pipelines:
        pipelines = [(document, "version: 1\nname: example\nnodes: {a: {uses: command.run, with: {argv: [a]}}}\n")]
    for at, project in enumerate(projects):
        for number, (where, pipeline) in enumerate(pipelines):
            files = {
                "conductor.yml": project,
                "connections.yml": connections,
                "pipelines/example.yml": pipeline,
            }
            found = _load(tmp_path / f"{at}-{number}", files)
            assert not found, f"{where}\n{render_text(found)}"


_PARTS = ("pipeline", "nodes", "node")


def test_the_documents_have_examples_at_all() -> None:
    assert sum(1 for document in documents() for _ in _yaml(document)) > 20
