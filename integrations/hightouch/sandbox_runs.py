"""The syncs and runs inside the sandbox: how they queue, move on by time, end, and look as JSON. No HTTP here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from conductor.sdk import ExternalState, Json

__all__ = ["DEFAULT_WORDS", "Outcome", "VendorRun", "VendorSync", "run_json", "settle", "sync_json"]

DEFAULT_WORDS = {
    ExternalState.QUEUED: "queued",
    ExternalState.RUNNING: "processing",
    ExternalState.SUCCEEDED: "success",
    ExternalState.WARNED: "warning",
    ExternalState.FAILED: "failed",
    ExternalState.CANCELLED: "cancelled",
    ExternalState.UNRECOGNISED: "zorbing",
}
"""What the vendor says for each of our states unless it is told a word."""

_QUERYING_UNTIL = 0.2
_PROCESSING_UNTIL = 0.9
_ROWS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ends by itself.

    Attributes:
        word: The vendor's final word.
        rejected: Rows that the destination refuses.
        error: The vendor's words about it.
    """

    word: str = "success"
    rejected: int = 0
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class VendorRun:
    """One run at the vendor.

    Attributes:
        id: The run's number.
        created_at: When it was asked for.
        visible_at: Lists leave it out before this instant.
        hidden_polls: Lists leave it out this many times more.
        status: The vendor's word.
        started_at: When the work began.
        finished_at: When it ended.
        is_driven: `advance` has taken over; time moves it no more.
        is_foreign: A schedule or a person triggered it.
        is_full: A full resync.
        is_processed: The rows were read.
        rows: Rows read from the model.
        rejected: Rows that the destination refused.
        error: The vendor's words.
    """

    id: int
    created_at: datetime
    visible_at: datetime
    hidden_polls: int = 0
    status: str = "queued"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    is_driven: bool = False
    is_foreign: bool = False
    is_full: bool = False
    is_processed: bool = False
    rows: int = 0
    rejected: int = 0
    error: str | None = None

    def drive(self, state: ExternalState, word: str, now: datetime) -> None:
        """Put the run into `state`, saying `word`, from now on."""
        self.is_driven = True
        self.status = word or DEFAULT_WORDS[state]
        self.rows = self.rows or _ROWS
        if state is not ExternalState.QUEUED:
            self.started_at = self.started_at or now
        self.finished_at = now if state.is_final else None
        if state is ExternalState.FAILED and self.status == "failed":
            self.error = 'The query failed: relation "mart.contacts" does not exist'
        elif state is ExternalState.WARNED:
            self.rejected = self.rejected or 3
            self.error = f"{self.rejected} rows were rejected by the destination"


@dataclass(slots=True, kw_only=True)
class VendorSync:
    """One sync at the vendor.

    Attributes:
        id: The sync's number.
        slug: Its slug.
        is_disabled: Triggers are refused.
        runs: In order of creation; at most one is active, the others wait behind it.
        next_outcomes: How the next runs end by themselves, in order; a success when there is none left.
    """

    id: int
    slug: str
    is_disabled: bool = False
    runs: list[VendorRun] = field(default_factory=list)
    next_outcomes: list[Outcome] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The sync's own word: that of the run being worked on, else of the newest."""
        if self.is_disabled:
            return "disabled"
        active = next((run for run in self.runs if run.finished_at is None), None)
        if active is not None:
            return active.status
        return self.runs[-1].status if self.runs else "pending"


def settle(sync: VendorSync, now: datetime, *, run_s: float | None, process: Callable[[str], int] | None) -> None:
    """Move the runs of `sync` to where they are at `now`: one after another, each `run_s` seconds long.

    A run that is driven, or any run when `run_s` is None, stays as it is and blocks those behind it.
    """
    free_at: datetime | None = None
    for run in sync.runs:
        if run.finished_at is None:
            if run.is_driven or run_s is None:
                return
            begin = run.created_at if free_at is None else max(run.created_at, free_at)
            _move(sync, run, begin, now, run_s=run_s, process=process)
            if run.finished_at is None:
                return
        free_at = run.finished_at if free_at is None else max(free_at, run.finished_at)


def _move(
    sync: VendorSync,
    run: VendorRun,
    begin: datetime,
    now: datetime,
    *,
    run_s: float,
    process: Callable[[str], int] | None,
) -> None:
    if now <= begin and run_s > 0:
        return
    run.started_at = begin
    share = 1.0 if run_s <= 0 else (now - begin).total_seconds() / run_s
    if share < _QUERYING_UNTIL:
        run.status = "querying"
        return
    if not run.is_processed:
        run.is_processed = True
        _process(sync, run, process)
    if share < 1.0:
        run.status = "processing" if share < _PROCESSING_UNTIL else "reporting"
        return
    run.finished_at = begin + timedelta(seconds=max(run_s, 0.0))
    if run.error is not None:
        run.status = "failed"
        return
    outcome = sync.next_outcomes.pop(0) if sync.next_outcomes else Outcome()
    run.status, run.error = outcome.word, outcome.error
    run.rejected = min(outcome.rejected, run.rows)


def _process(sync: VendorSync, run: VendorRun, process: Callable[[str], int] | None) -> None:
    if process is None:
        run.rows = _ROWS
        return
    try:
        run.rows = process(str(sync.id))
    except Exception as error:  # noqa: BLE001 - whatever breaks the model's query is a failed run at the vendor
        run.error = f"The query failed: {error}"


def run_json(run: VendorRun) -> dict[str, Json]:
    """The run as the API shows it: the id is a number here."""
    is_done = run.finished_at is not None
    pushed = run.rows - run.rejected if is_done and run.status not in {"failed", "cancelled", "interrupted"} else 0
    return {
        "id": run.id,
        "status": run.status,
        "createdAt": _iso(run.created_at),
        "startedAt": _iso(run.started_at),
        "finishedAt": _iso(run.finished_at),
        "querySize": run.rows if run.is_processed or run.is_driven else None,
        "completionRatio": 1 if is_done else 0.4 if run.status == "processing" else 0,
        "error": run.error,
        "plannedRows": _rows(run.rows),
        "successfulRows": _rows(pushed),
        "failedRows": _rows(run.rejected),
    }


def sync_json(sync: VendorSync, status: str) -> dict[str, Json]:
    """The sync as the API lists it, saying `status`."""
    newest = sync.runs[-1] if sync.runs else None
    return {
        "id": sync.id,
        "slug": sync.slug,
        "workspaceId": 1,
        "modelId": 1,
        "destinationId": 1,
        "primaryKey": "id",
        "configuration": {"mode": "upsert"},
        "schedule": None,
        "disabled": sync.is_disabled,
        "status": status,
        "lastRunAt": _iso(newest.started_at or newest.created_at) if newest is not None else None,
    }


def _rows(added: int) -> dict[str, Json]:
    return {"addedCount": added, "changedCount": 0, "removedCount": 0}


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z") if when is not None else None
