"""How runs, nodes and explanations look as text. Takes views, prints lines, decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from conductor.cli.say import STYLES, Say, ago, span, state_words

if TYPE_CHECKING:
    from conductor.service.asks import Done
    from conductor.service.reasons import Why
    from conductor.service.views import JournalLine, NodeLine, NodeView, RunLine, RunView

__all__ = [
    "journal_text",
    "show_done",
    "show_journal",
    "show_node",
    "show_nodes",
    "show_run",
    "show_runs",
    "show_verdict",
    "show_why",
    "took",
    "verdict_of",
]


def took(node: NodeLine) -> str:
    """How long a node takes: its duration, and of about how much while it runs."""
    if node.state.value == "running" and node.usual_s is not None:
        return f"{span(node.elapsed_s)} of ~{span(node.usual_s)}"
    return span(node.elapsed_s)


def show_runs(say: Say, runs: Sequence[RunLine], *, now: datetime) -> None:
    """A list of runs."""
    if not runs:
        say.line("no runs; `conductor run PIPELINE` makes one")
        return
    rows = [
        [run.id, run.pipeline, state_words(run.state.value), run.trigger, ago(run.created_at, now), span(run.elapsed_s)]
        for run in runs
    ]
    say.table(["RUN", "PIPELINE", "STATE", "TRIGGER", "CREATED", "TOOK"], rows, state_column=2)


def show_run(say: Say, view: RunView, *, now: datetime) -> None:
    """A run with its nodes."""
    run = view.run
    words = state_words(run.state.value)
    extra = [word for word, is_so in (("paused", view.is_paused), ("cancelling", view.is_cancelling)) if is_so]
    extra_words = f" ({', '.join(extra)})" if extra else ""
    say.line(f"{run.pipeline} {run.id}  {words}{extra_words}", style=STYLES.get(run.state.value, ""))
    by = f" by {run.actor}" if run.actor else ""
    about = f", about {view.logical_at.isoformat()}" if view.logical_at else ""
    say.line(f"{run.trigger}{by}, {ago(run.created_at, now)}, took {span(run.elapsed_s)}{about}")
    if view.params:
        say.line("params: " + ", ".join(f"{name}={value!r}" for name, value in view.params.items()))
    if run.reason:
        say.line(run.reason)
    if view.note:
        say.line(view.note)
    if view.nodes:
        say.line()
        show_nodes(say, view)


def show_nodes(say: Say, view: RunView) -> None:
    """The nodes of a run, with the vendor's pages."""
    rows = [
        [node.id, state_words(node.state.value), took(node), _tries(node), node.link or node.external_id or "-"]
        for node in view.nodes
    ]
    say.table(["NODE", "STATE", "TOOK", "ATTEMPTS", "VENDOR"], rows, state_column=1)


def _tries(node: NodeLine) -> str:
    return f"{node.attempts}/{node.most_attempts}" if node.attempts else "-"


def verdict_of(view: RunView) -> str:
    """One line that says how a run ended."""
    run = view.run
    took_words = f" in {span(run.elapsed_s)}" if run.elapsed_s is not None else ""
    match run.state.value:
        case "succeeded":
            return f"✓ {run.pipeline} {run.id} succeeded{took_words}"
        case "failed":
            return f"✕ {run.pipeline} {run.id} failed{took_words}: {run.reason or 'no reason given'}"
        case "cancelled":
            return f"⊘ {run.pipeline} {run.id} was cancelled: {run.reason or 'no reason given'}"
        case state:
            return f"{state_words(state)}: {run.pipeline} {run.id}"


def show_verdict(say: Say, view: RunView) -> None:
    """The table and the line at the end of a run."""
    say.line()
    show_nodes(say, view)
    say.line(verdict_of(view), style=STYLES.get(view.run.state.value, ""))
    if view.run.state.value == "failed":
        say.line(f"  why: conductor why {view.run.id}")


def show_why(say: Say, why: Why, *, now: datetime) -> None:
    """The answer to "why"."""
    about = f" > {why.node}" if why.node else ""
    say.line(f"{state_words(why.state)}  {why.pipeline} {why.run_id}{about}", style=STYLES.get(why.state, ""))
    say.line(f"  {why.summary}")
    if why.until is not None:
        kind = "about " if why.until_is_estimate else ""
        say.line(f"  {'until':<10}{kind}{why.until.isoformat(timespec='seconds')} ({ago(why.until, now)})")
    if why.error is not None:
        code = f", code {why.error.code}" if why.error.code else ""
        say.line(f"  {'cause':<10}class {why.error.error_class}{code}")
        if why.error.message not in why.summary:
            say.line(f"  {'says':<10}{why.error.message}")
        for line in (why.error.detail or "").splitlines()[:20]:
            say.line(f"  {'':<10}{line}")
    if why.external_id or why.link:
        say.line(f"  {'vendor':<10}{' '.join(part for part in (why.external_id, why.link) if part)}")
    if why.upstream:
        say.line(f"  {'upstream':<10}" + ", ".join(f"{node} {state}" for node, state in why.upstream.items()))
    if why.blocks:
        say.line(f"  {'blocks':<10}{', '.join(why.blocks)}")
    if why.note:
        say.line(f"  {'note':<10}{why.note}")
    for number, command in enumerate(why.next):
        say.line(f"  {'next' if number == 0 else '':<10}{command}")


def show_node(say: Say, view: NodeView, *, now: datetime) -> None:
    """A node with its attempts."""
    node = view.node
    say.line(
        f"{view.pipeline} {view.run_id} > {node.id}  {state_words(node.state.value)}",
        style=STYLES.get(node.state.value, ""),
    )
    say.line(f"{node.uses} on {node.connection}, took {took(node)}")
    if node.reason:
        say.line(node.reason)
    if view.error is not None and view.error.message != node.reason:
        say.line(f"{view.error.error_class}: {view.error.message}")
    if view.outputs:
        say.line("outputs: " + ", ".join(f"{name}={value!r}" for name, value in view.outputs.items()))
    rows = [
        [
            str(attempt.no),
            attempt.state.value,
            attempt.outcome.value if attempt.outcome else "-",
            ago(attempt.intended_at, now),
            attempt.vendor_word or "-",
            attempt.link or attempt.external_id or "-",
            attempt.key,
        ]
        for attempt in view.attempts
    ]
    if rows:
        say.line()
        say.table(["ATTEMPT", "PHASE", "OUTCOME", "PLANNED", "VENDOR SAYS", "VENDOR", "KEY"], rows)


def show_journal(say: Say, lines: Sequence[JournalLine]) -> None:
    """What happened, a line each."""
    for line in lines:
        say.line(journal_text(line))


def journal_text(line: JournalLine) -> str:
    """One row of a journal as one line."""
    who = line.node or "run"
    which = f" attempt {line.attempt_no}" if line.subject == "attempt" else ""
    moved = f"{line.before} -> {line.after}" if line.before else line.after
    words = [str(line.detail[name]) for name in ("message", "reason", "external", "link") if line.detail.get(name)]
    told = f": {'; '.join(words)}" if words else ""
    return f"{line.at.isoformat(timespec='seconds')}  {who}{which}  {moved} ({line.cause}){told}"


def show_done(say: Say, answer: Done, *, what: str) -> None:
    """What became of an ask."""
    if say.is_json:
        say.result(answer)
    elif answer.run_id:
        say.line(f"{what}: {answer.pipeline} {answer.run_id} is {answer.state}")
    else:
        say.line(f"{what}: pipeline {answer.pipeline} is {answer.state}")
    if not answer.is_served and answer.run_id and not answer.is_over:
        say.note(
            "recorded, but no service runs: start `conductor serve`, "
            f"or follow it here with `conductor run --resume {answer.run_id}`"
        )
