"""Who waits for slots and who holds them, kept in step with the runs' states. It follows them and decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from conductor.core.admit import Limits, Usage, Want, admit
from conductor.core.owed import Prepare, Start
from conductor.core.plan import NodePlan
from conductor.core.run import Attempt, Run

__all__ = ["Capacity", "Holding", "Key"]

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Holding:
    """What one attempt occupies."""

    connection: str
    scope: str
    pools: tuple[str, ...]


class Capacity:
    """The engine's view of slots: `hold` and `let_go` follow states, `want` and `unwant` follow what is owed."""

    def __init__(self, *, connections: Mapping[str, int], pools: Mapping[str, int]) -> None:
        self._connections = connections
        self._pools = pools
        self._usage = Usage()
        self._holding: dict[Key, Holding] = {}
        self._wants: dict[Key, Want] = {}
        self._is_stale = False

    def hold(self, key: Key, plan: NodePlan, attempt: Attempt) -> None:
        """The attempt occupies its slots; a second time changes nothing."""
        holding = Holding(plan.connection, _scope(plan, attempt), plan.pools)
        known = self._holding.get(key)
        if known == holding:
            return
        if known is not None:
            self.let_go(key)
        self._usage.add(holding.connection, holding.scope, holding.pools)
        self._holding[key] = holding

    def let_go(self, key: Key) -> None:
        """The attempt occupies nothing any more."""
        holding = self._holding.pop(key, None)
        if holding is not None:
            self._usage.add(holding.connection, holding.scope, holding.pools, -1)
            self._is_stale = True

    def want(self, run: Run, effect: Prepare | Start) -> None:
        """A start (or its baseline) asks for its turn."""
        key = (run.id, effect.node)
        plan = run.plan.nodes[effect.node]
        node = run.nodes[effect.node]
        assert node.attempt is not None
        want = Want(
            id=(key, effect),
            connection=plan.connection,
            scope=_scope(plan, node.attempt),
            pools=plan.pools,
            priority=run.priority + plan.priority,
            order=(node.ready_at or run.created_at, run.created_at, run.id, effect.node),
            has_slot=key in self._holding,
        )
        if self._wants.get(key) != want:
            self._wants[key] = want
            self._is_stale = True

    def unwant(self, key: Key) -> None:
        """It asks no more."""
        self._wants.pop(key, None)

    def connections_wanted(self) -> set[str]:
        """The connections on which something waits for its turn; empty when nothing can have changed."""
        return {want.connection for want in self._wants.values()} if self._is_stale else set()

    def connection_of(self, key: Key) -> str:
        """The connection on which somebody waits for a turn."""
        return self._wants[key].connection

    def wanting_on(self, connections: Mapping[str, str]) -> list[Key]:
        """Who waits for a turn on one of these connections."""
        if not connections:
            return []
        return sorted(key for key, want in self._wants.items() if want.connection in connections)

    @property
    def is_held_back(self) -> bool:
        """Somebody waits only because nothing could be sent just now: look again soon."""
        return self._is_stale and bool(self._wants)

    def reopen(self) -> None:
        """Something outside changed: look at everybody again."""
        self._is_stale = True

    def admit(self, *, closed: Iterable[str], room: Mapping[str, int]) -> list[tuple[Key, Prepare | Start]]:
        """Who may go now, best first; they hold their slots from here on.

        Args:
            closed: Connections on which nothing may be started.
            room: Connection → how many starts it can send right now; absent means any number. Whoever finds no room
                keeps waiting and is looked at again next time.
        """
        if not self._is_stale or not self._wants:
            return []
        self._is_stale = False
        left = dict(room)
        limits = Limits(connections=self._connections, pools=self._pools, closed=frozenset(closed))
        going: list[tuple[Key, Prepare | Start]] = []
        for want in sorted(self._wants.values(), key=lambda want: (-want.priority, want.order)):
            # Room is taken by those who go, not by those who wait for something else.
            if left.get(want.connection, 1) <= 0:
                self._is_stale = True
                continue
            if not admit((want,), limits, self._usage):
                continue
            if want.connection in left:
                left[want.connection] -= 1
            key, effect = cast("tuple[Key, Prepare | Start]", want.id)
            if not want.has_slot:
                self._holding[key] = Holding(want.connection, want.scope, want.pools)
            del self._wants[key]
            going.append((key, effect))
        return going

    def blocker(self, key: Key, *, closed: Iterable[str]) -> str | None:
        """What a waiting start waits for, in words; None when it waits for nothing here."""
        want = self._wants.get(key)
        if want is None:
            return None
        limits = Limits(connections=self._connections, pools=self._pools, closed=frozenset(closed))
        return self._usage.blocker(want, limits)


def _scope(plan: NodePlan, attempt: Attempt) -> str:
    return attempt.scope if plan.capabilities.is_exclusive else ""
