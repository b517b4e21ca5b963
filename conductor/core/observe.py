"""What one sight of the vendor's run makes of the attempt that follows it. Only the vendor's own words end it here."""

from __future__ import annotations

from datetime import timedelta

from conductor.core.draft import Draft
from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.events import Observed
from conductor.core.node import attempt_over
from conductor.core.run import Attempt
from conductor.core.states import AttemptState, CancelCause, Cause, Outcome
from conductor.core.vendor import ExternalState, Json, Observation

__all__ = ["observed"]


def observed(draft: Draft, event: Observed, attempt: Attempt) -> None:
    """Keep what was seen; a final state ends the attempt."""
    if attempt.state is not AttemptState.RUNNING:
        return
    seen = event.observation
    node = event.node
    if seen.state is ExternalState.VANISHED and _is_young(draft, node, attempt):
        return
    changes = _sight(draft, attempt, seen)
    if not seen.state.is_final:
        if seen.state is not attempt.seen_state or seen.word != attempt.seen_word:
            detail: dict[str, Json] = {"seen": seen.state.value, "word": seen.word, "message": seen.message}
            draft.move_attempt(node, AttemptState.RUNNING, Cause.OBSERVED, detail, **changes)
        else:
            draft.set_attempt(node, **changes)
        return
    outcome = _OUTCOMES[seen.state]
    # What was wrong before, such as a limit that passed, is not what the vendor warns of.
    error = None if outcome is Outcome.WARNED else attempt.error
    draft.set_attempt(node, **changes, outputs=seen.outputs, error=error)
    if outcome is Outcome.CANCELLED and attempt.cancel_cause in {CancelCause.TIMEOUT, CancelCause.RUN_TIMEOUT}:
        outcome = Outcome.TIMED_OUT
    error = seen.error
    if outcome is Outcome.TIMED_OUT:
        error = attempt.error
    elif outcome is Outcome.VANISHED and error is None:
        error = ErrorInfo(error_class=ErrorClass.UNKNOWN, message="the vendor no longer knows the run")
    draft.end_attempt(node, outcome, Cause.OBSERVED, error)
    attempt_over(draft, node, Cause.OBSERVED)


def _is_young(draft: Draft, node: str, attempt: Attempt) -> bool:
    """A run that we know for less than the grace may be missing from the vendor's answers for now."""
    assert attempt.running_at is not None
    grace_s = draft.node_plan(node).capabilities.not_found_grace_s
    return draft.now < attempt.running_at + timedelta(seconds=grace_s)


_OUTCOMES = {
    ExternalState.SUCCEEDED: Outcome.SUCCEEDED,
    ExternalState.WARNED: Outcome.WARNED,
    ExternalState.FAILED: Outcome.FAILED,
    ExternalState.CANCELLED: Outcome.CANCELLED,
    ExternalState.VANISHED: Outcome.VANISHED,
}


def _sight(draft: Draft, attempt: Attempt, seen: Observation) -> dict[str, object]:
    """The fields that a poll changes."""
    moved = seen.marker != attempt.marker or seen.progress != attempt.progress or seen.state is not attempt.seen_state
    return {
        "seen_state": seen.state,
        "seen_word": seen.word,
        "seen_message": seen.message,
        "seen_at": draft.now if seen.state is not attempt.seen_state else attempt.seen_at,
        "progress": seen.progress,
        "marker": seen.marker,
        "marker_at": draft.now if moved else attempt.marker_at,
        "vendor_started_at": seen.started_at or attempt.vendor_started_at,
        "ref": seen.ref or attempt.ref,
    }
