"""Every integration passes every check of the SDK's contract suite against its sandbox or the real thing."""

from __future__ import annotations

import asyncio
import importlib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from conductor.sdk.contract import CHECKS, Check


def _harnesses() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in sorted(entry_points(group="conductor.integrations"), key=lambda entry: entry.name):
        module = f"{entry.module}.contract"
        found.extend((module, name) for name in importlib.import_module(module).HARNESSES)
    return found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("module", "name"), _harnesses(), ids=lambda value: value)
def test_integration_keeps_the_contract(module: str, name: str, check: Check, tmp_path: Path) -> None:
    harness = importlib.import_module(module).HARNESSES[name](tmp_path)
    asyncio.run(check(harness))
