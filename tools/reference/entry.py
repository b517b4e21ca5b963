"""The integrations that this project ships, by the entry points in pyproject.toml; not what else is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.metadata import EntryPoint

from conductor.loader.plugins import GROUP, load_plugins
from conductor.sdk.plugin import Plugin
from tools.reference.source import ROOT

__all__ = ["shipped_plugins"]


def shipped_plugins() -> Mapping[str, Plugin]:
    """By kind.

    Raises:
        ValueError: One of them cannot be loaded.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = [EntryPoint(name, value, GROUP) for name, value in project["entry-points"][GROUP].items()]
    found = load_plugins(points)
    if found.diagnostics:
        raise ValueError(found.diagnostics[0].message)
    return found.by_kind
