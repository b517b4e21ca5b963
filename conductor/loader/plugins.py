"""Finds the installed integrations through their entry points. One that is broken does not hide the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from conductor.loader.diagnostics import Diagnostic, Severity
from conductor.sdk.plugin import Plugin

__all__ = ["GROUP", "Plugins", "load_plugins"]

GROUP = "conductor.integrations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """What is installed.

    Attributes:
        by_kind: The integrations that work.
        diagnostics: A warning for each that does not.
    """

    by_kind: Mapping[str, Plugin]
    diagnostics: tuple[Diagnostic, ...] = ()


def load_plugins(found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Import every integration. Never raises because of one.

    Args:
        found: Entry points to use instead of those that are installed.
    """
    points = entry_points(group=GROUP) if found is None else found
    by_kind: dict[str, Plugin] = {}
    diagnostics = []
    for point in sorted(points, key=lambda point: (point.name, point.value)):
        problem = _load(point, by_kind)
        if problem:
            diagnostics.append(
                Diagnostic(
                    code="CND039",
                    severity=Severity.WARNING,
                    message=f"integration `{point.name}` cannot be used: {problem}",
                    path=f"entry point {point.value}",
                    help="reinstall or update the package that offers it",
                )
            )
    return Plugins(by_kind=by_kind, diagnostics=tuple(diagnostics))


def _load(point: EntryPoint, by_kind: dict[str, Plugin]) -> str:
    try:
        plugin = point.load()
    except Exception as error:  # noqa: BLE001 - importing foreign code: an outer edge
        return f"importing it failed with {type(error).__name__}: {str(error)[:200]}"
    if not isinstance(plugin, Plugin):
        return f"it offers a {type(plugin).__name__} and not a Plugin"
    if plugin.kind != point.name:
        return f"its kind is `{plugin.kind}`, but its entry point is named `{point.name}`"
    if plugin.kind in by_kind:
        return "another package offers the same"
    by_kind[plugin.kind] = plugin
    return ""
