"""Tests of the tests: each proves something, patches nothing by its path, and says why it does not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source import functions, name_of, python_files, tree

_TESTS = tuple(name for name in python_files() if name.startswith("tests/"))


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            yield name_of(node.func), node


def test_no_assertion_is_empty() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name in python_files()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple)
    ]
    assert not found, f"assertions that cannot fail: {found}"


def test_every_skip_says_why() -> None:
    found = [
        f"{name}:{call.lineno}"
        for name in _TESTS
        for function, call in _calls(name)
        if function.endswith((".skip", ".xfail", ".skipif")) and function.startswith("pytest.")
        if not any(isinstance(given, ast.Constant | ast.JoinedStr) for given in call.args[:1])
        and not any(keyword.arg == "reason" for keyword in call.keywords)
    ]
    found += [
        f"{name}:{function.lineno}"
        for name in _TESTS
        for function in functions(name)
        for decorator in function.decorator_list
        if name_of(decorator) in {"pytest.mark.skip", "pytest.mark.xfail"}
    ]
    assert not found, f"give a reason: {found}"


def test_nothing_is_patched_by_its_dotted_path() -> None:
    found = [
        f"{name}:{call.lineno}"
        for name in _TESTS
        for function, call in _calls(name)
        if function.endswith(("monkeypatch.setattr", "monkeypatch.delattr"))
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]
    assert not found, f"pass a fake in: {found}"


def test_every_test_function_is_reached_by_the_suite() -> None:
    found = [
        f"{name}:{function.lineno} {function.name}"
        for name in _TESTS
        for function in functions(name)
        if function.name.startswith("test_")
        and (not name.rpartition("/")[2].startswith("test_") or isinstance(function, ast.AsyncFunctionDef))
    ]
    assert not found, f"pytest would not run these (wrong file name, or async without asyncio.run): {found}"
