"""`step`: the only way a run changes. Pure: the same run, event and instant give the same result. Dispatch only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from conductor.core import commands
from conductor.core.attempt import apply, recovered
from conductor.core.draft import Draft, Step
from conductor.core.errors import ConflictError
from conductor.core.events import (
    Begin,
    CancelNode,
    CancelRun,
    Event,
    MarkNode,
    Pause,
    Recovered,
    RerunFrom,
    Resume,
    RetryFailed,
    SkipNode,
    Wake,
)
from conductor.core.node import finish_run, settle
from conductor.core.plan import Plan
from conductor.core.run import NodeRun, Run, Subject, Transition, Trigger
from conductor.core.states import Cause, RunState
from conductor.core.timers import wake
from conductor.core.vendor import Json

__all__ = ["Step", "new_run", "step"]


def new_run(
    plan: Plan,
    *,
    run_id: str,
    trigger: Trigger,
    now: datetime,
    params: Mapping[str, Json],
    slot: datetime | None = None,
    logical_at: datetime | None = None,
    actor: str = "",
    reason: str = "",
) -> Step:
    """A recorded run in `queued`; nothing of it has begun."""
    run = Run(
        id=run_id,
        plan=plan,
        trigger=trigger,
        state=RunState.QUEUED,
        created_at=now,
        logical_at=logical_at or slot or now,
        nodes={node: NodeRun(id=node) for node in plan.nodes},
        slot=slot,
        params=params,
        reason=reason,
        actor=actor,
        priority=plan.priority,
        seq=1,
    )
    first = Transition(
        at=now,
        seq=1,
        subject=Subject.RUN,
        node="",
        attempt_no=0,
        before="",
        after=RunState.QUEUED.value,
        cause=Cause.CREATED,
        detail={"trigger": trigger.value, "actor": actor, "slot": slot.isoformat() if slot else None},
    )
    return Step(run=run, transitions=(first,), changed=frozenset(run.nodes))


def step(run: Run, event: Event, now: datetime) -> Step:  # noqa: C901 - it only dispatches
    """What `event` makes of `run` at `now`.

    Raises:
        ConflictError: A person asked for something that makes no sense in this state; nothing changed.
        NotFoundError: The named node does not exist; nothing changed.
        InvalidTransitionError: A bug; nothing changed.
    """
    draft = Draft(run, now)
    match event:
        case Begin():
            _begin(draft)
        case Wake():
            wake(draft)
        case Recovered():
            for node in run.nodes:
                recovered(draft, node)
        case CancelRun():
            commands.on_cancel_run(draft, event)
        case CancelNode():
            commands.cancel_node(draft, event)
        case RetryFailed():
            commands.retry_failed(draft, event)
        case RerunFrom():
            commands.rerun_from(draft, event)
        case SkipNode():
            commands.skip_node(draft, event)
        case MarkNode():
            commands.mark_node(draft, event)
        case Pause():
            _pause(draft, event)
        case Resume():
            _pause(draft, event)
        case _:
            apply(draft, event)
    return draft.step()


def _begin(draft: Draft) -> None:
    if draft.state is not RunState.QUEUED:
        return
    draft.move_run(RunState.RUNNING, Cause.BEGUN, started_at=draft.now)
    settle(draft, draft.nodes)
    finish_run(draft)


def _pause(draft: Draft, event: Pause | Resume) -> None:
    if draft.state.is_final:
        raise ConflictError(f"run {draft.run.id} has ended ({draft.state}): there is nothing to pause or resume")
    is_paused = isinstance(event, Pause)
    if draft.run.is_paused is not is_paused:
        cause = Cause.PAUSED if is_paused else Cause.RESUMED
        draft.move_run(draft.state, cause, {"actor": event.actor}, is_paused=is_paused)
