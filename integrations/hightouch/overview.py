"""When one look at all syncs may stand for a look at each run. Pure: the rule, and the memory that it needs in the ref.

Hightouch lists runs per sync only, so a batch of runs of many syncs costs a request each. `GET /syncs` gives the status
word of a hundred syncs at once, without a run id. It may confirm what a run's own list said a moment ago; it never ends
a run and is never believed for longer than `RELOOK_S`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from conductor.sdk import ExternalRef, ExternalState, Observation
from integrations.hightouch.mapping import state_of

__all__ = ["MIN_SYNCS", "RELOOK_S", "page_budget", "remember", "unchanged"]

MIN_SYNCS = 10
"""With fewer syncs in a batch it would save nothing worth its complexity."""
RELOOK_S = 120.0
"""A run's own list is read at least this often, in seconds, whatever the overview says."""
_SYNCS_PER_PAGE_WORTH = 5


def page_budget(syncs: int) -> int:
    """How many pages of the overview may be read for a batch of runs of `syncs` syncs; 0 when it does not pay."""
    return 0 if syncs < MIN_SYNCS else max(1, syncs // _SYNCS_PER_PAGE_WORTH)


def remember(ref: ExternalRef, seen: Observation, *, now: datetime) -> ExternalRef:
    """`ref` with what its own list just said, for `unchanged` to compare with; final states need no memory."""
    if seen.state not in {ExternalState.QUEUED, ExternalState.RUNNING}:
        return ref
    memory = {
        "word": seen.word,
        "marker": seen.marker,
        "progress": seen.progress,
        "began_at": seen.started_at.isoformat() if seen.started_at else None,
        "looked_at": now.isoformat(),
    }
    return replace(ref, data={**ref.data, "memory": memory})


def unchanged(ref: ExternalRef, word: str | None, *, now: datetime) -> Observation | None:
    """The remembered observation, when the sync still says the run's last active word; None when a real look is due."""
    memory = ref.data.get("memory")
    if not isinstance(memory, dict) or word is None or memory.get("word") != word:
        return None
    state = state_of(word)
    looked_at = _instant(memory.get("looked_at"))
    if state not in {ExternalState.QUEUED, ExternalState.RUNNING} or looked_at is None:
        return None
    if not 0 <= (now - looked_at).total_seconds() < RELOOK_S:
        return None
    progress, marker = memory.get("progress"), memory.get("marker")
    return Observation(
        state=state,
        word=word,
        progress=progress if isinstance(progress, float) else None,
        marker=marker if isinstance(marker, str) else "",
        started_at=_instant(memory.get("began_at")),
    )


def _instant(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None
