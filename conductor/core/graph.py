"""Order, cycles and ancestry of a dependency graph. Pure, iterative, linear; knows nothing of nodes but their names."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Ancestry", "Graph", "components", "find_cycles", "topological_order"]

Graph = Mapping[str, Sequence[str]]
"""Name → the names it depends on. Names that are not keys are ignored everywhere."""


def components(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """The strongly connected components, each after all that it depends on; otherwise in the order written.

    Tarjan's algorithm with a stack of its own: depth costs memory, never a RecursionError.
    """
    walk = _Walk(graph)
    for name in graph:
        walk.visit(name)
    return tuple(walk.found)


def topological_order(graph: Graph) -> tuple[str, ...]:
    """All names, each after all that it depends on; exactly the order written where that is one.

    Raises:
        ValueError: The graph has a cycle.
    """
    order = []
    for group in components(graph):
        if len(group) > 1 or group[0] in graph[group[0]]:
            raise ValueError(f"no order: {group[0]} depends on itself")
        order.append(group[0])
    return tuple(order)


def find_cycles(graph: Graph) -> tuple[tuple[tuple[str, ...], int], ...]:
    """For every knot of names that depend on one another: a shortest cycle in it, and how many names the knot has.

    In a cycle each name depends on the next and the last on the first; it begins at the knot's first written name.
    A name that depends on itself alone is a cycle of one. A graph can hold more cycles than atoms exist, so each knot
    is named by one; once that is cut, the next shows itself.
    """
    written = {name: at for at, name in enumerate(graph)}
    cycles = []
    for group in components(graph):
        first = min(group, key=written.__getitem__)
        if len(group) > 1 or first in graph[first]:
            cycles.append((_shortest(graph, first, frozenset(group)), len(group)))
    return tuple(sorted(cycles, key=lambda cycle: written[cycle[0][0]]))


class Ancestry:
    """Answers "does `below` depend on `above`, directly or not", also in a graph with cycles.

    One bit per pair, built on the first question: ten thousand names cost some 12 MB and a fraction of a second.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._bit: dict[str, int] = {}
        self._above: dict[str, int] = {}

    def has(self, *, above: str, below: str) -> bool:
        """True when `below` cannot begin before `above` in a graph without cycles. No name is above itself there."""
        if not self._above:
            self._build()
        return above in self._bit and below in self._above and bool(self._above[below] >> self._bit[above] & 1)

    def _build(self) -> None:
        self._bit = {name: at for at, name in enumerate(self._graph)}
        for group in components(self._graph):
            above = 0
            for name in group:
                for other in self._graph[name]:
                    if other in self._bit:
                        above |= self._above.get(other, 0) | 1 << self._bit[other]
            for name in group:
                self._above[name] = above


class _Walk:
    """Tarjan's walk: numbers names as it meets them and cuts off a component when its first name is left."""

    def __init__(self, graph: Graph) -> None:
        self.found: list[tuple[str, ...]] = []
        self._graph = graph
        self._number: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._path: list[str] = []
        self._on_path: set[str] = set()

    def visit(self, root: str) -> None:
        if root in self._number:
            return
        work = [self._enter(root)]
        while work:
            name, upstream = work[-1]
            deeper = self._next_unseen(name, upstream)
            if deeper is not None:
                work.append(self._enter(deeper))
                continue
            work.pop()
            if work:
                below = work[-1][0]
                self._low[below] = min(self._low[below], self._low[name])
            if self._low[name] == self._number[name]:
                self._cut(name)

    def _enter(self, name: str) -> tuple[str, Iterator[str]]:
        self._number[name] = self._low[name] = len(self._number)
        self._path.append(name)
        self._on_path.add(name)
        return name, iter(self._graph[name])

    def _next_unseen(self, name: str, upstream: Iterator[str]) -> str | None:
        for other in upstream:
            if other not in self._graph:
                continue
            if other not in self._number:
                return other
            if other in self._on_path:
                self._low[name] = min(self._low[name], self._number[other])
        return None

    def _cut(self, name: str) -> None:
        group = [self._path.pop()]
        while group[-1] != name:
            group.append(self._path.pop())
        self._on_path.difference_update(group)
        self.found.append(tuple(reversed(group)))


def _shortest(graph: Graph, first: str, group: frozenset[str]) -> tuple[str, ...]:
    came_from: dict[str, str] = {}
    queue = deque([first])
    while queue:
        name = queue.popleft()
        for other in graph[name]:
            if other == first:
                back = [name]
                while back[-1] != first:
                    back.append(came_from[back[-1]])
                return tuple(reversed(back))
            if other in group and other not in came_from:
                came_from[other] = name
                queue.append(other)
    raise AssertionError(f"{first} is in no cycle")  # unreachable: a knot leads back to each of its names
