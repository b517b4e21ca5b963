"""Which runs to look at and when: due times on a grid, so that looks at one connection share few requests."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from conductor.core.cadence import Expected, poll_in_s
from conductor.core.vendor import ExternalRef

__all__ = ["Followed", "Follower", "Group"]

_MOST_IN_FLIGHT = 8
_GRID = 0.1
_SHORT_GRID = 0.25
_LONGEST_SHORT_GRID_S = 1.0
_PROMPT = 0.02
_QUICK = 0.25
_BLIND_SLOWEST_S = 60.0

Key = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class Followed:
    """One vendor run that is followed.

    Attributes:
        key: (our run, node).
        attempt_no: The attempt.
        ref: The vendor's run.
        since_s: Monotonic time since which it is followed.
        due_s: Monotonic time of the next look.
        expected: What history says of its duration.
        is_asked: A look is under way.
        asked_s: Monotonic time of the last look: when it was due if it was taken promptly, else when it was taken.
    """

    key: Key
    attempt_no: int
    ref: ExternalRef
    since_s: float
    due_s: float
    expected: Expected | None = None
    is_asked: bool = False
    asked_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class Group:
    """Runs that one request can see together.

    Attributes:
        connection: Their connection.
        batch_size: How many one request takes.
        floor_s: The vendor's floor.
        members: By key.
        heap: (due, key), lazily cleaned.
        asked: Requests under way.
        failures: Failed looks in a row.
        blind_since: Monotonic time since which nothing is seen; None while seeing.
        error: The last look's error, for people.
    """

    connection: str
    batch_size: int
    floor_s: float
    members: dict[Key, Followed] = field(default_factory=dict)
    heap: list[tuple[float, Key]] = field(default_factory=list)
    asked: int = 0
    failures: int = 0
    blind_since: float | None = None
    error: str | None = None


class Follower:
    """Decides when to look at what. Holds no truth: it can be rebuilt from the runs at any time."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, int, float], Group] = {}
        self._group_of: dict[Key, Group] = {}

    def follow(
        self,
        key: Key,
        *,
        uses: str,
        connection: str,
        batch_size: int,
        floor_s: float,
        attempt_no: int,
        ref: ExternalRef,
        elapsed_s: float,
        expected: Expected | None,
        now_s: float,
        is_due_now: bool = False,
    ) -> None:
        """Look at a run from now on (at once if `is_due_now`); its ref is updated when it is followed already."""
        known = self._group_of.get(key)
        if known is not None:
            member = known.members[key]
            if member.attempt_no == attempt_no:
                member.ref = ref
                return
            self.forget(key)
        group = self._groups.setdefault(
            (connection, uses, batch_size, floor_s),
            Group(connection=connection, batch_size=batch_size, floor_s=floor_s),
        )
        member = Followed(
            key=key, attempt_no=attempt_no, ref=ref, since_s=now_s - elapsed_s, due_s=now_s, expected=expected
        )
        member.asked_s = now_s
        group.members[key] = member
        self._group_of[key] = group
        if is_due_now:
            heapq.heappush(group.heap, (now_s, key))
        else:
            self._schedule(group, member, now_s)

    def forget(self, key: Key) -> None:
        """Look no more."""
        group = self._group_of.pop(key, None)
        if group is not None:
            group.members.pop(key, None)

    def nudge(self, key: Key, now_s: float) -> None:
        """Look now."""
        group = self._group_of.get(key)
        if group is not None:
            member = group.members[key]
            member.due_s = now_s
            heapq.heappush(group.heap, (now_s, key))

    def groups(self) -> Iterator[Group]:
        """Every group that follows something."""
        return (group for group in self._groups.values() if group.members)

    def next_due_s(self) -> float | None:
        """Monotonic time of the next look; None when nothing is followed."""
        dues = [group.heap[0][0] for group in self._groups.values() if group.heap and group.asked < _MOST_IN_FLIGHT]
        return min(dues, default=None)

    def due(self, now_s: float) -> list[tuple[Group, list[Followed]]]:
        """The looks to take now, each at most one batch; marks them as under way."""
        looks: list[tuple[Group, list[Followed]]] = []
        for group in self._groups.values():
            while group.asked < _MOST_IN_FLIGHT:
                batch = self._pop(group, now_s)
                if not batch:
                    break
                group.asked += 1
                looks.append((group, batch))
        return looks

    def _pop(self, group: Group, now_s: float) -> list[Followed]:
        batch: list[Followed] = []
        while group.heap and len(batch) < group.batch_size and group.heap[0][0] <= now_s:
            due_s, key = heapq.heappop(group.heap)
            member = group.members.get(key)
            if member is None or member.is_asked or member.due_s != due_s:
                continue
            member.is_asked = True
            # On the grid again next time, or a few milliseconds of delay would cost a whole cell of it at every look.
            member.asked_s = due_s if now_s - due_s <= group.floor_s * _PROMPT else now_s
            batch.append(member)
        return batch

    def answered(
        self, group: Group, batch: list[Followed], now_s: float, *, error: str | None, retry_after_s: float | None
    ) -> None:
        """A look came back: plan the next ones, later and later while the vendor cannot be seen."""
        group.asked -= 1
        if error is None:
            group.failures, group.blind_since = 0, None
        else:
            group.failures += 1
            group.blind_since = now_s if group.blind_since is None else group.blind_since
        group.error = error
        for member in batch:
            member.is_asked = False
            if group.members.get(member.key) is not member:
                continue
            if error is None:
                self._schedule(group, member, now_s)
                continue
            wait_s = retry_after_s or min(max(group.floor_s, 1.0) * 2.0 ** min(group.failures, 10), _BLIND_SLOWEST_S)
            self._push(group, member, now_s + wait_s, wait_s)

    def _schedule(self, group: Group, member: Followed, now_s: float) -> None:
        wait_s = poll_in_s(
            elapsed_s=now_s - member.since_s,
            floor_s=group.floor_s,
            in_flight=len(group.members),
            expected=member.expected,
        )
        # From look to look; from the answer where that took long, so that a slow vendor is not asked without a pause.
        is_quick = now_s - member.asked_s <= wait_s * _QUICK
        self._push(group, member, (member.asked_s if is_quick else now_s) + wait_s, wait_s)

    @staticmethod
    def _push(group: Group, member: Followed, due_s: float, wait_s: float) -> None:
        """Round up to a grid (a power of two of seconds), so that neighbours meet.

        A tenth of the wait is enough where waits are long; where they are short, runs that were started one after the
        other within a second or two would never share a request.
        """
        wanted_s = max(wait_s * _GRID, min(wait_s * _SHORT_GRID, _LONGEST_SHORT_GRID_S), 0.01)
        grid_s = 2.0 ** math.floor(math.log2(wanted_s))
        member.due_s = math.ceil(due_s / grid_s) * grid_s
        heapq.heappush(group.heap, (member.due_s, member.key))
