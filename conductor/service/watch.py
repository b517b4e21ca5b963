"""Follows a run until it ends: its picture and what is new in its journal, again and again. Reads only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from conductor.core.errors import StoreUnavailableError
from conductor.sdk.clock import Clock
from conductor.service.reading import Reader
from conductor.service.views import JournalLine, RunView

__all__ = ["Glance", "watch"]

_EVERY_S = 0.25
_LONGEST_EVERY_S = 2.0
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """One look at a run.

    Attributes:
        view: The run.
        news: What was recorded since the last look, in order.
        is_last: The run has ended, or the time is up.
    """

    view: RunView
    news: Sequence[JournalLine]
    is_last: bool


async def watch(reader: Reader, run_id: str, *, clock: Clock, timeout_s: float | None = None) -> AsyncIterator[Glance]:
    """Looks at the run, the last of them when it has ended or `timeout_s` have passed.

    Looks are close together at first and up to two seconds apart later. A database that does not answer is waited for,
    at most ten minutes.

    Raises:
        StoreUnavailableError: It did not answer for that long.
    """
    began_s = clock.monotonic()
    after, every_s, unseen_since_s = 0, _EVERY_S, began_s
    while True:
        try:
            news = reader.journal_lines(run_id, after=after)
            view = reader.picture(reader.load(run_id), now=clock.now())
        except StoreUnavailableError:
            if clock.monotonic() - unseen_since_s > _PATIENCE_S:
                raise
            await clock.sleep(_LONGEST_EVERY_S)
            continue
        unseen_since_s = clock.monotonic()
        after = news[-1].id if news else after
        is_up = timeout_s is not None and clock.monotonic() - began_s >= timeout_s
        is_last = is_up or view.run.state.is_final
        if is_last and view.run.state.is_final:
            news = [*news, *reader.journal_lines(run_id, after=after)]
        yield Glance(view=view, news=news, is_last=is_last)
        if is_last:
            return
        every_s = _EVERY_S if news else min(every_s * 1.2, _LONGEST_EVERY_S)
        left_s = timeout_s - (clock.monotonic() - began_s) if timeout_s is not None else every_s
        await clock.sleep(max(min(every_s, left_s), 0.01))
