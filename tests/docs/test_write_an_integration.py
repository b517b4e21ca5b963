"""The integration that the how-to builds is complete: it loads, and it keeps the whole contract."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from conductor.sdk.contract import CHECKS, Check, Harness
from tests.docs.blocks import blocks

_PAGE = "docs/how-to/write-an-integration.md"


@pytest.fixture(scope="module")
def harnesses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Callable[[Path], Harness]]]:
    folder = tmp_path_factory.mktemp("acme")
    for block in blocks(_PAGE):
        if block.language == "python":
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("conductor_acme.contract").HARNESSES
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "conductor_acme"]:
            del sys.modules[name]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_integration_of_the_page_keeps_the_contract(
    check: Check, harnesses: Mapping[str, Callable[[Path], Harness]], tmp_path: Path
) -> None:
    for make in harnesses.values():
        asyncio.run(check(make(tmp_path)))


def test_every_python_block_is_a_file_that_can_be_compiled() -> None:
    python = [block for block in blocks(_PAGE) if block.language == "python"]
    assert len(python) == 7
    for block in python:
        compile(block.text, block.title, "exec")
