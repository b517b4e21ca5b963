"""The reader takes YAML 1.2 and nothing clever, always answers, and knows where everything stands."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.loader.compile import compile_pipeline
from conductor.loader.diagnostics import Report, render_json, render_text
from conductor.loader.scope import Operations
from conductor.loader.yamlread import MAX_BYTES, read_yaml
from tests.unit.loader.fakes import FACTS, PLUGINS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10:30", "10:30"), ("on", "on"), ("no", "no"), ("yes", "yes"), ("010", 10), ("0o17", 15), ("0x1F", 31),
        ("1_000", "1_000"), ("1e3", 1000.0), ("+.5", 0.5), ("1.", 1.0), ("-0", 0), ("~", None), ("null", None),
        ("", None), ("True", True), ("tRue", "tRue"), ("2026-01-05", "2026-01-05"), ("'1'", "1"),
        ('"true"', "true"), ('"-"', "-"),
        ("1.2.3", "1.2.3"), ("=", "="), ("|\n  x\n  y", "x\ny\n"), ("[1, a, {b: }]", [1, "a", {"b": None}]),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    file = read_yaml(f"k: {text}\n".encode(), path="f.yml")
    assert file.diagnostics == ()
    assert file.value == {"k": value}
    assert isinstance(file.value, dict)
    assert type(file.value["k"]) is type(value)


def test_keys_are_always_text() -> None:
    file = read_yaml(b"1: a\ntrue: b\nno: c\n~: d\n", path="f.yml")
    assert file.value == {"1": "a", "true": "b", "no": "c", "~": "d"}


def test_places_are_counted_in_characters_also_after_a_byte_order_mark_and_behind_other_scripts() -> None:
    file = read_yaml("\ufeffé\U0001d4b3: {ü: [a, bb]}\n".encode(), path="f.yml")
    place = file.source.place(("é\U0001d4b3", "ü", 1))
    assert (place.line, place.column, place.length) == (1, 13, 2)
    assert file.source.place(("é\U0001d4b3", "ü"), on_key=True).column == 6


BOMBS = {
    "brackets": "[" * 900_000,
    "braces": "{" * 900_000,
    "dashes": "- " * 450_000,
    "questions": "? " * 450_000,
    "nested pairs": "[a: " * 200_000,
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"k{n}: &k{n} [*a,*a,*a,*a,*a,*a,*a]\n" for n in range(9)),
    "merge": "a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n",
    "documents": "---\n" * 250_000,
    "indentation": "".join(f"{' ' * depth}a:\n" for depth in range(1300)),
    "quote": "'" + "a" * 900_000,
    "digits": "a: " + "9" * 900_000,
    "exponent": "a: 1e999999999",
    "tags": "!" * 900_000,
    "many aliases": "a: &a 1\nb:\n" + "- *a\n" * 180_000,
    "many repeats": "a: 1\n" * 180_000,
    "too large": "#" * (MAX_BYTES + 1),
    "escapes": 'a: "' + "\\x41" * 200_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_cleanly_and_at_once(name: str) -> None:
    data = BOMBS[name].encode()
    before = time.process_time()
    file = read_yaml(data, path="f.yml")
    text = render_text(file.diagnostics)
    assert time.process_time() - before < 0.2 * 5  # five times the figure, for machines that are busy or slow
    assert file.value is None
    assert file.diagnostics
    assert len(text) < 1_000_000


def test_a_dense_file_ends_at_the_limit_of_values() -> None:
    file = read_yaml(f"[{'1,' * 400_000}]".encode(), path="f.yml")
    assert [diagnostic.code for diagnostic in file.diagnostics] == ["CND007"]


_PIECES = st.sampled_from(
    ["a", "nodes", ": ", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "!t ", "|", ">",
     "#", "%", "@", "`", "\t", "? ", "---", "...", "<<", "1", ".5", "0x", "~", "é", "\u2028", "\x85", "\x00", "\ud7ff",
     "${{ ", " }}", "params.a", "version: 1", "name: p", "uses: vendor.sync", "with: {target: t}", "depends_on: [a]"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(_PIECES, max_size=40).map("".join), st.text(max_size=200)))
def test_any_text_gives_an_answer_or_clean_diagnostics(text: str) -> None:
    file = read_yaml(text.encode("utf-8", "replace"), path="f.yml")
    assert (file.value is None) >= bool(file.diagnostics)
    if not file.diagnostics:
        report = Report(file.source)
        plan = compile_pipeline(file.value, report=report, operations=Operations(PLUGINS), facts=FACTS)
        assert (plan is None) == report.has_errors()
    for diagnostic in file.diagnostics:
        assert not diagnostic.line or 1 <= diagnostic.column <= len(diagnostic.source_line) + 1
    render_text(file.diagnostics)
    render_json(file.diagnostics)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_clean_diagnostics(data: bytes) -> None:
    file = read_yaml(data, path="f.yml")
    assert (file.value is None) >= bool(file.diagnostics)


def test_ten_thousand_nodes_load_within_the_limit() -> None:
    lines = ["version: 1", "name: big", "nodes:"]
    for at in range(10_000):
        lines += [f"  n{at}:", "    uses: vendor.sync", f"    with: {{target: t{at}}}"]
        lines += [f"    depends_on: [n{at - 1}]"] if at else []
    before = time.process_time()
    file = read_yaml("\n".join(lines).encode(), path="f.yml")
    report = Report(file.source)
    plan = compile_pipeline(file.value, report=report, operations=Operations(PLUGINS), facts=FACTS)
    spent_s = time.process_time() - before
    assert plan is not None
    assert len(plan.nodes) == 10_000
    assert spent_s < 2 * 3  # three times the figure, for machines that are busy or slow
