"""The tutorial is true: its files are written and its commands run, in order, in an empty folder and without network.

A titled block is a file. A `console` block holds commands after `$ ` and what they print: `…` stands for anything, in a
line or, alone in a line, for any lines; runs of spaces count as one. `exit=N` is the exit code of its last command.
`background` keeps running until the end of the page, and must then end by SIGTERM with exit code 0.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks

_PAGE = "docs/tutorial/first-pipeline.md"
_LIMIT_S = 60.0


def _environment(home: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def _steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is to print."""
    command, expected = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        else:
            expected.append(line)
    yield command, expected


def _pattern(expected: list[str]) -> re.Pattern[str]:
    parts = []
    for line in expected:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            words = " ".join(line.split())
            parts.append(".*?".join(re.escape(part) for part in words.split("…")) + r"\n")
    return re.compile("".join(parts))


def _plain(text: str) -> str:
    return "".join(f"{' '.join(line.split())}\n" for line in text.splitlines())


def _run(command: str, expected: list[str], *, folder: Path, variables: Mapping[str, str], code: int) -> None:
    done = subprocess.run(
        command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=_LIMIT_S
    )
    printed = f"$ {command}\n{done.stdout}{done.stderr}"
    assert done.returncode == code, printed
    pattern = _pattern(expected)
    # A terminal shows both streams in the order in which they were written; in two pipes that order is lost.
    orders = (done.stdout + done.stderr, done.stderr + done.stdout)
    assert not expected or any(pattern.fullmatch(_plain(text)) for text in orders), (
        f"{printed}\ndoes not read as the page says:\n" + "\n".join(expected)
    )


@contextmanager
def _kept_running(command: str, expected: list[str], *, folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        try:
            seen, pattern = "", _pattern(expected)
            while not pattern.search(_plain(seen)):
                ready, _, _ = select.select([process.stdout], [], [], _LIMIT_S)
                data = os.read(process.stdout.fileno(), 65_536) if ready else b""
                assert data, f"$ {command}\n{seen}\ndoes not say {expected}"
                seen += data.decode()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_LIMIT_S)
        assert process.returncode == 0, f"{command} ended with {process.returncode}"


def _code(block: Block) -> int:
    return next((int(mark.removeprefix("exit=")) for mark in block.marks if mark.startswith("exit=")), 0)


@pytest.mark.xdist_group("processes")
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    folder, variables = tmp_path, _environment(tmp_path)
    ran = 0
    with ExitStack() as stack:
        for block in blocks(_PAGE):
            if block.title:
                target = folder / block.title
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
            if block.language != "console":
                continue
            steps = list(_steps(block))
            for at, (command, expected) in enumerate(steps):
                ran += 1
                if command.startswith("cd "):
                    folder = folder / command.removeprefix("cd ")
                elif "background" in block.marks:
                    stack.enter_context(_kept_running(command, expected, folder=folder, variables=variables))
                else:
                    code = _code(block) if at == len(steps) - 1 else 0
                    _run(command, expected, folder=folder, variables=variables, code=code)
    assert ran > 10
