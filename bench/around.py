"""What is measured round the engine: how fast the command line answers and how much an installation weighs."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from bench.children import BYTE_CODE
from conductor.engine.clock import SystemClock

__all__ = ["help_s", "installed_mb", "listed_mb"]

_NAME = re.compile(r"^([a-z0-9][a-z0-9._-]*)", re.MULTILINE)
_BASE = Path("requirements/base.txt")


async def help_s() -> float | None:
    """Seconds from the start of `conductor --help` to its end; None when there is no command line."""
    clock = SystemClock()
    began_s = clock.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-E", "-X", f"pycache_prefix={BYTE_CODE}"),
        *("-c", "from conductor.cli.main import main; main()", "--help"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    status = await process.wait()
    return clock.monotonic() - began_s if status == 0 else None


def listed_mb() -> float | None:
    """What the packages of the base install weigh in this environment, in MB; None when one is not here.

    Counts the files that each package lists, without byte code, which is made on this machine.
    """
    total = 0
    for name in _NAME.findall(_BASE.read_text(encoding="utf-8")):
        try:
            files = distribution(name).files or []
        except PackageNotFoundError:
            if name == "colorama":  # Windows only.
                continue
            return None
        paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
        total += sum(path.stat().st_size for path in paths if path.is_file())
    return total / 1e6


async def installed_mb() -> float:
    """What a fresh environment weighs after the base install, byte code included, pip not, in MB.

    Raises:
        RuntimeError: pip failed; its words are on the terminal.
    """
    with tempfile.TemporaryDirectory(prefix="conductor-bench-") as folder:
        target = Path(folder) / "site"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--target"),
            *(str(target), "-r", str(_BASE)),
        )
        if await process.wait() != 0:
            raise RuntimeError("pip could not install requirements/base.txt: see above")
        return sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
