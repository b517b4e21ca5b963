"""What people may ask for, as values: the same whether a service, a page or a command line carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import ClassVar
from zoneinfo import ZoneInfo

from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.events import (
    CancelNode,
    CancelRun,
    Event,
    Mark,
    MarkNode,
    Pause,
    RerunFrom,
    Resume,
    RetryFailed,
    SkipNode,
)
from conductor.core.params import parse_param
from conductor.core.plan import Plan
from conductor.core.run import Run, Trigger
from conductor.core.states import RunState
from conductor.core.vendor import Json
from conductor.engine.pipelines import NewRun
from conductor.service.document import document

__all__ = ["Done", "PauseAsk", "RunAsk", "TriggerAsk", "Verb", "done", "event_of", "new_run_of", "plan_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerAsk:
    """A run is asked for.

    Attributes:
        pipeline: Its name.
        texts: Parameters as written on a command line; read by their declared types.
        params: Parameters as JSON values.
        date: The day or instant that the run is about; empty for now.
        key: The same key gives the same run; empty for a new run each time.
        trigger: Who asks: a person, a script.
        actor: By name.
        reason: Why, for people.
    """

    pipeline: str
    texts: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Json] = field(default_factory=dict)
    date: str = ""
    key: str = ""
    trigger: Trigger = Trigger.MANUAL
    actor: str = ""
    reason: str = ""


class Verb(StrEnum):
    """What can be asked of a run."""

    CANCEL = "cancel"
    """Stop the run, or some of its nodes."""
    RETRY = "retry"
    """Run failed, cancelled and held nodes again; all of them, or those named."""
    RERUN = "rerun"
    """Run a node and everything below it again."""
    SKIP = "skip"
    """Do not run a node; needs a reason."""
    MARK_SUCCEEDED = "mark_succeeded"
    """Declare a node done; needs a reason."""
    MARK_FAILED = "mark_failed"
    """Declare a node not done; needs a reason."""
    PAUSE = "pause"
    """Start nothing more in the run."""
    RESUME = "resume"
    """Start things again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsk:
    """Something is asked of a run.

    Attributes:
        run_id: The run, by its whole id.
        verb: What.
        node: The node that it is about; empty for the run.
        actor: Who asks.
        reason: Why, for the journal.
    """

    run_id: str
    verb: Verb
    node: str = ""
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseAsk:
    """A pipeline is to be paused or resumed.

    Attributes:
        pipeline: Its name.
        is_paused: Which of the two.
        actor: Who asks.
    """

    pipeline: str
    is_paused: bool
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of an ask.

    Attributes:
        run_id: The run; empty when it was about a pipeline.
        pipeline: The pipeline.
        state: The run's state afterwards, or `paused` and `active` for a pipeline.
        is_new: A run was recorded; false where its key had given one before.
        is_served: Something carries on with it now; otherwise the next service does.
    """

    kind: ClassVar[str] = "done"
    run_id: str
    pipeline: str
    state: str
    is_new: bool = False
    is_served: bool = True

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)

    @property
    def is_over(self) -> bool:
        """Nothing is left to carry on with."""
        return self.state in {state.value for state in RunState if state.is_final}


def done(run: Run, *, is_new: bool = False, is_served: bool = True) -> Done:
    """What became of an ask about a run."""
    return Done(run_id=run.id, pipeline=run.plan.name, state=run.state.value, is_new=is_new, is_served=is_served)


def plan_named(plans: Mapping[str, Plan], name: str) -> Plan:
    """The pipeline of that name.

    Raises:
        NotFoundError: There is none; names those that there are.
    """
    plan = plans.get(name)
    if plan is None:
        import difflib

        near = difflib.get_close_matches(name, plans, n=1)
        some = f"did you mean {near[0]}?" if near else f"the project has {', '.join(sorted(plans)[:10]) or 'none'}"
        raise NotFoundError(f"there is no pipeline {name!r}: {some}")
    return plan


def new_run_of(ask: TriggerAsk, plan: Plan, *, nonce: str) -> NewRun:
    """The run that is asked for.

    Args:
        ask: What is asked.
        plan: Its pipeline.
        nonce: Sets a run without a key apart from every other.

    Raises:
        ConflictError: A parameter or the date does not read as it should.
    """
    texts = {name: parse_param(plan, name, text) for name, text in ask.texts.items()}
    return NewRun(
        pipeline=plan.name,
        trigger=ask.trigger,
        identity=f"key:{ask.key}" if ask.key else f"nonce:{nonce}",
        params={**ask.params, **texts},
        logical_at=_instant(ask.date, plan) if ask.date else None,
        actor=ask.actor,
        reason=ask.reason,
    )


def _instant(text: str, plan: Plan) -> datetime:
    zone = ZoneInfo(plan.timezone)
    try:
        if len(text) == len("2026-01-05"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConflictError(
            f"date {text!r} cannot be used: write a day (2026-01-05) or an instant (2026-01-05T06:00+01:00)"
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)


def event_of(ask: RunAsk) -> Event:
    """The event that it means.

    Raises:
        ConflictError: It needs a node and names none.
    """
    node = ask.node
    if not node and ask.verb in {Verb.RERUN, Verb.SKIP, Verb.MARK_SUCCEEDED, Verb.MARK_FAILED}:
        raise ConflictError(f"run {ask.run_id}: {ask.verb} needs a node; name one")
    match ask.verb:
        case Verb.CANCEL if node:
            return CancelNode(node=node, actor=ask.actor, reason=ask.reason)
        case Verb.CANCEL:
            return CancelRun(actor=ask.actor, reason=ask.reason)
        case Verb.RETRY:
            return RetryFailed(nodes=(node,) if node else (), actor=ask.actor, reason=ask.reason)
        case Verb.RERUN:
            return RerunFrom(node=node, actor=ask.actor, reason=ask.reason)
        case Verb.SKIP:
            return SkipNode(node=node, actor=ask.actor, reason=ask.reason)
        case Verb.MARK_SUCCEEDED:
            return MarkNode(node=node, state=Mark.SUCCEEDED, actor=ask.actor, reason=ask.reason)
        case Verb.MARK_FAILED:
            return MarkNode(node=node, state=Mark.FAILED, actor=ask.actor, reason=ask.reason)
        case Verb.PAUSE:
            return Pause(actor=ask.actor)
        case Verb.RESUME:
            return Resume(actor=ask.actor)
