"""Commands that look: status, why, logs. They need no running service; with one, `why` also knows what it knows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from conductor.cli.complete import pipelines
from conductor.cli.failures import Code
from conductor.cli.say import ago, span, state_words
from conductor.cli.session import Session, session_of
from conductor.cli.show import show_run, show_why

if TYPE_CHECKING:
    from conductor.service.views import LogsView

__all__ = ["add"]

_RUN = "A run's id or the beginning of it, a pipeline for its newest run, or `last`."


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(_status)
    app.command("why")(_why)
    app.command("logs")(_logs)


def _status(
    context: typer.Context,
    ref: Annotated[str | None, typer.Argument(metavar="[PIPELINE|RUN]", help=_RUN, autocompletion=pipelines)] = None,
) -> None:
    """Show how all pipelines are, or one run with its nodes (exit 1 when it failed, 6 when it was cancelled)."""
    session = session_of(context)
    if ref is None:
        _overview(session)
        return
    now = session.workspace.clock.now()
    with session.reader() as reader:
        view = reader.run(ref, now=now)
    if session.say.is_json:
        session.say.result(view)
    else:
        show_run(session.say, view, now=now)
    codes = {"failed": Code.BAD, "cancelled": Code.CANCELLED}
    raise typer.Exit(codes.get(view.run.state.value, Code.GOOD))


def _overview(session: Session) -> None:
    from conductor.service.views import Listing

    now = session.workspace.clock.now()
    with session.reader() as reader:
        views = reader.pipelines(now=now)
    if session.say.is_json:
        session.say.result(Listing(kind="pipelines", items=views))
        return
    if not views:
        session.say.line(
            "no pipelines; `conductor init` makes a project with one, `conductor validate` says what is wrong"
        )
        return
    rows = [
        [
            view.name,
            state_words(view.last_run.state.value) if view.last_run else "-",
            view.last_run.id if view.last_run else "-",
            ago(view.last_run.created_at, now) if view.last_run else "-",
            span(view.last_run.elapsed_s) if view.last_run else "-",
            "paused" if view.is_paused else ago(view.next_at, now),
        ]
        for view in views
    ]
    session.say.table(["PIPELINE", "LAST RUN", "RUN", "CREATED", "TOOK", "NEXT"], rows, state_column=1)
    if not session.is_served:
        session.say.note("no service runs on this project: schedules do not fire; start `conductor serve`")


def _why(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="[RUN]", help=_RUN, autocompletion=pipelines)] = "last",
    node: Annotated[str | None, typer.Argument(help="The node; without it, the one that holds the run back.")] = None,
) -> None:
    """Say what holds a run or a node back, when that may change, and what can be done."""
    session = session_of(context)
    now = session.workspace.clock.now()
    with session.reader() as reader:
        answer = reader.why(ref, node, now=now, is_served=session.is_served, closed=session.stopped)
    if session.say.is_json:
        session.say.result(answer)
    else:
        show_why(session.say, answer, now=now)


def _logs(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="RUN", help=_RUN, autocompletion=pipelines)],
    node: Annotated[str | None, typer.Argument(help="The node; without it, the failed or running one.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="The last so many lines.")] = 200,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Which try; the newest without it.")] = None,
) -> None:
    """Show the vendor's own words about a node."""
    from conductor.bootstrap import new_connections
    from conductor.service.tools import node_for_logs, read_logs

    session = session_of(context)
    with session.reader() as reader:
        run = reader.load(reader.row(ref).id)
        node = node or node_for_logs(run)
        tries = reader.attempts(run.id, node)

    async def read() -> LogsView:
        connections = new_connections(session.workspace)
        try:
            return await read_logs(connections, run, node, tries, attempt_no=attempt, most=lines)
        finally:
            await connections.aclose()

    view = asyncio.run(read())
    if session.say.is_json:
        session.say.result(view)
        return
    session.say.note(f"{run.plan.name} {run.id} > {node}, attempt {view.attempt_no}: {view.link or 'no page'}")
    if view.is_truncated:
        session.say.note("… there is more before this; -n takes more lines, the vendor's page has all")
    for line in view.lines:
        session.say.line(line)
