"""What is owed to the outside for a run: recomputed from its state, never stored. And when to look at it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from conductor.core.doubt import key_expires_at
from conductor.core.run import NodeRun, Run
from conductor.core.states import AttemptState, NodeState, RunState
from conductor.core.timers import deadlines, run_deadline

__all__ = [
    "Cancel",
    "Effect",
    "Find",
    "Poll",
    "Prepare",
    "Start",
    "next_wake",
    "node_wake",
    "outstanding",
    "owed_by",
    "run_wake",
]


@dataclass(frozen=True, slots=True)
class Prepare:
    """Read the baseline. Needs a slot, like the start that follows it."""

    node: str
    attempt_no: int


@dataclass(frozen=True, slots=True)
class Start:
    """Permit, then send once."""

    node: str
    attempt_no: int


@dataclass(frozen=True, slots=True)
class Find:
    """Look up a start of unknown fate."""

    node: str
    attempt_no: int


@dataclass(frozen=True, slots=True)
class Poll:
    """Follow the vendor's run; how often is the engine's business."""

    node: str
    attempt_no: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the vendor to stop."""

    node: str
    attempt_no: int


Effect = Prepare | Start | Find | Poll | Cancel


def outstanding(run: Run, now: datetime) -> tuple[Effect, ...]:
    """Everything that is owed at `now`, in the plan's order. Nothing for `sending`: that permit is spent."""
    if run.state is not RunState.RUNNING:
        return ()
    return tuple(effect for node in run.nodes.values() for effect in owed_by(run, node, now))


def owed_by(run: Run, node: NodeRun, now: datetime) -> Iterator[Effect]:
    """What is owed for one node of a running run."""
    attempt = node.attempt
    if attempt is None or run.state is not RunState.RUNNING:
        return
    match attempt.state:
        case AttemptState.INTENDED:
            if run.is_paused or (attempt.not_before is not None and attempt.not_before > now):
                return
            expires_at = key_expires_at(run.plan.nodes[node.id], attempt)
            if expires_at is not None and expires_at <= now:
                return
            needs_baseline = run.plan.nodes[node.id].capabilities.needs_baseline
            if needs_baseline and attempt.baseline is None:
                yield Prepare(node.id, attempt.no)
            else:
                yield Start(node.id, attempt.no)
        case AttemptState.AMBIGUOUS | AttemptState.UNKNOWN:
            if attempt.find_at is not None and attempt.find_at <= now:
                yield Find(node.id, attempt.no)
        case AttemptState.RUNNING:
            yield Poll(node.id, attempt.no)
            if attempt.cancel_at is not None and attempt.cancel_at <= now:
                yield Cancel(node.id, attempt.no)
        case AttemptState.SENDING | AttemptState.ENDED:
            return


_ACTIVE = frozenset({NodeState.QUEUED, NodeState.RUNNING, NodeState.RETRYING, NodeState.HELD})


def next_wake(run: Run, now: datetime | None = None) -> datetime | None:
    """The next instant at which time alone changes what is owed; None when only an answer or a person can.

    What is owed already stays owed however often one looks. With `now`, the instant of the last look, it is left out:
    the result is then later than `now` once a `Wake` was stepped at `now`.
    """
    wakes = [run_wake(run), *(node_wake(run, node, now) for node in run.nodes.values() if node.state in _ACTIVE)]
    return min((at for at in wakes if at is not None), default=None)


def run_wake(run: Run) -> datetime | None:
    """When the run's own limit passes: the part of `next_wake` that belongs to no node."""
    if run.state is not RunState.RUNNING or run.cancel_cause is not None:
        return None
    return run_deadline(run.started_at, run.plan.run_timeout_s)


def node_wake(run: Run, node: NodeRun, now: datetime | None = None) -> datetime | None:
    """One node's part of `next_wake`."""
    if run.state is not RunState.RUNNING or node.state not in _ACTIVE:
        return None
    wakes = [*_timers(run, node), *(at for at in _owed_from(run, node) if now is None or at > now)]
    return min(wakes, default=None)


def _owed_from(run: Run, node: NodeRun) -> Iterator[datetime]:
    """When the effects that wait for their time become owed."""
    attempt = node.attempt
    if attempt is None:
        return
    at: datetime | None = None
    if attempt.state is AttemptState.INTENDED:
        at = None if run.is_paused else attempt.not_before
    elif attempt.state in {AttemptState.AMBIGUOUS, AttemptState.UNKNOWN}:
        at = attempt.find_at
    elif attempt.state is AttemptState.RUNNING:
        at = attempt.cancel_at
    if at is not None:
        yield at


def _timers(run: Run, node: NodeRun) -> Iterator[datetime]:
    """When a `Wake` changes the node."""
    attempt = node.attempt
    if node.state is NodeState.RETRYING:
        if node.retry_at is not None and not run.is_paused:
            yield node.retry_at
    elif attempt is not None and attempt.state is AttemptState.INTENDED:
        expires_at = key_expires_at(run.plan.nodes[node.id], attempt)
        if expires_at is not None:
            yield expires_at
    elif attempt is not None and attempt.state is AttemptState.RUNNING:
        limits = run.plan.nodes[node.id].limits
        if attempt.cancel_cause is None:
            yield from (due_at for due_at, _, _ in deadlines(attempt, limits))
        else:
            assert attempt.cancel_asked_at is not None
            yield attempt.cancel_asked_at + timedelta(seconds=limits.cancel_grace_s)
