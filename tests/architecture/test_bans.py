"""Names that only their one file may use: the clock, the wait, chance, the environment, the network.

ruff says the same sooner, but for whole files; here each name is held to its own. The table and ruff's are compared.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch

from tests.architecture.source import ROOT, name_of, python_files, text, tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """Names, and the files that may use them all the same.

    Attributes:
        names: Dotted names; a module's name bans everything in it.
        files: Patterns of paths that may use them.
        but: Names inside a banned module that are fine in `but_files`.
        but_files: Where `but` is fine.
    """

    names: tuple[str, ...]
    files: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    but_files: tuple[str, ...] = ()


_CLOCK = "conductor/engine/clock.py"
# A program of its own that outlives Conductor: it has no engine to give it a clock.
_SUPERVISOR = "conductor/sdk/supervisor.py"
_SCRIPTS = "tools/*"

BANS = (
    Ban(
        names=(
            "datetime.datetime.now",
            "datetime.datetime.today",
            "datetime.datetime.utcnow",
            "datetime.date.today",
            "time.time",
        ),
        files=(_CLOCK, _SUPERVISOR, _SCRIPTS),
    ),
    Ban(
        names=("time.monotonic", "time.perf_counter"),
        # Tests of real processes give up after a while, and benchmarks measure.
        files=(_CLOCK, _SUPERVISOR, _SCRIPTS, "tests/integration/*", "tests/e2e/*"),
    ),
    Ban(names=("time.sleep",), files=(_CLOCK, _SUPERVISOR)),
    # A sandbox's server plays a slow vendor.
    Ban(names=("asyncio.sleep",), files=(_CLOCK, "conductor/sdk/sandbox.py")),
    Ban(names=("asyncio.gather",)),
    Ban(
        names=("random",),
        # Seeded chance is no chance.
        but=("random.Random",),
        but_files=("conductor/sim/*", "tests/*"),
    ),
    # An installation is named once, by chance, when its database is made.
    Ban(names=("uuid.uuid4", "uuid.uuid1"), files=("conductor/store/store.py",)),
    Ban(
        names=("os.environ", "os.getenv", "os.putenv"),
        files=(
            "conductor/loader/secrets.py",
            "conductor/config.py",
            "conductor/sdk/child.py",
            "pipelines/demo/__main__.py",
            _SUPERVISOR,
            _SCRIPTS,
            "tests/*",
        ),
    ),
    Ban(names=("pickle", "marshal", "shelve")),
    Ban(names=("eval", "exec")),
    # Tests talk to our own faces, and to the client itself.
    Ban(names=("httpx", "aiohttp"), files=("conductor/sdk/http.py", "tests/*")),
    Ban(names=("requests", "urllib.request")),
    # Fakes over mocks: pass one in.
    Ban(names=("unittest.mock",)),
)
_BUILTINS = frozenset({"eval", "exec"})
_ONLY_HERE = frozenset({*_BUILTINS, "unittest.mock"})


def _aliases(module: ast.Module) -> dict[str, str]:
    """What each imported name of the module stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    found[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
            case ast.ImportFrom(module=str(source), names=names, level=0):
                found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in names}
            case _:
                pass
    return found


def _used(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every dotted name that the module imports or reaches through an import, and its line."""
    aliases = _aliases(module)
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names, lineno=line):
                yield from ((alias.name, line) for alias in names)
            case ast.ImportFrom(module=str(source), names=names, lineno=line):
                yield from ((f"{source}.{alias.name}", line) for alias in names)
            case ast.Attribute(lineno=line) | ast.Name(lineno=line):
                first, dot, rest = name_of(node).partition(".")
                if first in aliases:
                    yield f"{aliases[first]}{dot}{rest}", line
                elif first in _BUILTINS and not dot:
                    yield first, line
            case _:
                pass


def _in(name: str, banned: tuple[str, ...]) -> bool:
    return any(name == ban or name.startswith(f"{ban}.") for ban in banned)


def _is_broken(ban: Ban, file: str, name: str) -> bool:
    if not _in(name, ban.names) or any(fnmatch(file, pattern) for pattern in ban.files):
        return False
    if any(fnmatch(file, pattern) for pattern in ban.but_files):
        # The module itself must be imported to reach what is fine in it.
        return not (_in(name, ban.but) or name in ban.names)
    return True


def test_each_banned_name_stays_in_its_file() -> None:
    found = {
        f"{file}:{line} uses {name}"
        for file in python_files()
        for name, line in _used(tree(file))
        for ban in BANS
        if _is_broken(ban, file, name)
    }
    assert not found, "\n".join(sorted(found))


def test_ruff_bans_the_same_names() -> None:
    settings = tomllib.loads(text("pyproject.toml"))
    ruff = set(settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])
    ours = {name for ban in BANS for name in ban.names} - _ONLY_HERE
    assert ours == ruff


def test_the_bans_see_through_every_way_to_import() -> None:
    sources = (
        "import time\ntime.sleep(1)",
        "import time as t\nt.sleep(1)",
        "from time import sleep\nsleep(1)",
        "from time import sleep as wait\nwait(1)",
        "def f():\n    import time\n    time.sleep(1)",
    )
    for source in sources:
        assert "time.sleep" in {name for name, _ in _used(ast.parse(source))}, source
    assert "datetime.datetime.now" in {
        name for name, _ in _used(ast.parse("from datetime import datetime\ndatetime.now()"))
    }
    assert (ROOT / "pyproject.toml").exists()
