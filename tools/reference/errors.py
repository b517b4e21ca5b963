"""The page of errors: every diagnostic code with an example and the loader's own words, and the tree of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from conductor.loader.codes import CODES
from conductor.loader.diagnostics import render_text
from conductor.sdk.plugin import Plugin
from tools.reference.mistakes import diagnose
from tools.reference.source import class_lines, heading_anchor, member_lines, table

__all__ = ["errors_page"]

_INTRO = """\
# Errors

Every mistake in a file has a code that never changes its meaning. `conductor explain CND020` prints its text. All
mistakes of all files are reported at once; a warning never stops anything.

A message reads *what failed: why; what to do*.
"""
_CLASSES = """\
Every failed attempt has one of these words. `retries.on` chooses by it which failures are worth another attempt.
"""
_TREE = """\
What the code raises on purpose. The exit code is the command line's, where the error reaches it.
"""


def errors_page(plugins: Mapping[str, Plugin], exit_code: Callable[[str], str]) -> str:
    """`docs/reference/errors.md`.

    Args:
        plugins: The integrations that the examples use.
        exit_code: Name of an error class → the command line's exit code for it, as text.
    """
    titles = {code: f"{code}: {entry.title}" for code, entry in CODES.items()}
    rows = [
        (f"[{code}](#{heading_anchor(titles[code])})", entry.severity, entry.title) for code, entry in CODES.items()
    ]
    meanings = [(f"`{word}`", says) for word, says in member_lines("conductor.core.errors", "ErrorClass").items()]
    return "\n".join(
        [
            _INTRO,
            table(("Code", "Severity", "What"), rows),
            "## Classes of failures\n",
            _CLASSES,
            table(("Class", "Meaning"), meanings),
            "## Errors of the code\n",
            _TREE,
            _tree(exit_code),
            *(_code(code, titles[code], plugins) for code in CODES),
        ]
    )


def _tree(exit_code: Callable[[str], str]) -> str:
    classes = {
        name: (base, says)
        for name, (base, says) in class_lines("conductor.core.errors").items()
        if name.endswith("Error")
    }
    rows: list[tuple[str, str, str]] = []

    def add(name: str, depth: int) -> None:
        rows.append((f"{'&ensp;' * 2 * depth}`{name}`", exit_code(name), classes[name][1]))
        for child, (base, _) in classes.items():
            if base == name:
                add(child, depth + 1)

    add("ConductorError", 0)
    return table(("Error", "Exit code", "Meaning"), rows)


def _code(code: str, title: str, plugins: Mapping[str, Plugin]) -> str:
    entry = CODES[code]
    files, diagnostic = diagnose(code, plugins)
    parts = [f"## {title}\n", f"{entry.explanation}\n"]
    if len(files) <= 2 and all(len(text) < 600 for text in files.values()):
        parts += [f'```yaml title="{name}" wrong\n{text}```\n' for name, text in files.items()]
    parts.append(f"```text\n{render_text([diagnostic]).partition(chr(10) * 2)[0].rstrip()}\n```\n")
    return "\n".join(parts)
