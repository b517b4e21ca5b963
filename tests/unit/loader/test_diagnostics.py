"""Diagnostics read as the design shows them."""

from __future__ import annotations

from conductor.loader.diagnostics import Diagnostic, Severity, did_you_mean, render_json, render_text
from tests.unit.loader.fakes import load, pipeline

TEXT = pipeline(
    "  sync_orders: {uses: vendor.sync, with: {target: t}}\n"
    "  build:\n"
    "    uses: vendor.sync\n"
    "    with: {target: t}\n"
    "    needs: [sync_order]\n"
    "    depends_on: [sync_order]\n"
)

SHOWN = """\
error[CND002]: unknown field `needs`
  --> p.yml:8:5
  |
8 |     needs: [sync_order]
  |     ^^^^^
  = help: use `depends_on`

error[CND020]: `sync_order` is not a node of this pipeline
  --> p.yml:9:18
  |
9 |     depends_on: [sync_order]
  |                  ^^^^^^^^^^
  = help: did you mean `sync_orders`?

2 errors in 1 file; run `conductor explain CND002` for more
"""


def test_text_shows_place_line_caret_and_help() -> None:
    assert render_text(load(TEXT)[1]) == SHOWN
    assert render_text(()) == ""


def test_json_has_the_same_facts() -> None:
    first = render_json(load(TEXT)[1])[0]
    assert first == {
        "code": "CND002", "severity": "error", "message": "unknown field `needs`", "path": "p.yml", "line": 8,
        "column": 5, "length": 5, "source_line": "    needs: [sync_order]", "help": "use `depends_on`",
    }  # fmt: skip


def test_long_lines_are_cut_round_the_caret_and_control_characters_do_not_reach_a_terminal() -> None:
    text = pipeline(f"  a: {{uses: vendor.sync, with: {{target: '{'x' * 500}'}}, depends_on: [zz]}}\n")
    lines = render_text(load(text)[1]).splitlines()
    assert max(map(len, lines)) < 140
    shown, caret = lines[3], lines[4]
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "zz"
    hostile = pipeline("  a: {uses: vendor.sync, with: {target: t}, depends_on: ['\\e[2J\\u202e']}\n".replace("'", '"'))
    assert all(line.isprintable() for line in render_text(load(hostile)[1]).splitlines())


def test_a_cycle_is_named_with_the_line_of_each_node() -> None:
    found = load(
        pipeline(
            "  a: {uses: vendor.sync, with: {target: t}, depends_on: [b]}\n"
            "  b: {uses: vendor.sync, with: {target: t}, depends_on: [c]}\n"
            "  c: {uses: vendor.sync, with: {target: t}, depends_on: [a]}\n"
            "  x: {uses: vendor.sync, with: {target: t}, depends_on: [y]}\n"
            "  y: {uses: vendor.sync, with: {target: t}, depends_on: [x]}\n"
        )
    )[1]
    assert [(one.code, one.line) for one in found] == [("CND021", 4), ("CND021", 7)]
    assert "`a` → `b` → `c` → `a`" in found[0].message
    assert "a (p.yml:4), b (p.yml:5), c (p.yml:6)" in found[0].help


def test_nothing_is_suggested_for_a_word_that_is_near_to_nothing() -> None:
    assert did_you_mean("depend_on", ["depends_on", "uses"]) == "did you mean `depends_on`?"
    assert did_you_mean("zzzz", ["depends_on", "uses"]) == ""


def test_a_warning_alone_is_counted_as_one() -> None:
    warning = Diagnostic(code="CND061", severity=Severity.WARNING, message="m", path="f")
    assert render_text([warning]).endswith("1 warning in 1 file; run `conductor explain CND061` for more\n")
