"""The fenced blocks and the links of Markdown pages, as the tests of the documents read them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "Block", "anchors", "blocks", "documents", "links"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"(?<!\!)\[[^\]\n]*(?:\[[^\]\n]*\][^\]\n]*)?\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        document: The page's path from the project's root.
        line: Where its first line stands in the page.
        language: The first word after the fence.
        title: The file that it is; empty for none. A first line such as `# connections.yml` says it too.
        marks: The other words after the fence, such as `fragment` or `exit=1`.
        text: What stands between the fences.
    """

    document: str
    line: int
    language: str
    title: str
    marks: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Every page that people read, as a path from the project's root."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "integrations").glob("*/README.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@cache
def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str) -> Iterator[Block]:
    """The blocks of one page, in order."""
    text = _text(document)
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["info"])
        words = _TITLE.sub("", match["info"]).split()
        body = textwrap.dedent(match["body"])
        comment = re.match(r"# ([\w./-]+\.ya?ml)\s", body)
        yield Block(
            document=document,
            line=text.count("\n", 0, match.start()) + 2,
            language=words[0] if words else "",
            title=title[1] if title else comment[1] if comment else "",
            marks=frozenset(words[1:]),
            text=body,
        )


def links(document: str) -> Iterator[str]:
    """The targets of the links in one page, outside its blocks and code."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", _text(document)))
    yield from _LINK.findall(prose)


def anchors(document: str) -> set[str]:
    """The anchors of a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", _text(document)), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(name)
    return found
