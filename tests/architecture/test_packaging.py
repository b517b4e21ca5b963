"""The pins, the commands and the entry points fit together."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT, functions, product_files, text, tree

_PINS = ("requirements/base.txt", "requirements/demo.txt", "requirements/dev.txt")
_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)(?:\[[a-z,]+\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)
_PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
_EXTRAS = _PROJECT["optional-dependencies"]
_OWN = ("conductor", "integrations", "__future__")
# What they start runs here: their contract suite meets the real thing and needs no sandbox.
_ON_THIS_HOST = frozenset({"command", "dbt", "sql"})
# Packages that are one with another one, which is declared.
_PART_OF = {"pydantic_core": "pydantic"}


def _pins(file: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for pin in _PIN.finditer(text(file)):
        found.setdefault(canonicalize_name(pin["name"]), set()).add(pin["version"])
    return found


def _wanted(file: str) -> list[Requirement]:
    extras = {"base": (), "demo": ("dbt", "duckdb"), "dev": ("dbt", "duckdb", "postgres", "dev")}
    chosen = extras[file.removeprefix("requirements/").removesuffix(".txt")]
    lines = [
        *_PROJECT["dependencies"],
        *(line for extra in chosen for line in _PROJECT["optional-dependencies"][extra]),
    ]
    return [want for line in lines if (want := Requirement(line)).name != _PROJECT["name"]]


def test_requirements_name_no_host() -> None:
    found = [
        f"requirements/{path.name}:{number}"
        for path in sorted((ROOT / "requirements").iterdir())
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"https?://|^\s*--(?!hash)", line)
    ]
    assert not found, f"addresses or options in pin files: {found}"


@pytest.mark.parametrize("file", _PINS)
def test_every_requirement_is_pinned_with_a_hash(file: str) -> None:
    loose = [
        entry.split()[0]
        for entry in re.split(r"\n(?=\S)", text(file))
        if not entry.startswith("#") and not (_PIN.match(entry) and "--hash=sha256:" in entry)
    ]
    assert not loose, f"make them with `make lock`: {loose}"


@pytest.mark.parametrize("file", _PINS)
def test_the_pins_fit_what_the_project_asks_for(file: str) -> None:
    pins = _pins(file)
    stale = [
        str(want)
        for want in _wanted(file)
        if not any(want.specifier.contains(version) for version in pins.get(canonicalize_name(want.name), ()))
    ]
    assert not stale, f"{file} is out of date, run `make lock`: {stale}"


def test_one_package_has_one_version_in_every_file() -> None:
    dev = _pins("requirements/dev.txt")
    for file in _PINS:
        for name, versions in _pins(file).items():
            assert versions <= dev.get(name, set()), f"{file}: {name} {versions}, dev.txt {dev.get(name)}"


def _imports(name: str) -> Iterator[tuple[str, bool]]:
    """The top-level packages that the file imports, and whether on import of the file itself."""
    lazy = {inner for function in functions(name) for inner in ast.walk(function)}
    for node in ast.walk(tree(name)):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name.partition(".")[0], node not in lazy) for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module.partition(".")[0], node not in lazy
            case _:
                pass


def test_everything_imported_is_declared() -> None:
    """What a module imports at once comes with the base install; an extra's package is imported where it is used."""
    base = {canonicalize_name(want.name) for want in _wanted("requirements/base.txt")}
    extras = {canonicalize_name(Requirement(line).name) for lines in _EXTRAS.values() for line in lines}
    owners = packages_distributions()
    wrong = []
    for name in product_files():
        for package, is_eager in set(_imports(name)) - {(top, eager) for top in _OWN for eager in (True, False)}:
            if package in sys.stdlib_module_names:
                continue
            distributions = {
                canonicalize_name(owner) for owner in owners.get(_PART_OF.get(package, package), [package])
            }
            if not distributions & (base if is_eager else base | extras):
                wrong.append(f"{name} imports {package}, not in {'dependencies' if is_eager else 'any extra'}")
    assert not wrong, "declare it in pyproject.toml and run `make lock`:\n" + "\n".join(sorted(wrong))


def test_every_integration_is_registered_and_complete() -> None:
    entries = _PROJECT["entry-points"]["conductor.integrations"]
    wrong = []
    for folder in sorted(path.parent for path in (ROOT / "integrations").glob("*/integration.py")):
        if entries.get(folder.name) != f"integrations.{folder.name}:plugin":
            wrong.append(f"{folder.name}: no entry point in pyproject.toml")
        wrong += [
            f"{folder.name}: no {part}"
            for part in ("README.md", "__init__.py", "config.py", "mapping.py", "sandbox.py")
            if not (folder / part).exists() and (part != "sandbox.py" or folder.name not in _ON_THIS_HOST)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_make_command_that_is_written_down_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", text("Makefile"), re.MULTILINE))
    written = {
        (name, target)
        for name in ("README.md", "CONTRIBUTING.md", ".ci/run")
        if (ROOT / name).exists()
        for target in re.findall(r"(?:^|`|\" \d+ )make ([a-z][a-z-]*)", text(name), re.MULTILINE)
    }
    unknown = sorted(f"{name}: make {target}" for name, target in written if target not in targets)
    assert not unknown, f"no such target in the Makefile: {unknown}"
