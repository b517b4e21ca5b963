"""How a run is watched: a live table on a terminal; in a pipe one line a change and one a minute, no escape codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from conductor.cli.say import STYLES, Say, span, state_words
from conductor.cli.show import journal_text, took

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from conductor.sdk.clock import Clock
    from conductor.service.views import RunView
    from conductor.service.watch import Glance

__all__ = ["Lines", "Progress", "Table", "progress_for"]

_HEARTBEAT_S = 60.0


class Progress(Protocol):
    """Shows a run while it goes."""

    def show(self, glance: Glance) -> None:
        """One more look."""
        ...

    def close(self) -> None:
        """No more looks."""
        ...


def progress_for(say: Say, clock: Clock) -> Progress:
    """What fits where the words go."""
    return Table(say) if say.is_terminal and say.verbosity >= 0 else Lines(say, clock)


class Lines:
    """One line a change, and one a minute so that nobody takes it for dead."""

    def __init__(self, say: Say, clock: Clock) -> None:
        self._say = say
        self._clock = clock
        self._said_s = clock.monotonic()

    def show(self, glance: Glance) -> None:
        """Print what is new."""
        if self._say.verbosity < 0:
            return
        for line in glance.news:
            if line.subject != "attempt" or line.detail.get("external"):
                self._print(journal_text(line))
        if self._clock.monotonic() - self._said_s >= _HEARTBEAT_S:
            self._print(f"{self._clock.now().isoformat(timespec='seconds')}  {_summary(glance.view)}")

    def close(self) -> None:
        """Nothing is left to do."""

    def _print(self, text: str) -> None:
        self._said_s = self._clock.monotonic()
        self._say.line(text)
        self._say.flush()


class Table:
    """A table that is drawn over in place."""

    def __init__(self, say: Say) -> None:
        self._console = say.console()
        self._live: Live | None = None

    def show(self, glance: Glance) -> None:
        """Draw it anew."""
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_drawn(glance.view), refresh=True)

    def close(self) -> None:
        """Remove it; the summary follows."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _summary(view: RunView) -> str:
    counts: dict[str, int] = {}
    for node in view.nodes:
        counts[node.state.value] = counts.get(node.state.value, 0) + 1
    running = ", ".join(f"{node.id} {took(node)}" for node in view.nodes if node.state.value == "running")
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{view.run.pipeline} {view.run.state.value}: {words}{f' ({running})' if running else ''}"


def _drawn(view: RunView) -> RenderableType:
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=None, pad_edge=False, show_header=False, title_justify="left")
    table.title = Text(f"{view.run.pipeline} {view.run.id}  {view.run.state.value}  {span(view.run.elapsed_s)}")
    for node in view.nodes:
        state = node.state.value
        tries = f"attempt {node.attempts}/{node.most_attempts}" if node.attempts > 1 else ""
        bar = f"{node.progress:.0%}" if node.progress is not None and state == "running" else ""
        waits = f"waits for {', '.join(node.depends_on)}" if state == "waiting" and node.depends_on else node.reason
        time = took(node) if node.elapsed_s is not None else ""
        style = STYLES.get(state, "")
        table.add_row(node.id, Text(state_words(state), style=style), tries, time, bar, Text(waits[:80], style="dim"))
    return table
