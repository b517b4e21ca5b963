"""The form of the control channel: one JSON line a request, one JSON line an answer, and where its socket lies.

A request is `{"v": 1, "do": name, "args": {...}}`; an answer is `{"v": 1, "ok": true, "result": {...}}` or
`{"v": 1, "ok": false, "error": {"type": name, "message": text}}`. Standard library only: the command line starts fast.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from conductor.core.errors import (
    ConductorError,
    ConflictError,
    DefinitionError,
    NotAllowedError,
    NotFoundError,
    RequestError,
    StoreError,
    StoreUnavailableError,
)
from conductor.core.vendor import Json

__all__ = ["ERRORS", "MOST_BYTES", "PROTOCOL", "address_file", "fits", "pack", "packed_error", "socket_path", "unpack"]

PROTOCOL = 1
MOST_BYTES = 1_048_576
"""The longest line that either side reads."""
_LONGEST_PATH = 100
"""Source: https://man7.org/linux/man-pages/man7/unix.7.html (108 bytes with the final zero; macOS has 104)."""

ERRORS: Mapping[str, type[ConductorError]] = MappingProxyType(
    {
        kind.__name__: kind
        for kind in (
            NotFoundError,
            ConflictError,
            NotAllowedError,
            RequestError,
            DefinitionError,
            StoreUnavailableError,
            StoreError,
            ConductorError,
        )
    }
)
"""The errors that travel by name; others travel as the nearest of them."""


def socket_path(state_dir: Path) -> Path:
    """Where the socket lies when its path is short enough."""
    return state_dir / "control.sock"


def address_file(state_dir: Path) -> Path:
    """Holds the socket's path when it lies elsewhere."""
    return state_dir / "control.path"


def fits(path: Path) -> bool:
    """A Unix socket may have this path."""
    return len(os.fsencode(path)) <= _LONGEST_PATH


def pack(message: Mapping[str, Json]) -> bytes:
    """One line."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def unpack(line: bytes) -> Mapping[str, Json]:
    """The object on a line.

    Raises:
        RequestError: It is none.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"the control channel got a line that is not JSON: {error}; send one object a line"
        ) from None
    if not isinstance(message, dict):
        raise RequestError("the control channel got no JSON object: send one object a line")
    return message


def packed_error(error: ConductorError) -> dict[str, Json]:
    """An error as an answer."""
    name = next((name for name, kind in ERRORS.items() if type(error) is kind), None)
    nearest = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
    return {"v": PROTOCOL, "ok": False, "error": {"type": name or nearest, "message": str(error)}}
