"""Words for the shell's completion. Reads the names of pipeline files only: no project is loaded, nothing is asked."""

from __future__ import annotations

import re
from pathlib import Path

from conductor.config import find_project

__all__ = ["pipelines"]

_NAME = re.compile(r"^name:\s*[\"']?([a-z0-9][a-z0-9_-]*)", re.MULTILINE)
_MOST_FILES = 500


def pipelines(incomplete: str) -> list[str]:
    """Names of pipelines that begin with what was typed."""
    found = set()
    files = [path for form in ("*.yml", "*.yaml") for path in (find_project(Path.cwd()) / "pipelines").rglob(form)]
    for path in files[:_MOST_FILES]:
        try:
            name = _NAME.search(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
        if name and name[1].startswith(incomplete):
            found.add(name[1])
    return sorted(found)
