"""The runs that have not ended: the one place that steps them, and keeps all that follows from it in line."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from conductor.core.errors import ConflictError, NotFoundError, RequestError
from conductor.core.events import Event
from conductor.core.run import Run
from conductor.core.step import Step, step
from conductor.engine.desk import Desk
from conductor.engine.history import History
from conductor.engine.pipelines import Pipelines
from conductor.engine.ticks import Known
from conductor.store import Batch
from conductor.store.store import RunRow

__all__ = ["Book"]

_BROKEN_WAIT_S = 60.0
_log = structlog.get_logger("conductor.engine")


class Book:
    """Active runs by id. What a batch that is not committed yet made of them shows here already.

    Attributes:
        runs: By id.
        broken: Runs that have not ended and cannot go on → why: their version does not load, or Conductor has a bug.
    """

    def __init__(self, *, pipelines: Pipelines, history: History, desk: Desk) -> None:
        self._pipelines = pipelines
        self._history = history
        self._desk = desk
        self.runs: dict[str, Run] = {}
        self.broken: dict[str, str] = {}

    def attach(self, run: Run) -> None:
        """A run that was just loaded is ours."""
        self._add(run)
        self._desk.touch(run.id, None)

    def add(self, batch: Batch, made: Step) -> Run:
        """A run is recorded."""
        run = batch.add(None, made)
        self._add(run)
        return run

    def _add(self, run: Run) -> None:
        self.runs[run.id] = run
        self._pipelines.note(run)
        self._history.want(run.plan.name)

    def apply(self, batch: Batch, run_id: str, event: Event, now: datetime) -> bool:
        """Step one run; False when that met a bug, which changes nothing, is shown, and stops no other run.

        Raises:
            RequestError: A person's event makes no sense in the run's state.
        """
        before = self.runs[run_id]
        try:
            made = step(before, event, now)
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001 - one run's bug must not stop all the others, now and at each restart
            _log.error("an event was left out: this is a bug in Conductor", run=run_id, exc_info=error)
            self.broken[run_id] = f"{type(event).__name__} met a bug in Conductor ({error!r}): please report it"
            self._desk.wakes.set(run_id, "", now + timedelta(seconds=_BROKEN_WAIT_S))
            return False
        if made.run is before:
            return True
        self.broken.pop(run_id, None)
        change = batch.runs.get(run_id)
        after = batch.add(before if change is None else change.before, made)
        self.runs[run_id] = after
        self._desk.touch(run_id, made.changed if after.is_paused is before.is_paused else None)
        self._pipelines.note(after)
        return True

    def settle(self, batch: Batch) -> None:
        """The batch is committed: write the log, and let go of runs that have ended."""
        log = _log.bind()
        for run_id, change in batch.runs.items():
            for transition in change.transitions:
                log.info(
                    "transition",
                    run=run_id,
                    subject=transition.subject.value,
                    node=transition.node,
                    attempt=transition.attempt_no,
                    before=transition.before,
                    after=transition.after,
                    cause=transition.cause.value,
                )
            self.drop_if_ended(run_id)

    def drop_if_ended(self, run_id: str) -> None:
        """Let go of a run if it has ended."""
        run = self.runs.get(run_id)
        if run is None or not run.state.is_final:
            return
        del self.runs[run_id]
        self.broken.pop(run_id, None)
        self._pipelines.note(run)
        self._desk.forget(run)

    # --- runs that are not active -----------------------------------------------------------------------------------

    def note_unloadable(self, rows: list[RunRow]) -> None:
        """Of these runs, which have not ended, show those that could not be loaded."""
        for row in rows:
            if row.id not in self.runs:
                self.broken[row.id] = f"version {row.version} of pipeline {row.pipeline} does not load"

    def recall(self, run_id: str, known: Known) -> Run | None:
        """The run, active or ended; None when there never was one.

        Raises:
            ConflictError: It exists and its version does not load.
        """
        found = self.runs.get(run_id) or known.runs.get(run_id)
        if found is None and run_id in known.recorded:
            why = self.broken.get(run_id, "its pipeline version does not load")
            raise ConflictError(f"run {run_id} cannot be changed: {why}; mend or restore what that version needs")
        return found

    def command(self, batch: Batch, run_id: str, event: Event, known: Known, now: datetime) -> Run:
        """Apply what a person asks. An ended run is ours again if that makes it go on.

        Raises:
            NotFoundError: There is no such run.
            RequestError: It makes no sense in the run's state; nothing changed.
        """
        found = self.recall(run_id, known)
        if found is None:
            raise NotFoundError(f"there is no run {run_id}: see `conductor runs list`")
        if run_id not in self.runs:
            self.attach(found)
        try:
            if not self.apply(batch, run_id, event, now):
                why = self.broken.pop(run_id)
                self._desk.touch(run_id, None)
                raise ConflictError(f"run {run_id} is as it was: {why}")
            return self.runs[run_id]
        finally:
            # One that this batch changes is let go of once that is committed.
            if run_id not in batch.runs:
                self.drop_if_ended(run_id)
