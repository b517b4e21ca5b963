"""Runs the slower lanes of the tests, one after another: those that this machine allows, naming those that it does not.

A lane is a set of tests behind one pytest marker, and the commands and packages that they take. With CI=true the
missing packages are installed where the machine allows it; elsewhere nothing is installed and the lane is named.
The last line always says which lanes did not run, and why. Exits with 1 when a lane ran and failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANES", "Lane", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_NOTHING_COLLECTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One set of slower tests.

    Attributes:
        name: What people call it.
        marker: The pytest expression that selects its tests.
        commands: Programs that must be on PATH.
        packages: The Debian packages that bring them.
        requirements: A further pinned file, relative to the root; empty for none.
        limit_s: The lane fails when it takes longer, in seconds.
    """

    name: str
    marker: str
    commands: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    requirements: str = ""
    limit_s: float = 900.0


LANES = (Lane(name="slow", marker="slow", limit_s=1100.0),)


def main() -> int:
    """Run every lane that can run. The exit code: 0 when none of them failed."""
    may_install = os.environ.get("CI") == "true"
    failed: list[str] = []
    not_run: list[str] = []
    for lane in LANES:
        reason = _missing(lane, may_install=may_install)
        if reason:
            not_run.append(f"{lane.name} ({reason})")
            continue
        print(f"== lane {lane.name}", flush=True)
        code = _run(lane)
        if code == _NOTHING_COLLECTED:
            not_run.append(f"{lane.name} (it has no tests)")
        elif code != 0:
            failed.append(lane.name)
    if failed:
        print(f"lanes failed: {', '.join(failed)}")
    print(f"lanes not run: {', '.join(not_run) or 'none'}")
    return 1 if failed else 0


def _missing(lane: Lane, *, may_install: bool) -> str:
    """Why the lane cannot run here; empty when it can."""
    if may_install and not _has_commands(lane):
        _install_packages(lane)
    absent = [command for command in lane.commands if shutil.which(command) is None]
    if absent:
        return f"not on PATH: {' '.join(absent)}; install {' '.join(lane.packages)}"
    if lane.requirements:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lane.requirements]
        if subprocess.run(pip, cwd=_ROOT, check=False).returncode != 0:
            return f"pip could not install {lane.requirements}"
    return ""


def _has_commands(lane: Lane) -> bool:
    return all(shutil.which(command) is not None for command in lane.commands)


def _install_packages(lane: Lane) -> None:
    if shutil.which("apt-get") is None or not lane.packages:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if sudo and shutil.which("sudo") is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "--no-install-recommends", *lane.packages],
    ):
        subprocess.run([*sudo, *step], env=environment, stdin=subprocess.DEVNULL, check=False)


def _run(lane: Lane) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-m", lane.marker, "--durations=10"]
    try:
        return subprocess.run(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, check=False, timeout=lane.limit_s
        ).returncode
    except subprocess.TimeoutExpired:
        print(f"lane {lane.name}: stopped after {lane.limit_s:.0f} s")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
