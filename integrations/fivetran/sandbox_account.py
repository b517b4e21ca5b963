"""A Fivetran account as the sandbox plays it: connections, their hidden syncs, and what time does to them. No HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

__all__ = ["Account", "Ending", "SandboxConnection", "SandboxSync"]


class Ending(StrEnum):
    """How a sync of the sandbox ends."""

    SUCCESS = "SUCCESSFUL"
    """`succeeded_at` moves."""
    FAILURE = "FAILURE"
    """`failed_at` moves; the API gives no reason."""
    FAILURE_WITH_TASK = "FAILURE_WITH_TASK"
    """`failed_at` moves, the connection is broken and has a task."""
    RESCHEDULED = "RESCHEDULED"
    """No stamp moves. On `auto` it goes on by itself later; on `manual` it waits for the next trigger."""
    CANCELLED = "CANCELED"
    """Somebody stopped it in the dashboard: no stamp moves, the connection is idle again."""


@dataclass(slots=True, kw_only=True)
class SandboxSync:
    """One sync, which the API never names outside the history.

    Attributes:
        id: The hidden id.
        accepted_at: When it was triggered or fell due.
        starts_at: When it begins by itself.
        duration_s: How long it takes, in seconds.
        ending: How it ends by itself.
        started_at: When it began.
        ended_at: When it ended.
        is_put_off: It is waiting until the connection's `rescheduled_for`.
        is_driven: A test moves it; time does not.
    """

    id: str
    accepted_at: datetime
    starts_at: datetime
    duration_s: float
    ending: Ending
    started_at: datetime | None = None
    ended_at: datetime | None = None
    is_put_off: bool = False
    is_driven: bool = False


@dataclass(slots=True, kw_only=True)
class SandboxConnection:
    """One connection. Tests may set any field at any time.

    Attributes:
        id: Its id.
        schema: The destination schema.
        service: The connector type.
        group_id: The destination.
        schedule_type: `auto` or `manual`.
        is_paused: The switch in the dashboard.
        setup_state: `incomplete`, `connected` or `broken`.
        succeeded_at: The last success.
        failed_at: The last failure.
        rescheduled_for: Until when a sync was put off.
        word: Says this as `sync_state`, whatever is true; empty for the truth.
        tasks: `status.tasks`.
        warnings: `status.warnings`.
        syncs: All of them, oldest first.
        script: How the next syncs end; success when it is used up.
    """

    id: str
    schema: str
    service: str = "postgres"
    group_id: str = "group_one"
    schedule_type: str = "auto"
    is_paused: bool = False
    setup_state: str = "connected"
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    rescheduled_for: datetime | None = None
    word: str = ""
    tasks: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)
    syncs: list[SandboxSync] = field(default_factory=list)
    script: deque[Ending] = field(default_factory=deque)

    @property
    def active(self) -> SandboxSync | None:
        """The sync that has not ended."""
        return next((sync for sync in reversed(self.syncs) if sync.ended_at is None), None)

    @property
    def sync_state(self) -> str:
        """What the API says; right after a trigger still `scheduled`."""
        if self.word:
            return self.word
        if self.is_paused:
            return "paused"
        sync = self.active
        if sync is not None and sync.started_at is not None and not sync.is_put_off:
            return "syncing"
        return "rescheduled" if self.rescheduled_for is not None else "scheduled"


class Account:
    """All connections, and the rules by which time moves their syncs.

    Attributes:
        sync_duration_s: How long a sync takes by itself, in seconds.
        start_lag_s: How long after its trigger a sync begins, in seconds.
        put_off_s: How long a rescheduled sync waits, in seconds.
        on_sync: Called with the connection's id when a sync succeeded by itself, before anybody can see that it did.
    """

    def __init__(self, *, sync_duration_s: float, start_lag_s: float, on_sync: Callable[[str], None] | None) -> None:
        self.connections: dict[str, SandboxConnection] = {}
        self.sync_duration_s = sync_duration_s
        self.start_lag_s = start_lag_s
        self.put_off_s = 3600.0
        self.on_sync = on_sync
        self._count = 0

    def begin(self, connection: SandboxConnection, now: datetime) -> SandboxSync:
        """A new sync, accepted now; it takes the next ending of the script."""
        self._count += 1
        sync = SandboxSync(
            id=f"sync-{self._count:06d}",
            accepted_at=now,
            starts_at=now + timedelta(seconds=self.start_lag_s),
            duration_s=self.sync_duration_s,
            ending=connection.script.popleft() if connection.script else Ending.SUCCESS,
        )
        connection.syncs.append(sync)
        return sync

    def trigger(self, connection: SandboxConnection, now: datetime, *, force: bool) -> SandboxSync | None:
        """A new sync, or None while one is going, or paused, or unusable. The answer to the caller is the same."""
        if connection.is_paused or connection.setup_state != "connected":
            return None
        sync = connection.active
        if sync is not None and not sync.is_put_off and not force:
            return None
        if sync is not None:
            sync.ended_at = now
            sync.ending = Ending.CANCELLED
        connection.rescheduled_for = None if force or sync is not None else connection.rescheduled_for
        return self.begin(connection, now)

    def settle(self, connection: SandboxConnection, now: datetime) -> None:
        """Let time do what it has done since the last look."""
        sync = connection.active
        if sync is None or sync.is_driven:
            return
        is_resumed = sync.is_put_off and connection.rescheduled_for is not None and now >= connection.rescheduled_for
        if is_resumed and not connection.is_paused:
            sync.is_put_off, sync.started_at, sync.ending = False, connection.rescheduled_for, Ending.SUCCESS
            connection.rescheduled_for = None
        if sync.started_at is None and now >= sync.starts_at and not connection.is_paused:
            sync.started_at = sync.starts_at
            connection.rescheduled_for = None
        if sync.started_at is None or sync.is_put_off:
            return
        ends_at = sync.started_at + timedelta(seconds=sync.duration_s)
        if now < ends_at:
            return
        if sync.ending is Ending.SUCCESS and self.on_sync is not None:
            self.on_sync(connection.id)
        self.end(connection, sync, sync.ending, at=ends_at)

    def end(self, connection: SandboxConnection, sync: SandboxSync, ending: Ending, *, at: datetime) -> None:
        """End a sync, or put it off, at a given time."""
        sync.started_at = sync.started_at or min(sync.starts_at, at)
        sync.ending = ending
        if ending is Ending.RESCHEDULED:
            connection.rescheduled_for = at + timedelta(seconds=self.put_off_s)
            sync.is_put_off = connection.schedule_type == "auto"
            sync.ended_at = None if sync.is_put_off else at
            return
        sync.ended_at, sync.is_put_off, connection.rescheduled_for = at, False, None
        if ending is Ending.SUCCESS:
            connection.succeeded_at = at
        elif ending is not Ending.CANCELLED:
            connection.failed_at = at
        if ending is Ending.FAILURE_WITH_TASK:
            connection.setup_state = "broken"
            connection.tasks = [
                {"code": "reconnect", "message": "Reconnect", "details": "the source refused the credentials"}
            ]
