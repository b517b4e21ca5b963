"""Which of the starts that are owed may go now: pools, connection limits and exclusive objects, across all runs.

Slots are counted from the attempts' states, never kept in a counter: a slot cannot leak, and external work counts for
as long as the vendor may be doing it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Limits", "Usage", "Want", "admit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A start (or the baseline before it) that asks for its slots.

    Attributes:
        id: The caller's own handle.
        connection: Its connection; `connection` is also the name of a pool.
        scope: The exclusive object that it occupies; empty for none.
        pools: Named pools.
        priority: Higher first.
        order: Ties: lower first, such as the time since it is ready.
        has_slot: It holds its slots already (its baseline was read): it goes without being counted again.
    """

    id: object
    connection: str
    scope: str = ""
    pools: tuple[str, ...] = ()
    priority: int = 0
    order: tuple[object, ...] = ()
    has_slot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much may go on at once.

    Attributes:
        connections: Connection → most external runs at once; absent means no limit.
        pools: Pool → slots. A pool that is not named here has no limit.
        closed: Connections on which nothing may be started (bad credentials).
    """

    connections: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()


class Usage:
    """What attempts in flight occupy. Add each once; ask `blocker` for what is in the way of a want."""

    __slots__ = ("_connections", "_pools", "_scopes")

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}
        self._pools: dict[str, int] = {}
        self._scopes: dict[tuple[str, str], int] = {}

    def add(self, connection: str, scope: str, pools: Iterable[str], n: int = 1) -> None:
        """Count `n` more (or, negative, fewer) attempts."""
        self._connections[connection] = self._connections.get(connection, 0) + n
        for pool in set(pools):
            self._pools[pool] = self._pools.get(pool, 0) + n
        if scope:
            self._scopes[(connection, scope)] = self._scopes.get((connection, scope), 0) + n

    def blocker(self, want: Want, limits: Limits) -> str | None:
        """What is in the way of `want`, in words; None when it may go."""
        if want.connection in limits.closed:
            return f"connection {want.connection} is stopped: its credentials were refused"
        if want.has_slot:
            return None
        most = limits.connections.get(want.connection)
        if most is not None and self._connections.get(want.connection, 0) >= most:
            return f"connection {want.connection} is full ({most} at once)"
        for pool in want.pools:
            slots = limits.pools.get(pool)
            if slots is not None and self._pools.get(pool, 0) >= slots:
                return f"pool {pool} is full ({slots} at once)"
        if want.scope and self._scopes.get((want.connection, want.scope), 0) > 0:
            return f"another start on {want.scope} is not over yet"
        return None


def admit(wants: Iterable[Want], limits: Limits, usage: Usage) -> list[Want]:
    """The wants that may go now, best first. Counts them into `usage`.

    Higher priority goes first, then lower `order`. A want that is blocked does not hold back the ones behind it that
    need other slots.
    """
    going: list[Want] = []
    for want in sorted(wants, key=lambda want: (-want.priority, want.order)):
        if usage.blocker(want, limits) is None:
            if not want.has_slot:
                usage.add(want.connection, want.scope, want.pools)
            going.append(want)
    return going
