"""Every link between pages leads somewhere, and every page can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, anchors, documents, links


def _broken(document: str, target: str) -> str:
    if target.startswith(("http://", "https://", "mailto:")):
        return ""
    path, _, anchor = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    if not file.exists():
        return f"{target}: no such file"
    if not file.resolve().is_relative_to(ROOT):
        return f"{target}: leads out of the project"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.resolve().relative_to(ROOT).as_posix()):
        return f"{target}: no such heading"
    return ""


@pytest.mark.parametrize("document", documents())
def test_every_link_leads_somewhere(document: str) -> None:
    broken = [problem for target in links(document) if (problem := _broken(document, target))]
    assert not broken, "\n".join(broken)


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, open_ = set(), [Path("docs/README.md")]
    while open_:
        page = open_.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for target in links(page.as_posix()):
            path = target.partition("#")[0]
            if path and not path.startswith("http"):
                open_.append(((ROOT / page).parent / path).resolve().relative_to(ROOT))
    lost = [document for document in documents() if Path(document) not in seen and document != "README.md"]
    assert not lost, f"no link leads to {lost}"
