"""The project's own files as the tidy tests read them: paths, texts and syntax trees, each read once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "functions", "name_of", "product_files", "python_files", "text", "text_files", "tree"]

ROOT = Path(__file__).resolve().parents[2]

_PRODUCT = ("conductor", "integrations")
_CODE = (*_PRODUCT, "pipelines", "tests", "tools")
_TEXT = (*_CODE, "docs", "requirements", ".ci")
_TEXT_SUFFIXES = frozenset(
    {"", ".css", ".csv", ".html", ".in", ".j2", ".js", ".json", ".mako", ".md", ".py", ".pyi", ".sh", ".sql", ".svg"}
    | {".toml", ".txt", ".yaml", ".yml"}
)
_NOT_OURS = frozenset({"__pycache__", "node_modules", "target", "dbt_packages", "logs", "vendored"})


@cache
def python_files() -> tuple[str, ...]:
    """Every Python file of the project, as a path from its root."""
    return tuple(name for name in _walk(_CODE) if name.endswith(".py"))


@cache
def product_files() -> tuple[str, ...]:
    """The Python files that are installed: `conductor` and `integrations`."""
    return tuple(name for name in python_files() if name.startswith(tuple(f"{top}/" for top in _PRODUCT)))


@cache
def text_files() -> tuple[str, ...]:
    """Every text file of the project that people wrote."""
    at_root = (path.name for path in sorted(ROOT.iterdir()) if path.is_file() and path.name != ".git")
    return (*(name for name in at_root if Path(name).suffix in _TEXT_SUFFIXES), *_walk(_TEXT))


def _walk(tops: tuple[str, ...]) -> Iterator[str]:
    for top in tops:
        for path in sorted((ROOT / top).rglob("*")):
            parts = path.relative_to(ROOT / top).parts
            hidden = any(part in _NOT_OURS or part.startswith(".") for part in parts)
            if path.is_file() and path.suffix in _TEXT_SUFFIXES and not hidden:
                yield path.relative_to(ROOT).as_posix()


@cache
def text(name: str) -> str:
    """The text of the file `name`."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of the Python file `name`."""
    return ast.parse(text(name), filename=name)


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of the file `name`, nested ones and methods included."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name_of(node: ast.expr) -> str:
    """`a.b.c` for such an expression; empty for any other."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            owner = name_of(value)
            return f"{owner}.{attr}" if owner else ""
        case _:
            return ""
