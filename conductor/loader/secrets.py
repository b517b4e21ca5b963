"""Where values of secrets and variables come from. The only file of the loader that reads the environment.

Secrets are read when a connection is built, never when files are loaded, and are kept nowhere here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["DirectorySecrets", "EnvironmentSecrets", "SecretSource", "SecretSources", "system_environment"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_MAX_BYTES = 65_536


class SecretSource(Protocol):
    """Gives secrets by name."""

    def get(self, name: str) -> str | None:
        """The value; None when there is none. An empty value counts as none."""
        ...

    def describe(self, name: str) -> str:
        """How a person would set it here."""
        ...


def system_environment() -> Mapping[str, str]:
    """The variables of this process."""
    return os.environ


class EnvironmentSecrets:
    """Variables of the environment, under the secret's name or the same in capitals."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def get(self, name: str) -> str | None:
        """The variable's value; None when it is not set or empty."""
        return self._environment.get(name) or self._environment.get(name.upper()) or None

    def describe(self, name: str) -> str:
        """Names the variable."""
        return f"the environment variable {name}"


class DirectorySecrets:
    """One file for each secret, as Docker and Kubernetes mount them; a final line end is not part of the value."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, name: str) -> str | None:
        """The file's text; None when there is no such file, or it is empty, too large or not UTF-8."""
        if not _NAME.fullmatch(name):
            return None
        path = self._directory / name
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            text = data.decode() if len(data) <= _MAX_BYTES else ""
        except (OSError, UnicodeDecodeError):
            return None
        return text.removesuffix("\n").removesuffix("\r") or None

    def describe(self, name: str) -> str:
        """Names the file."""
        return f"the file {self._directory / name}"


class SecretSources:
    """Several sources; the first that has the name wins."""

    def __init__(self, sources: Sequence[SecretSource]) -> None:
        self._sources = tuple(sources)

    def get(self, name: str) -> str | None:
        """The first value there is."""
        for source in self._sources:
            value = source.get(name)
            if value is not None:
                return value
        return None

    def describe(self, name: str) -> str:
        """All ways to set it."""
        return " or ".join(source.describe(name) for source in self._sources) or "no source of secrets is set up"
