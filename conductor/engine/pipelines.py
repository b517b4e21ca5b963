"""The pipelines in use: versions, schedules, pauses, concurrency limits. Decides which runs exist and begin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from conductor.core.due import due
from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.events import Begin, CancelRun, Event, Pause, Resume
from conductor.core.keys import run_id
from conductor.core.params import bind_params
from conductor.core.plan import ConcurrencyPolicy, Plan
from conductor.core.run import Run, Trigger
from conductor.core.states import CancelCause, RunState
from conductor.core.step import Step, new_run
from conductor.core.vendor import Json
from conductor.engine.cron import slot_times
from conductor.store.store import PipelineRow

__all__ = ["Fired", "NewRun", "Pipelines"]

_log = structlog.get_logger("conductor.pipelines")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is asked for.

    Attributes:
        pipeline: Its name.
        trigger: Why.
        identity: The same identity gives the same run: the slot for schedules, a nonce or a caller's key otherwise.
        params: Values given; defaults fill the rest.
        slot: For schedules.
        logical_at: The instant the run is about, when it is neither the slot nor now.
        actor: Who asks.
        reason: Why, for people.
    """

    pipeline: str
    trigger: Trigger
    identity: str
    params: Mapping[str, Json] = field(default_factory=dict)
    slot: datetime | None = None
    logical_at: datetime | None = None
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """What a schedule brought.

    Attributes:
        pipeline: Its name.
        cursor_at: Slots up to here are dealt with.
        runs: Runs to record.
        dropped: Slots left out.
        why: Why they were.
    """

    pipeline: str
    cursor_at: datetime
    runs: tuple[NewRun, ...] = ()
    dropped: int = 0
    why: str = ""


class Pipelines:
    """All pipelines of a project, and which of their runs are queued and running."""

    def __init__(
        self,
        *,
        plans: Mapping[str, Plan],
        rows: Mapping[str, PipelineRow],
        load_version: Callable[[str, str], Plan],
        install: str,
        rescheduled: Iterable[str] = (),
        has_schedules: bool = True,
    ) -> None:
        self._plans = dict(plans)
        self._rows = dict(rows)
        self._load_version = load_version
        self._install = install
        self._rescheduled = set(rescheduled)
        self._has_schedules = has_schedules
        self._versions: dict[tuple[str, str], Plan | None] = {}
        self._cursor: dict[str, datetime] = {}
        self._next: dict[str, datetime] = {}
        self._moved: dict[str, datetime] = {}
        self._queued: dict[str, dict[str, None]] = {}
        self._running: dict[str, dict[str, None]] = {}
        self._is_changed = True

    # --- definitions ------------------------------------------------------------------------------------------------

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The current definitions by name."""
        return self._plans

    @property
    def unloadable(self) -> frozenset[tuple[str, str]]:
        """(pipeline, version) that were asked for and do not load."""
        return frozenset(key for key, plan in self._versions.items() if plan is None)

    def plan_of(self, pipeline: str, version: str) -> Plan | None:
        """A version's plan; None (and an error in the log) when it can no longer be loaded."""
        current = self._plans.get(pipeline)
        if current is not None and current.version == version:
            return current
        key = (pipeline, version)
        if key not in self._versions:
            try:
                self._versions[key] = self._load_version(pipeline, version)
            except Exception as error:  # noqa: BLE001 - the outer edge: one version that trips stops no other
                _log.error(
                    "a run cannot be followed: its pipeline version does not load",
                    pipeline=pipeline,
                    version=version,
                    error=str(error),
                )
                self._versions[key] = None
        return self._versions[key]

    def replace(self, plans: Mapping[str, Plan], rows: Mapping[str, PipelineRow], now: datetime) -> None:
        """Use these definitions from now on; a changed schedule starts afresh at `now`."""
        old = self._plans
        self._plans = dict(plans)
        self._rows = {name: self._merged(name, row) for name, row in rows.items()}
        self._rescheduled = {
            name for name, plan in plans.items() if name in old and old[name].schedule != plan.schedule
        }
        self.start(now)

    def _merged(self, name: str, row: PipelineRow) -> PipelineRow:
        known = self._rows.get(name)
        return row if known is None else replace(row, is_paused=known.is_paused)

    # --- schedules --------------------------------------------------------------------------------------------------

    def start(self, now: datetime) -> None:
        """Find the next slot of every schedule."""
        self._next.clear()
        if not self._has_schedules:
            return
        for name, plan in self._plans.items():
            if plan.schedule is None or name not in self._rows:
                continue
            cursor = self._cursor.get(name, self._rows[name].cursor_at)
            if name in self._rescheduled and cursor < now:
                # Told to the store, too: or after a crash the new schedule would have missed slots from before it.
                cursor = self._moved[name] = now
            self._cursor[name] = cursor
            self._plan_next(name, plan)
        self._rescheduled.clear()

    def _plan_next(self, name: str, plan: Plan) -> None:
        assert plan.schedule is not None
        upcoming = next(iter(slot_times(plan.schedule)(self._cursor[name])), None)
        if upcoming is None or self.is_paused(name):
            self._next.pop(name, None)
        else:
            self._next[name] = upcoming

    def next_at(self) -> datetime | None:
        """The next slot of any schedule."""
        return min(self._next.values(), default=None)

    def next_slots(self) -> Mapping[str, datetime]:
        """The next slot of each schedule that is on."""
        return self._next

    def due(self, now: datetime) -> Iterator[Fired]:
        """The slots that have come, and what the catch-up policy makes of missed ones. Each is told once."""
        for name, at in self._moved.items():
            yield Fired(pipeline=name, cursor_at=at)
        self._moved.clear()
        for name in [name for name, at in self._next.items() if at <= now]:
            plan = self._plans[name]
            assert plan.schedule is not None
            found = due(plan.schedule, self._cursor[name], now, times=slot_times(plan.schedule))
            self._cursor[name] = found.slots[-1]
            self._plan_next(name, plan)
            yield Fired(
                pipeline=name,
                cursor_at=found.slots[-1],
                runs=tuple(
                    NewRun(
                        pipeline=name,
                        trigger=Trigger.SCHEDULE,
                        identity=f"slot:{slot.astimezone(UTC).isoformat()}",
                        slot=slot,
                        actor="schedule",
                    )
                    for slot in found.slots
                ),
                dropped=found.dropped,
                why="missed while Conductor was not running; catchup is off or its maximum was reached",
            )

    # --- pauses -----------------------------------------------------------------------------------------------------

    def is_paused(self, name: str) -> bool:
        """Whether a pipeline is paused."""
        row = self._rows.get(name)
        return row is not None and row.is_paused

    def set_paused(self, name: str, *, is_paused: bool, now: datetime) -> Fired | None:
        """Pause or resume. On resuming, slots missed meanwhile are left out (unless `catchup`), which is recorded.

        Raises:
            NotFoundError: There is no such pipeline.
            ConflictError: It is so already.
        """
        row = self._rows.get(name)
        if row is None:
            raise NotFoundError(f"there is no pipeline {name!r}: see `conductor pipelines list`")
        if row.is_paused is is_paused:
            raise ConflictError(f"pipeline {name} is {'paused' if is_paused else 'not paused'} already")
        self._rows[name] = replace(row, is_paused=is_paused)
        self._is_changed = True
        plan = self._plans.get(name)
        if plan is None or plan.schedule is None or name not in self._cursor:
            return None
        fired: Fired | None = None
        if not is_paused and not plan.schedule.catchup:
            missed = due(plan.schedule, self._cursor[name], now, times=slot_times(plan.schedule))
            self._cursor[name] = max(self._cursor[name], now)
            count = len(missed.slots) + missed.dropped
            why = "missed while the pipeline was paused"
            fired = Fired(pipeline=name, cursor_at=self._cursor[name], dropped=count, why=why)
        self._plan_next(name, plan)
        return fired

    def pause_events(
        self, name: str, runs: Iterable[Run], *, is_paused: bool, actor: str
    ) -> Iterator[tuple[str, Event]]:
        """What pausing or resuming a pipeline means for its runs."""
        for run in list(runs):
            if run.plan.name == name and not run.state.is_final:
                yield run.id, Pause(actor=actor) if is_paused else Resume(actor=actor)

    # --- runs -------------------------------------------------------------------------------------------------------

    def run_id_of(self, new: NewRun) -> str:
        """The id that a run has or will have: the same identity gives the same id."""
        return run_id(install=self._install, pipeline=new.pipeline, identity=new.identity)

    def create(self, new: NewRun, *, now: datetime, epoch: int) -> Step:
        """A recorded run of the current version.

        Raises:
            NotFoundError: There is no such pipeline.
            ConflictError: A parameter is missing, unknown or of the wrong type.
        """
        plan = self._plans.get(new.pipeline)
        if plan is None:
            raise NotFoundError(f"there is no pipeline {new.pipeline!r}: see `conductor pipelines list`")
        made = new_run(
            plan,
            run_id=self.run_id_of(new),
            trigger=new.trigger,
            now=now,
            params=bind_params(plan, new.params),
            slot=new.slot,
            logical_at=new.logical_at,
            actor=new.actor,
            reason=new.reason,
        )
        return replace(made, run=replace(made.run, epoch=epoch))

    def note(self, run: Run) -> None:
        """A run is in this state now."""
        name = run.plan.name
        if run.state is RunState.QUEUED:
            if run.id not in self._queued.setdefault(name, {}):
                self._queued[name][run.id] = None
                self._is_changed = True
            return
        if self._queued.get(name, {}).pop(run.id, 0) is None:
            self._is_changed = True
        if run.state is RunState.RUNNING:
            self._running.setdefault(name, {})[run.id] = None
        elif self._running.get(name, {}).pop(run.id, 0) is None:
            self._is_changed = True

    def begin(self, runs: Mapping[str, Run]) -> list[tuple[str, Event]]:
        """Which queued runs begin, are cancelled, or make room by cancelling older ones."""
        if not self._is_changed:
            return []
        self._is_changed = False
        events: list[tuple[str, Event]] = []
        for name, queued in self._queued.items():
            if queued and not self.is_paused(name):
                events.extend(self._begin(name, [runs[one] for one in queued], runs))
        return events

    def _begin(self, name: str, queued: list[Run], runs: Mapping[str, Run]) -> Iterator[tuple[str, Event]]:
        running = [runs[one] for one in self._running.get(name, {})]
        leaving = {one.id for one in running if one.cancel_cause is not None}
        for run in sorted(queued, key=lambda run: (-run.priority, run.logical_at, run.created_at, run.id)):
            limit = run.plan.concurrency
            if limit is None or len(running) < limit:
                running.append(run)
                yield run.id, Begin()
            elif run.plan.concurrency_policy is ConcurrencyPolicy.SKIP:
                why = f"skipped: {len(running)} of {limit} allowed runs are active"
                yield run.id, CancelRun(cause=CancelCause.CONCURRENCY, reason=why)
            elif run.plan.concurrency_policy is ConcurrencyPolicy.CANCEL_OLDER:
                surplus = len(running) - len(leaving) - limit + 1
                older = [one for one in running if one.id not in leaving and one.state is RunState.RUNNING]
                for one in sorted(older, key=lambda one: (one.created_at, one.id))[: max(surplus, 0)]:
                    # Told once: a run that ends at once cannot be cancelled again.
                    leaving.add(one.id)
                    yield one.id, CancelRun(cause=CancelCause.CONCURRENCY, reason=f"replaced by run {run.id}")
