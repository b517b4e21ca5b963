"""`conductor pipelines`: list, pause, resume."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from conductor.cli.complete import pipelines
from conductor.cli.say import ago, state_words
from conductor.cli.session import Session, session_of
from conductor.cli.show import show_done

__all__ = ["add"]

_Pipeline = Annotated[str, typer.Argument(help="Which.", autocompletion=pipelines)]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at pipelines, pause and resume them.", no_args_is_help=True)
    group.command("list")(_list)
    group.command("pause")(_pause)
    group.command("resume")(_resume)
    app.add_typer(group, name="pipelines")


def _list(context: typer.Context) -> None:
    """List the project's pipelines."""
    from conductor.service.views import Listing

    session = session_of(context)
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
            "paused" if view.is_paused else "on",
            f"{view.schedule} {view.timezone}" if view.schedule else "by hand",
            ago(view.next_at, now),
            str(view.nodes),
            state_words(view.last_run.state.value) if view.last_run else "-",
            view.owner or "-",
            view.file,
        ]
        for view in views
    ]
    session.say.table(
        ["PIPELINE", "IS", "SCHEDULE", "NEXT", "NODES", "LAST RUN", "OWNER", "FILE"], rows, state_column=5
    )


def _pause(context: typer.Context, pipeline: _Pipeline) -> None:
    """Fire no schedule and start nothing more in its runs; what runs is followed."""
    _set(session_of(context), pipeline, is_paused=True)


def _resume(context: typer.Context, pipeline: _Pipeline) -> None:
    """Go on."""
    _set(session_of(context), pipeline, is_paused=False)


def _set(session: Session, pipeline: str, *, is_paused: bool) -> None:
    from conductor.service.asks import PauseAsk, plan_named

    plan = plan_named(session.workspace.project.plans, pipeline)
    ask = PauseAsk(pipeline=plan.name, is_paused=is_paused, actor=session.workspace.settings.actor)
    with session.actions() as actions:
        answer = asyncio.run(actions.on_pipeline(ask))
    show_done(session.say, answer, what="paused" if is_paused else "resumed")
