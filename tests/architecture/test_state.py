"""Modules hold no state and importing one does nothing: whatever changes is made in bootstrap and passed in."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source import functions, name_of, product_files, python_files, tree

_MUTABLE_CALLS = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict", "ChainMap", "count", "cycle"}
    | {"WeakValueDictionary", "WeakKeyDictionary", "WeakSet", "Lock", "RLock", "Event", "Condition", "Semaphore"}
    | {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "local"}
)
_READ_ONLY = frozenset({"Final", "Mapping", "Sequence", "Set", "Collection", "Iterable", "ClassVar"})
_MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove"}
    | {"reverse", "setdefault", "sort", "update"}
)


def _is_mutable(value: ast.expr) -> bool:
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=func):
            return name_of(func).rpartition(".")[2] in _MUTABLE_CALLS
        case _:
            return False


def _is_read_only(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return name_of(outer).rpartition(".")[2] in _READ_ONLY


def _assignments(module: ast.Module) -> Iterator[tuple[str, ast.expr, ast.expr | None]]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value, None
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value, annotation=annotation):
                yield name, value, annotation
            case _:
                pass


def _constants(module: ast.Module) -> set[str]:
    return {name for name, value, _ in _assignments(module) if name.lstrip("_").isupper() and _is_mutable(value)}


def _changes(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The names whose value this node changes in place."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr), lineno=line) if attr in _MUTATORS:
            yield name, line
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del(), lineno=line):
            yield name, line
        case ast.AugAssign(target=ast.Name(id=name), lineno=line):
            yield name, line
        case _:
            pass


def test_no_module_holds_a_mutable_value() -> None:
    found = [
        f"{name}: {variable}"
        for name in product_files()
        for variable, value, annotation in _assignments(tree(name))
        if variable != "__all__"
        and _is_mutable(value)
        and not variable.lstrip("_").isupper()
        and not _is_read_only(annotation)
    ]
    assert not found, "pass it in, or make it a constant (upper case, or annotated Final or Mapping):\n" + "\n".join(
        found
    )


def test_no_constant_is_changed() -> None:
    found = []
    for name in product_files():
        constants = _constants(tree(name))
        for function in functions(name):
            for node in ast.walk(function):
                found += [f"{name}:{line} changes {target}" for target, line in _changes(node) if target in constants]
    assert not found, "\n".join(sorted(set(found)))


def test_no_function_rebinds_a_global() -> None:
    found = [
        f"{name}:{node.lineno} global {', '.join(node.names)}"
        for name in python_files()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Global)
    ]
    assert not found, "\n".join(found)


def test_importing_a_module_does_nothing() -> None:
    found = []
    for name in product_files():
        if name.endswith(("/__main__.py", "migrations/env.py")):
            continue
        for node in tree(name).body:
            call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
            if call or isinstance(node, ast.For | ast.While | ast.With | ast.Delete):
                found.append(f"{name}:{node.lineno} {ast.unparse(node).splitlines()[0]}")
    assert not found, "statements that act on import:\n" + "\n".join(found)
