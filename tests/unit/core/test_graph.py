"""The order, the cycles and the ancestry of random graphs agree with slower, independent ways to find them."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor.core.graph import Ancestry, components, find_cycles, topological_order

Edges = dict[str, list[str]]


@st.composite
def graphs(draw: st.DrawFn) -> Edges:
    names = [f"n{at}" for at in range(draw(st.integers(1, 9)))]
    return {name: draw(st.lists(st.sampled_from([*names, "elsewhere"]), max_size=4)) for name in names}


def closure(graph: Edges) -> set[tuple[str, str]]:
    """All pairs (above, below), by repeated joining until nothing is new."""
    pairs = {(above, below) for below, upstream in graph.items() for above in upstream if above in graph}
    while True:
        more = {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs
        if not more:
            return pairs
        pairs |= more


@given(graphs())
def test_ancestry_agrees_with_the_transitive_closure(graph: Edges) -> None:
    pairs = closure(graph)
    ancestry = Ancestry(graph)
    for above in graph:
        for below in graph:
            if above != below:
                assert ancestry.has(above=above, below=below) == ((above, below) in pairs)


@given(graphs())
def test_an_order_exists_exactly_where_the_standard_library_finds_one(graph: Edges) -> None:
    inside = {name: [other for other in upstream if other in graph] for name, upstream in graph.items()}
    try:
        TopologicalSorter(inside).prepare()
    except CycleError:
        with pytest.raises(ValueError, match="depends on itself"):
            topological_order(graph)
        assert find_cycles(graph)
        return
    order = topological_order(graph)
    assert sorted(order) == sorted(graph)
    assert find_cycles(graph) == ()
    for below, upstream in inside.items():
        assert all(order.index(above) < order.index(below) for above in upstream)


@given(graphs())
def test_every_knot_is_named_by_one_real_cycle(graph: Edges) -> None:
    pairs = closure(graph)
    knots = {frozenset(b for b in graph if {(a, b), (b, a)} <= pairs) for a in graph if (a, a) in pairs}
    named = find_cycles(graph)
    assert len(named) == len(knots)
    for cycle, size in named:
        assert frozenset(cycle) <= next(knot for knot in knots if cycle[0] in knot)
        assert size == len(next(knot for knot in knots if cycle[0] in knot))
        assert all(after in graph[before] for before, after in pairwise([*cycle, cycle[0]]))
        assert len(set(cycle)) == len(cycle)


@given(graphs())
def test_components_hold_each_name_once(graph: Edges) -> None:
    assert sorted(name for group in components(graph) for name in group) == sorted(graph)


def test_an_order_that_is_right_is_kept_as_written() -> None:
    graph = {"z": [], "a": ["z"], "m": [], "b": ["m", "a"]}
    assert topological_order(graph) == ("z", "a", "m", "b")


def test_a_chain_of_a_hundred_thousand_needs_no_recursion() -> None:
    graph = {f"n{at}": [f"n{at + 1}"] for at in range(100_000)}
    assert topological_order(graph)[0] == "n99999"
    graph["n99999"] = ["n0"]
    assert find_cycles(graph)[0][1] == 100_000


def test_a_name_that_depends_on_itself_is_a_cycle_of_one() -> None:
    assert find_cycles({"a": ["a"], "b": ["a"]}) == ((("a",), 1),)
