"""Tests with real processes stay together on one worker: they share the cores and must not starve each other."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put every test of this folder that names no group into `processes`; PostgreSQL alone is no reason to."""
    for item in items:
        if not item.path.is_relative_to(_HERE) or item.get_closest_marker("xdist_group"):
            continue
        if item.get_closest_marker("postgres") is None:
            item.add_marker(pytest.mark.xdist_group("processes"))
