"""Every module says what it is for, tells the truth in `__all__`, and stays small enough to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from tests.architecture.source import ROOT, functions, product_files, python_files, text, tree

_MOST_LINES = 500
_MOST_LINES_IN_TESTS = 800
_MOST_LINES_IN_A_FUNCTION = 70


def _without_all(name: str) -> bool:
    path = PurePosixPath(name)
    if path.name == "__main__.py" or "migrations" in path.parts:
        return True
    return path.name == "__init__.py" and all(isinstance(node, ast.Expr) for node in tree(name).body)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import, those inside `if` and `try` included."""
    for node in body:
        yield node
        match node:
            case ast.If(body=inner, orelse=other):
                yield from _top_level([*inner, *other])
            case ast.Try(body=inner, orelse=other, handlers=handlers, finalbody=last):
                caught = [line for handler in handlers for line in handler.body]
                yield from _top_level([*inner, *caught, *other, *last])
            case _:
                pass


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            pass


def _imported(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in names)
        case _:
            pass


def _declared(name: str) -> list[str] | None:
    for node in tree(name).body:
        if isinstance(node, ast.Assign) and list(_defined(node)) == ["__all__"]:
            declared: list[str] = ast.literal_eval(node.value)
            return declared
    return None


def _dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _children(module: str, modules: Iterable[str]) -> set[str]:
    return {name.removeprefix(f"{module}.") for name in modules if name.startswith(f"{module}.")}


def test_every_module_opens_by_saying_what_it_is_for() -> None:
    silent = [name for name in python_files() if text(name).strip() and not ast.get_docstring(tree(name))]
    assert not silent, f"modules without a docstring: {silent}"


def test_every_package_folder_is_a_package() -> None:
    folders = {PurePosixPath(name).parent for name in product_files()}
    bare = {folder for folder in folders if not (ROOT / folder / "__init__.py").exists() and folder.name != "versions"}
    assert not bare, f"folders without an __init__.py: {sorted(map(str, bare))}"


def test_every_module_declares_what_it_offers() -> None:
    silent = [name for name in product_files() if not _without_all(name) and _declared(name) is None]
    assert not silent, f"modules without __all__: {silent}"


def test_all_names_what_the_module_has() -> None:
    wrong = []
    for name in product_files():
        declared = _declared(name) or []
        bound = {any_name for node in _top_level(tree(name).body) for any_name in (*_defined(node), *_imported(node))}
        if invented := sorted(set(declared) - bound):
            wrong.append(f"{name}: in __all__ but not in the module: {invented}")
        if len(declared) != len(set(declared)):
            wrong.append(f"{name}: __all__ names something twice")
    assert not wrong, "\n".join(wrong)


def test_modules_take_from_each_other_only_what_is_offered() -> None:
    offers = {_dotted(name): _declared(name) for name in product_files()}
    wrong = []
    for name in product_files():
        for node in ast.walk(tree(name)):
            if not isinstance(node, ast.ImportFrom) or node.module not in offers:
                continue
            offered = {*(offers[node.module] or ()), *_children(node.module, offers)}
            wrong += [
                f"{name}:{node.lineno} takes {alias.name}, which {node.module} does not offer"
                for alias in node.names
                if alias.name not in offered
            ]
    assert not wrong, "name it in that module's __all__:\n" + "\n".join(wrong)


def test_no_file_is_too_long() -> None:
    limits = {name: _MOST_LINES_IN_TESTS if name.startswith("tests/") else _MOST_LINES for name in python_files()}
    long = {name: length for name in limits if (length := len(text(name).splitlines())) > limits[name]}
    assert not long, f"split before {_MOST_LINES} lines (tests {_MOST_LINES_IN_TESTS}): {long}"


def test_no_function_is_longer_than_a_screen() -> None:
    long = []
    for name in python_files():
        for function in functions(name):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > _MOST_LINES_IN_A_FUNCTION:
                long.append(f"{name}:{function.lineno} {function.name} has {lines} lines")
    assert not long, "\n".join(long)
