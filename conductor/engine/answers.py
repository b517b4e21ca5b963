"""Answers that would tie an external run to an attempt: which run, and what they mean when it belongs to another."""

from __future__ import annotations

from dataclasses import replace

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.events import Accepted, AttemptEvent, Busy, CannotSee, Lost, Observed, Prepared, Seen
from conductor.core.vendor import ExternalRef

__all__ = ["Owner", "claimed_ref", "disowned"]

Owner = tuple[str, str, int]
"""(run, node, attempt number)."""


def claimed_ref(event: AttemptEvent) -> ExternalRef | None:
    """The external run that an answer would tie to its attempt; None for answers that name none."""
    match event:
        case Accepted() | Seen():
            return event.ref
        case Busy():
            return event.running
        case Prepared():
            return event.baseline.running
        case Observed():
            return event.observation.ref
        case _:
            return None


def disowned(event: AttemptEvent, owner: Owner | None) -> AttemptEvent:
    """What an answer means when the external run that it names belongs to another attempt already."""
    whose = f"run {owner[0]}, node {owner[1]}" if owner else "another node"
    why = f"the vendor named a run that belongs to {whose}"
    match event:
        case Accepted():
            error = ErrorInfo(error_class=ErrorClass.UNKNOWN, message=why)
            return Lost(node=event.node, attempt_no=event.attempt_no, error=error)
        case Busy():
            return replace(event, running=None)
        case Prepared():
            return replace(event, baseline=replace(event.baseline, running=None))
        case Observed():
            return replace(event, observation=replace(event.observation, ref=None))
        case _:
            return CannotSee(node=event.node, attempt_no=event.attempt_no, reason=why)
