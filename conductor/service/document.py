"""Views as stable JSON: `{"version": 1, "kind": ..., ...}` with instants in ISO 8601. The one place of that form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

from conductor.core.vendor import Json

__all__ = ["VERSION", "document", "plain"]

VERSION = 1


def document(kind: str, view: object) -> dict[str, Json]:
    """The object that `--json` prints and the control channel carries: `view`'s fields behind version and kind."""
    body = plain(view)
    assert isinstance(body, dict)
    return {"version": VERSION, "kind": kind, **body}


def plain(value: object) -> Json:
    """`value` in JSON's own types."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case _:
            return value
