"""The reference pages are what the code says today."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ROOT
from tools.docs import pages

_PAGES = pages()


@pytest.mark.parametrize("name", _PAGES)
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == _PAGES[name], "run `make docs`"


def test_making_the_pages_again_gives_the_same() -> None:
    assert pages() == _PAGES
