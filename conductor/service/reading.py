"""Reads runs, pipelines and explanations from the database. Needs no service and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from conductor.core.admit import Limits
from conductor.core.cadence import Expected
from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.run import Attempt, Run
from conductor.core.states import RunState
from conductor.engine.cron import slot_times
from conductor.service.picture import ENOUGH, journal_line, node_view, run_line, run_view, usual
from conductor.service.plans import Plans
from conductor.service.queue import usage_of
from conductor.service.reasons import Facts, Why
from conductor.service.views import JournalLine, Listing, NodeView, PipelineView, RunView
from conductor.service.why import explain
from conductor.store.store import JournalRow, PipelineRow, RunRow, Store

__all__ = ["Reader"]

_RECENT = 20
_PAGE = 1000


class Reader:
    """Questions about one database. Every method raises `NotFoundError` for what does not exist."""

    def __init__(self, *, store: Store, plans: Plans, limits: Limits, files: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._plans = plans
        self._limits = limits
        self._files = files or {}

    # --- which run --------------------------------------------------------------------------------------------------

    def row(self, ref: str) -> RunRow:
        """The run that `ref` means: `last`, a pipeline's name for its newest run, or the unique beginning of an id.

        Raises:
            NotFoundError: There is none.
            ConflictError: Several runs' ids begin with `ref`.
        """
        if ref == "last":
            return self._newest(None, "there is no run yet: `conductor run PIPELINE` makes one")
        if ref in self._plans.current or ref in self._store.pipelines():
            return self._newest(ref, f"pipeline {ref} has no run yet: `conductor run {ref}` makes one")
        found = self._store.find_runs(ref, limit=5) if ref else []
        exact = [row for row in found if row.id == ref]
        if len(exact) == 1 or len(found) == 1:
            return (exact or found)[0]
        if not found:
            raise NotFoundError(f"there is no run or pipeline {ref!r}: see `conductor runs list`")
        some = ", ".join(f"{row.id} ({row.pipeline})" for row in found[:3])
        raise ConflictError(f"several runs begin with {ref!r}: {some}; give more of the id")

    def _newest(self, pipeline: str | None, otherwise: str) -> RunRow:
        found = self._store.runs(pipeline=pipeline, limit=1)
        if not found:
            raise NotFoundError(otherwise)
        return found[0]

    def load(self, run_id: str) -> Run:
        """A run as it is.

        Raises:
            NotFoundError: There is none.
            ConductorError: Its pipeline version can no longer be loaded; says why.
        """
        run = self._store.load(run_id, self._plans.load)
        if run is None:
            raise NotFoundError(f"there is no run {run_id}: see `conductor runs list`")
        return run

    # --- views ------------------------------------------------------------------------------------------------------

    def runs(
        self,
        *,
        now: datetime,
        pipeline: str | None = None,
        states: Sequence[RunState] = (),
        limit: int = 20,
        before: datetime | None = None,
    ) -> Listing:
        """Runs, newest first."""
        rows = self._store.runs(pipeline=pipeline, states=states, limit=limit, before=before)
        return Listing(kind="runs", items=[run_line(row, now) for row in rows])

    def run(self, ref: str, *, now: datetime) -> RunView:
        """A run with its nodes; without them, and with a note, when its version can no longer be loaded."""
        row = self.row(ref)
        if self._plans.find(row.pipeline, row.version) is None:
            note = f"version {row.version} of {row.pipeline} can no longer be loaded: its nodes are not shown"
            return RunView(run=run_line(row, now), note=note)
        return self.picture(self.load(row.id), now=now)

    def picture(self, run: Run, *, now: datetime) -> RunView:
        """The view of a run that is loaded already."""
        return run_view(run, usual_s=usual(self._store.durations(run.plan.name)), now=now)

    def node(self, ref: str, node: str, *, now: datetime) -> NodeView:
        """A node of a run with every attempt."""
        run = self.load(self.row(ref).id)
        if node not in run.nodes:
            raise NotFoundError(f"run {run.id} has no node {node!r}; its nodes are {', '.join(list(run.nodes)[:10])}")
        attempts = self.attempts(run.id, node)
        return node_view(run, run.nodes[node], attempts, usual_s=usual(self._store.durations(run.plan.name)), now=now)

    def attempts(self, run_id: str, node: str) -> list[Attempt]:
        """Every try of a node, first to last."""
        return self._store.attempts(run_id).get(node, [])

    def journal(self, ref: str, *, after: int = 0) -> Listing:
        """Everything that happened in a run, in order."""
        return Listing(kind="journal", items=self.journal_lines(self.row(ref).id, after=after))

    def journal_lines(self, run_id: str, *, after: int = 0) -> list[JournalLine]:
        """The rows of a run's journal behind `after`, in order."""
        found: list[JournalRow] = []
        while True:
            page = self._store.journal(after=found[-1].id if found else after, run_id=run_id, limit=_PAGE)
            found.extend(page)
            if len(page) < _PAGE:
                return [journal_line(row) for row in found]

    def pipelines(self, *, now: datetime) -> list[PipelineView]:
        """The project's pipelines by name."""
        rows = self._store.pipelines()
        return [self._pipeline(name, rows.get(name), now) for name in sorted(self._plans.current)]

    def _pipeline(self, name: str, row: PipelineRow | None, now: datetime) -> PipelineView:
        plan = self._plans.current[name]
        newest = self._store.runs(pipeline=name, limit=1)
        is_paused = row is not None and row.is_paused
        next_at = None
        if plan.schedule is not None and not is_paused:
            next_at = next(iter(slot_times(plan.schedule)(now)), None)
        return PipelineView(
            name=name,
            pipeline_version=plan.version,
            is_paused=is_paused,
            schedule=plan.schedule.cron if plan.schedule is not None else "",
            timezone=plan.schedule.timezone if plan.schedule is not None else plan.timezone,
            next_at=next_at,
            nodes=len(plan.nodes),
            owner=plan.owner,
            description=plan.description,
            tags=plan.tags,
            file=self._files.get(name, ""),
            last_run=run_line(newest[0], now) if newest else None,
        )

    # --- why --------------------------------------------------------------------------------------------------------

    def why(
        self,
        ref: str,
        node: str | None = None,
        *,
        now: datetime,
        is_served: bool,
        closed: Mapping[str, str] | None = None,
    ) -> Why:
        """Why a run, or one node of it, is where it is.

        Args:
            ref: As in `row`.
            node: None for the one that holds the run back.
            now: The instant.
            is_served: Something follows this database.
            closed: The connections that the service has stopped, where it was asked.
        """
        run = self.load(self.row(ref).id)
        return explain(run, self.facts(run, now=now, is_served=is_served, closed=closed or {}), node)

    def facts(self, run: Run, *, now: datetime, is_served: bool, closed: Mapping[str, str]) -> Facts:
        """What an explanation of `run` needs, read from the database."""
        active = [] if run.state.is_final else self._store.load_active(self._plans.find)
        row = self._store.pipelines().get(run.plan.name)
        return Facts(
            now=now,
            is_served=is_served,
            usage=usage_of(active),
            limits=self._limits,
            closed=closed,
            active={one.id: one.state for one in active if one.plan.name == run.plan.name},
            is_pipeline_paused=row is not None and row.is_paused,
            expected=_expected(self._store.durations(run.plan.name)),
        )


def _expected(durations: Mapping[str, Sequence[float]]) -> dict[str, Expected]:
    found = {}
    for node, seconds in durations.items():
        ordered = sorted(seconds[:_RECENT])
        if len(ordered) >= ENOUGH:
            last = len(ordered) - 1
            found[node] = Expected(low_s=ordered[round(last * 0.1)], high_s=ordered[round(last * 0.9)])
    return found
