"""A pipeline's graph as text: for a terminal, Mermaid or Graphviz. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from conductor.core.plan import Plan

__all__ = ["GraphFormat", "draw"]


class GraphFormat(StrEnum):
    """How to draw."""

    ASCII = "ascii"
    """Levels of nodes for a terminal."""
    MERMAID = "mermaid"
    """For Markdown pages."""
    DOT = "dot"
    """For Graphviz."""


def draw(plan: Plan, form: GraphFormat) -> str:
    """The graph as text, ending with a line end; the same plan gives the same text."""
    match form:
        case GraphFormat.ASCII:
            return _ascii(plan)
        case GraphFormat.MERMAID:
            return _mermaid(plan)
        case GraphFormat.DOT:
            return _dot(plan)


def _levels(plan: Plan) -> Mapping[str, int]:
    """Node → the length of the longest way to it."""
    found: dict[str, int] = {}
    for node in plan.nodes.values():
        found[node.id] = max((found[upstream] + 1 for upstream in node.depends_on), default=0)
    return found


def _ascii(plan: Plan) -> str:
    levels = _levels(plan)
    width = max(len(node) + 2 * levels[node] for node in plan.nodes)
    lines = [f"{plan.name} ({len(plan.nodes)} nodes)"]
    for node in sorted(plan.nodes.values(), key=lambda node: levels[node.id]):
        name = "  " * levels[node.id] + node.id
        below = f"  <- {', '.join(node.depends_on)}" if node.depends_on else ""
        lines.append(f"  {name.ljust(width)}  {node.uses}{below}")
    return "\n".join(lines) + "\n"


def _mermaid(plan: Plan) -> str:
    ids = {node: f"n{number}" for number, node in enumerate(plan.nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {ids[node.id]}["{node.id}<br/>{node.uses}"]' for node in plan.nodes.values()]
    lines += [f"  {ids[above]} --> {ids[node.id]}" for node in plan.nodes.values() for above in node.depends_on]
    return "\n".join(lines) + "\n"


def _dot(plan: Plan) -> str:
    lines = [f'digraph "{plan.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    lines += [f'  "{node.id}" [label="{node.id}\\n{node.uses}"];' for node in plan.nodes.values()]
    lines += [f'  "{above}" -> "{node.id}";' for node in plan.nodes.values() for above in node.depends_on]
    return "\n".join([*lines, "}"]) + "\n"
