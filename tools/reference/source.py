"""Reads what the code says of itself: the line below a name, the docstring of a class. Runs nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "attribute_lines", "cell", "class_lines", "heading_anchor", "member_lines", "one_line", "table"]

ROOT = Path(__file__).resolve().parents[2]


@cache
def _tree(module: str) -> ast.Module:
    path = ROOT / f"{module.replace('.', '/')}.py"
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _class(module: str, name: str) -> ast.ClassDef:
    return next(node for node in _tree(module).body if isinstance(node, ast.ClassDef) and node.name == name)


def one_line(text: str) -> str:
    """`text` with every run of white space as one space."""
    return " ".join(text.split())


def class_lines(module: str) -> dict[str, tuple[str, str]]:
    """Every class of `module`, in order: name → its first base and the first paragraph of its docstring."""
    found = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef):
            base = ast.unparse(node.bases[0]) if node.bases else ""
            found[node.name] = (base, one_line((ast.get_docstring(node) or "").split("\n\n")[0]))
    return found


def member_lines(module: str, enumeration: str) -> dict[str, str]:
    """Member → the docstring below it.

    Raises:
        ValueError: A member has none.
    """
    body = _class(module, enumeration).body
    found: dict[str, str] = {}
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Constant):
            continue
        says = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        if not says:
            raise ValueError(f"{module}.{enumeration}.{ast.unparse(node.targets[0])} says nothing below itself")
        found[str(node.value.value)] = one_line(str(says))
    return found


def attribute_lines(module: str, name: str) -> dict[str, str]:
    """Attribute → its line under `Attributes:` of a class's docstring."""
    _, _, rest = (ast.get_docstring(_class(module, name)) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    last = ""
    for line in rest.splitlines():
        match = re.fullmatch(r"    (\w+): (.*)", line)
        if match:
            last = match[1]
            found[last] = match[2]
        elif last and line.strip():
            found[last] += f" {line.strip()}"
    return found


def cell(text: str) -> str:
    """`text` as it may stand in a table."""
    return one_line(text).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty text when there is no row."""
    lines = [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *lines]) + "\n"


def heading_anchor(heading: str) -> str:
    """The anchor that a heading gets: small letters, signs dropped, spaces as dashes."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
