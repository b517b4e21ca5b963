"""Keeps slots, looks and wakes in line with what runs owe. Holds no truth: it can be rebuilt from the runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from conductor.core.owed import Cancel, Find, Poll, Prepare, Start, node_wake, owed_by, run_wake
from conductor.core.run import Run
from conductor.engine.capacity import Capacity, Key
from conductor.engine.connections import Connections
from conductor.engine.follow import Follower
from conductor.engine.history import History
from conductor.engine.wakes import Wakes
from conductor.sdk.clock import Clock

__all__ = ["Desk", "Going"]

Going = tuple[Key, Prepare | Start]
"""A start, or the baseline before it, that has its slots."""

_BUDGET_WAIT_S = 1.0


class Desk:
    """What is owed for which node, kept up to date node by node."""

    def __init__(
        self, *, capacity: Capacity, connections: Connections, history: History, clock: Clock, sends_at_once: int
    ) -> None:
        self._capacity = capacity
        self._connections = connections
        self._history = history
        self._clock = clock
        self._sends_at_once = sends_at_once
        self.follower = Follower()
        self.wakes = Wakes()
        self._touched: dict[str, set[str] | None] = {}
        self._preparing: set[Key] = set()
        self._sending: dict[str, int] = {}
        self._later: list[tuple[str, Find | Cancel]] = []

    @property
    def is_dirty(self) -> bool:
        """Something must be looked at again."""
        return bool(self._touched)

    @property
    def is_held_back(self) -> bool:
        """A start waits only for the wire or the request budget: look again soon."""
        return self._capacity.is_held_back

    def touch(self, run_id: str, nodes: Iterable[str] | None) -> None:
        """What is owed for these nodes (None for all) must be looked at again."""
        known = self._touched.setdefault(run_id, set())
        if nodes is None:
            self._touched[run_id] = None
        elif known is not None:
            known.update(nodes)

    def look(self, runs: Mapping[str, Run], now: datetime) -> None:
        """Bring everything that was touched in line with the runs' states."""
        touched, self._touched = self._touched, {}
        for run_id, nodes in sorted(touched.items()):
            run = runs.get(run_id)
            if run is None:
                continue
            self.wakes.set(run_id, "", run_wake(run))
            for node in run.nodes if nodes is None else sorted(nodes):
                if run.nodes[node].attempt is not None:
                    self._look_at(run, node, now)

    def _look_at(self, run: Run, node: str, now: datetime) -> None:
        key = (run.id, node)
        # What is owed since before is on the wire or waits for a slot: time alone changes nothing about it.
        self.wakes.set(run.id, node, node_wake(run, run.nodes[node], now))
        attempt = run.nodes[node].attempt
        assert attempt is not None
        is_preparing = key in self._preparing
        if attempt.holds_slot or is_preparing:
            self._capacity.hold(key, run.plan.nodes[node], attempt)
        else:
            self._capacity.let_go(key)
        is_wanting = is_followed = False
        for effect in owed_by(run, run.nodes[node], now):
            match effect:
                case Prepare() | Start():
                    is_wanting = not is_preparing
                    if is_wanting:
                        self._capacity.want(run, effect)
                case Poll():
                    is_followed = True
                    self._follow(run, node)
                case Find() | Cancel():
                    self._later.append((run.id, effect))
        if not is_wanting:
            self._capacity.unwant(key)
        if not is_followed:
            self.follower.forget(key)

    def _follow(self, run: Run, node: str) -> None:
        plan = run.plan.nodes[node]
        attempt = run.nodes[node].attempt
        assert attempt is not None
        assert attempt.ref is not None
        elapsed_s = (self._clock.now() - attempt.running_at).total_seconds() if attempt.running_at else 0.0
        self.follower.follow(
            (run.id, node),
            uses=plan.uses,
            connection=plan.connection,
            batch_size=plan.capabilities.batch_size,
            floor_s=plan.capabilities.poll_floor_s,
            attempt_no=attempt.no,
            ref=attempt.ref,
            elapsed_s=max(elapsed_s, 0.0),
            expected=self._history.expected(run.plan.name, node),
            now_s=self._clock.monotonic(),
            is_due_now=plan.capabilities.sends_nothing,
        )

    def hold_all(self, runs: Iterable[Run]) -> None:
        """Count what runs that were just loaded occupy."""
        for run in runs:
            for node in run.nodes.values():
                if node.attempt is not None and node.attempt.holds_slot:
                    self._capacity.hold((run.id, node.id), run.plan.nodes[node.id], node.attempt)

    def admit(self) -> list[Going]:
        """The starts and baselines that may go now; they hold their slots from here on."""
        room: dict[str, int] = {}
        for name in self._capacity.connections_wanted():
            opened = self._connections.open(name)
            is_open = opened is None or opened.wait_s() < _BUDGET_WAIT_S
            room[name] = self._sends_at_once - self._sending.get(name, 0) if is_open else 0
        going = self._capacity.admit(closed=self._connections.closed, room=room)
        for key, effect in going:
            if isinstance(effect, Prepare):
                self._preparing.add(key)
        return going

    def barred(self, patience_s: float) -> list[tuple[Key, str]]:
        """Starts whose connection has been stopped for longer than `patience_s` seconds, each with the reason."""
        stopped = self._connections.closed_for(patience_s)
        found = self._capacity.wanting_on(stopped)
        return [(key, stopped[self._capacity.connection_of(key)]) for key in found]

    def take_later(self) -> list[tuple[str, Find | Cancel]]:
        """Look-ups and cancels that are owed since the last call."""
        later, self._later = self._later, []
        return later

    def sending(self, connection: str) -> None:
        """One more start or baseline is on the wire."""
        self._sending[connection] = self._sending.get(connection, 0) + 1

    def sent(self, key: Key, connection: str) -> None:
        """It came back."""
        self._sending[connection] -= 1
        self._preparing.discard(key)
        self._capacity.reopen()

    def reopen(self) -> None:
        """A connection works again: whoever waited for it is looked at."""
        self._capacity.reopen()

    def forget(self, run: Run) -> None:
        """The run has ended: it owes, wants and occupies nothing."""
        self.wakes.forget(run.id)
        for node in run.nodes:
            key = (run.id, node)
            self._capacity.let_go(key)
            self._capacity.unwant(key)
            self.follower.forget(key)

    def blocker(self, run: Run, node: str) -> str | None:
        """What a queued node waits for, in words; None when it waits for nothing here."""
        closed = self._connections.closed
        connection = run.plan.nodes[node].connection
        if connection in closed:
            return closed[connection]
        return self._capacity.blocker((run.id, node), closed=closed)
