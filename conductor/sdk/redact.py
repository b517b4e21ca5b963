"""Removes secret values from text before anything is kept or shown. The first layer is not to pass them on."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

__all__ = ["MASK", "Redactor"]

MASK = "•••"
_SHORTEST = 4


class Redactor:
    """Knows the secret values of one installation and masks them, also base64, URL-encoded and JSON-escaped."""

    def __init__(self) -> None:
        self._needles: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """Mask `secret` from now on. Values shorter than 4 characters are ignored: masking them would garble text."""
        if len(secret) < _SHORTEST:
            return
        forms = {
            secret,
            base64.b64encode(secret.encode()).decode(),
            base64.b64encode(secret.encode()).decode().rstrip("="),
            base64.urlsafe_b64encode(secret.encode()).decode(),
            quote(secret, safe=""),
            json.dumps(secret)[1:-1],
        }
        self._needles = tuple(sorted({*self._needles, *forms}, key=lambda needle: (-len(needle), needle)))

    def __call__(self, text: str) -> str:
        """`text` with every known secret replaced by `•••`."""
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, MASK)
        return text
