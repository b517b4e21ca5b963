"""`conductor runs`: list, show, cancel, retry, rerun, skip, mark, pause, resume; through the service when one runs."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from conductor.cli.complete import pipelines
from conductor.cli.session import Session, session_of
from conductor.cli.show import show_done, show_journal, show_node, show_run, show_runs

__all__ = ["add"]

_Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id or the beginning of it, a pipeline for its newest run, or `last`.",
        autocompletion=pipelines,
    ),
]
_Node = Annotated[str, typer.Argument(help="The node.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")]


class _State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class _Mark(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"


def add(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at runs and change them.", no_args_is_help=True)
    group.command("list")(_list)
    group.command("show")(_show)
    group.command("cancel")(_cancel)
    group.command("retry")(_retry)
    group.command("rerun")(_rerun)
    group.command("skip")(_skip)
    group.command("mark")(_mark)
    group.command("pause")(_pause)
    group.command("resume")(_resume)
    app.add_typer(group, name="runs")


def _list(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(help="Only its runs.", autocompletion=pipelines)] = None,
    state: Annotated[list[_State] | None, typer.Option("--state", help="Only in this state; repeatable.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """List runs, newest first."""
    from conductor.core.states import RunState
    from conductor.service.views import RunLine

    session = session_of(context)
    now = session.workspace.clock.now()
    states = [RunState(one.value) for one in state or ()]
    with session.reader() as reader:
        found = reader.runs(now=now, pipeline=pipeline, states=states, limit=limit)
    if session.say.is_json:
        session.say.result(found)
    else:
        show_runs(session.say, [one for one in found.items if isinstance(one, RunLine)], now=now)


def _show(
    context: typer.Context,
    ref: _Run,
    node: Annotated[str | None, typer.Argument(help="One node, with all its attempts.")] = None,
    journal: Annotated[bool, typer.Option("--journal", help="Everything that happened, in order.")] = False,
) -> None:
    """Show a run, one of its nodes, or its journal."""
    from conductor.service.views import JournalLine

    session = session_of(context)
    say = session.say
    now = session.workspace.clock.now()
    with session.reader() as reader:
        if journal:
            found = reader.journal(ref)
            lines = [one for one in found.items if isinstance(one, JournalLine) and node in {None, one.node}]
            say.result(found) if say.is_json else show_journal(say, lines)
        elif node is not None:
            one = reader.node(ref, node, now=now)
            say.result(one) if say.is_json else show_node(say, one, now=now)
        else:
            view = reader.run(ref, now=now)
            say.result(view) if say.is_json else show_run(say, view, now=now)


def _cancel(
    context: typer.Context,
    ref: _Run,
    node: Annotated[str, typer.Option("--node", help="Only this node.")] = "",
    reason: _Reason = "",
) -> None:
    """Stop a run, or one node of it; what runs at vendors is cancelled there."""
    _ask(session_of(context), ref, "cancel", node=node, reason=reason, what="cancelling")


def _retry(
    context: typer.Context,
    ref: _Run,
    node: Annotated[str, typer.Argument(help="Only this node; without it, all that failed.")] = "",
    reason: _Reason = "",
) -> None:
    """Run failed, cancelled and held nodes again, and what they blocked."""
    _ask(session_of(context), ref, "retry", node=node, reason=reason, what="retrying")


def _rerun(context: typer.Context, ref: _Run, node: _Node, reason: _Reason = "") -> None:
    """Run a node again, and everything that depends on it."""
    _ask(session_of(context), ref, "rerun", node=node, reason=reason, what="rerunning")


def _skip(context: typer.Context, ref: _Run, node: _Node, reason: _Reason = "") -> None:
    """Do not run a node; needs --reason."""
    _ask(session_of(context), ref, "skip", node=node, reason=_needed(reason), what="skipped")


def _mark(
    context: typer.Context,
    ref: _Run,
    node: _Node,
    state: Annotated[_Mark, typer.Argument(help="How it ended.")],
    reason: _Reason = "",
) -> None:
    """Declare how a node ended; needs --reason."""
    _ask(session_of(context), ref, f"mark_{state.value}", node=node, reason=_needed(reason), what="marked")


def _pause(context: typer.Context, ref: _Run) -> None:
    """Start nothing more in a run; what runs is followed."""
    _ask(session_of(context), ref, "pause", node="", reason="", what="paused")


def _resume(context: typer.Context, ref: _Run) -> None:
    """Let a paused run go on."""
    _ask(session_of(context), ref, "resume", node="", reason="", what="resumed")


def _needed(reason: str) -> str:
    if not reason.strip():
        raise typer.BadParameter("a reason is needed, it is kept in the journal: give it with --reason")
    return reason


def _ask(session: Session, ref: str, verb: str, *, node: str, reason: str, what: str) -> None:
    from conductor.service.asks import RunAsk, Verb

    with session.reader() as reader:
        run_id = reader.row(ref).id
    ask = RunAsk(run_id=run_id, verb=Verb(verb), node=node, reason=reason, actor=session.workspace.settings.actor)
    with session.actions() as actions:
        answer = asyncio.run(actions.on_run(ask))
    show_done(session.say, answer, what=what)
