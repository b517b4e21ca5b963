"""`${{ secret('NAME') }}` and `${{ env_var('NAME', 'default') }}` in project and connection files. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from conductor.core.vendor import Json
from conductor.loader.source import Where
from conductor.loader.templates import strings_in

__all__ = ["Reference", "find_references", "references_in", "substitute"]

_CALL = re.compile(
    r"""\$\{\{[ ]*(?P<kind>secret|env_var)\([ ]*
    (?:'(?P<single>[A-Za-z_][A-Za-z0-9_.-]{0,127})'|"(?P<double>[A-Za-z_][A-Za-z0-9_.-]{0,127})")[ ]*
    (?:,[ ]*(?:'(?P<one>[^'\n]{0,1000})'|"(?P<two>[^"\n]{0,1000})")[ ]*)?\)[ ]*\}\}""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A value that is given by the machine.

    Attributes:
        kind: Where it is looked for.
        name: Under which name.
        default: Of an `env_var` that is not set; None for none.
    """

    kind: Literal["secret", "env_var"]
    name: str
    default: str | None = None


def find_references(text: str) -> tuple[Reference, ...]:
    """The references in one text.

    Raises:
        ValueError: Some `${{` is not one of the accepted forms; says which are.
    """
    found = []
    for match in _CALL.finditer(text):
        default = match["one"] if match["one"] is not None else match["two"]
        name = match["single"] or match["double"]
        if match["kind"] == "secret" and default is not None:
            raise ValueError("a secret has no default")
        found.append(Reference(kind="secret" if match["kind"] == "secret" else "env_var", name=name, default=default))
    if "${{" in _CALL.sub("", text):
        raise ValueError("only `${{ secret('NAME') }}` and `${{ env_var('NAME', 'default') }}` are accepted here")
    return tuple(found)


def references_in(value: Json) -> dict[Where, tuple[Reference, ...]]:
    """Every text with references, by its place. Texts that are wrong are left out."""
    found: dict[Where, tuple[Reference, ...]] = {}
    for where, text in strings_in(value):
        if "${{" in text:
            try:
                found[where] = find_references(text)
            except ValueError:
                continue
    return found


def substitute(value: Json, look_up: Callable[[Reference], str]) -> Json:
    """`value` with every reference replaced by what `look_up` gives; the rest is shared, not copied."""
    if isinstance(value, str):
        return _CALL.sub(lambda match: look_up(find_references(match.group())[0]), value) if "${{" in value else value
    if isinstance(value, Mapping):
        return {name: substitute(inner, look_up) for name, inner in value.items()}
    if isinstance(value, list):
        return [substitute(inner, look_up) for inner in value]
    return value
