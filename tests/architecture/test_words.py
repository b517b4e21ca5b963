"""Words that no file of ours holds: unfinished work, places on somebody's machine, addresses of package registries."""

from __future__ import annotations

import re

from tests.architecture.source import text, text_files

_BANNED = {
    "unfinished work (finish it, or open an issue)": re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    "a path on somebody's machine": re.compile(
        r"(?<![\w.${}/-])/(?:root/|home/[a-z]|Users/[A-Za-z]|work/(?:main|shared)\b|tmp/briefs)"
    ),
    "a package registry's address (whoever installs chooses it)": re.compile(
        r"(?:pypi\.org|pythonhosted\.org|registry\.npmjs\.org|repo1?\.maven\.org|repo\.maven\.apache\.org|"
        r"artifactory|nexus[.:/]|deb\.debian\.org|--(?:extra-)?index-url|--find-links)",
        re.IGNORECASE,
    ),
}
_HERE = "tests/architecture/test_words.py"


def test_no_file_holds_a_banned_word() -> None:
    found = [
        f"{name}:{number} {what}: {hit.group()}"
        for name in text_files()
        if name != _HERE
        for number, line in enumerate(text(name).splitlines(), start=1)
        for what, pattern in _BANNED.items()
        if (hit := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def test_files_end_with_one_newline_and_hold_no_stray_spaces() -> None:
    found = []
    for name in text_files():
        content = text(name)
        if content and (not content.endswith("\n") or content.endswith("\n\n")):
            found.append(f"{name}: does not end with exactly one newline")
        if "\r" in content or ("\t" in content and name.endswith((".py", ".yml", ".yaml", ".md", ".toml"))):
            found.append(f"{name}: holds tabs or carriage returns")
    assert not found, "\n".join(found)
