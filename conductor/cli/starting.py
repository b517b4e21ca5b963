"""Commands that start runs: `run` here and now with an engine of its own, `trigger` through the service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from conductor.cli.complete import pipelines
from conductor.cli.failures import Code
from conductor.cli.progress import progress_for
from conductor.cli.session import Session, session_of
from conductor.cli.show import show_done, show_verdict

if TYPE_CHECKING:
    from conductor.bootstrap import Running
    from conductor.cli.hosting import Hosted
    from conductor.service.asks import Done, TriggerAsk
    from conductor.service.reading import Reader
    from conductor.service.views import RunView

__all__ = ["add"]

_PATIENCE_S = 600.0
_LOOK_EVERY_S = 10.0

_Params = Annotated[
    list[str] | None, typer.Option("-p", "--param", metavar="NAME=VALUE", help="A parameter; repeatable.")
]
_Date = Annotated[str, typer.Option("--date", help="The day or instant that the run is about, such as 2026-01-05.")]
_Key = Annotated[str, typer.Option("--key", help="The same key gives the same run, however often it is asked for.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(_run)
    app.command("trigger")(_trigger)


def _ask(session: Session, pipeline: str, *, params: Sequence[str], date: str, key: str, reason: str) -> TriggerAsk:
    from conductor.core.run import Trigger
    from conductor.service.asks import TriggerAsk

    texts = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r}: write a parameter as NAME=VALUE")
        texts[name] = value
    trigger = Trigger.CI if session.early.by_name["color"].place == "CI" else Trigger.MANUAL
    actor = session.workspace.settings.actor
    return TriggerAsk(pipeline=pipeline, texts=texts, date=date, key=key, trigger=trigger, actor=actor, reason=reason)


def _require(session: Session, pipeline: str) -> None:
    """The pipeline is there and can run; errors in other files only make a note."""
    from conductor.bootstrap import require_secrets
    from conductor.service.asks import plan_named

    project = session.workspace.project
    if pipeline not in project.plans:
        project.require_ok()
    plan = plan_named(project.plans, pipeline)
    if not project.is_ok:
        if any(one.path in {"conductor.yml", "connections.yml"} for one in project.diagnostics):
            project.require_ok()
        session.say.note("note: other files of the project have errors; see `conductor validate`")
    require_secrets(session.workspace, {plan.name: plan})


# --- trigger --------------------------------------------------------------------------------------------------------


def _trigger(
    context: typer.Context,
    *,
    pipeline: Annotated[str, typer.Argument(help="Which.", autocompletion=pipelines)],
    params: _Params = None,
    date: _Date = "",
    key: _Key = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the run.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it ends; its end is the exit code.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="Wait no longer, such as 2h; the run goes on.")] = "",
) -> None:
    """Ask the running service for a run; without one, record it for the next service."""
    from conductor.core.errors import ConflictError

    session = session_of(context)
    timeout_s = _seconds(timeout) if timeout else None
    ask = _ask(session, pipeline, params=params or (), date=date, key=key, reason=reason)
    if session.service is None:
        if wait:
            raise ConflictError(
                f"{pipeline} cannot be waited for: no service runs that would run it, and nothing was recorded; start "
                f"`conductor serve`, or run it here with `conductor run {pipeline}`"
            )
        _require(session, pipeline)
    with session.actions() as actions:
        answer = asyncio.run(actions.trigger(ask))
    what = "triggered" if answer.is_new else "already there"
    if not wait:
        show_done(session.say, answer, what=what)
        return
    session.say.note(f"{what}: {answer.pipeline} {answer.run_id}")
    raise typer.Exit(_wait(session, answer, timeout_s=timeout_s))


def _seconds(text: str) -> float:
    from conductor.loader.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--timeout {text}: {error}") from None


def _wait(session: Session, answer: Done, *, timeout_s: float | None) -> Code:
    with session.reader() as reader:
        try:
            view = asyncio.run(_followed(session, reader, answer.run_id, timeout_s=timeout_s))
        except KeyboardInterrupt:
            session.say.note(
                f"no longer waiting; the run goes on: conductor status {answer.run_id}, "
                f"conductor runs cancel {answer.run_id}"
            )
            return Code.INTERRUPTED
    if view.run.state.is_final:
        return _ended(session, view)
    session.say.note(f"waited long enough; the run goes on: conductor status {answer.run_id}")
    if session.say.is_json:
        session.say.result(view)
    return Code.TIMED_OUT


async def _followed(session: Session, reader: Reader, run_id: str, *, timeout_s: float | None) -> RunView:
    """Follow a run that a service runs, and see whether that service is still there.

    Raises:
        StoreUnavailableError: There was no service for ten minutes.
    """
    clock = session.workspace.clock
    following = asyncio.create_task(_follow(session, reader, run_id, timeout_s=timeout_s))
    lost_since_s: float | None = None
    while not following.done():
        await asyncio.wait({following}, timeout=_LOOK_EVERY_S)
        lost_since_s = _seen_lost(session, lost_since_s, clock.monotonic())
        if lost_since_s is not None and clock.monotonic() - lost_since_s > _PATIENCE_S and not following.done():
            following.cancel()
            from conductor.core.errors import StoreUnavailableError

            raise StoreUnavailableError(
                f"run {run_id} is not followed: its service has been gone for ten minutes; start `conductor serve`"
            )
    return following.result()


def _seen_lost(session: Session, since_s: float | None, now_s: float) -> float | None:
    from conductor.service.client import find_service

    if find_service(session.workspace.settings.state_dir) is not None:
        return None
    if since_s is None:
        session.say.note("the service is gone: waiting for it to come back")
    return now_s if since_s is None else since_s


async def _follow(session: Session, reader: Reader, run_id: str, *, timeout_s: float | None = None) -> RunView:
    """Show the run until it ends or the time is up; its last view."""
    from conductor.service.watch import watch

    clock = session.workspace.clock
    progress = progress_for(session.say, clock)
    last: RunView | None = None
    try:
        async for glance in watch(reader, run_id, clock=clock, timeout_s=timeout_s):
            last = glance.view
            progress.show(glance)
    finally:
        progress.close()
    assert last is not None
    return last


def _ended(session: Session, view: RunView) -> Code:
    if session.say.is_json:
        session.say.result(view)
    else:
        show_verdict(session.say, view)
    codes = {"succeeded": Code.GOOD, "cancelled": Code.CANCELLED}
    return codes.get(view.run.state.value, Code.BAD)


# --- run ------------------------------------------------------------------------------------------------------------


def _run(
    context: typer.Context,
    *,
    pipeline: Annotated[str | None, typer.Argument(help="Which.", autocompletion=pipelines)] = None,
    params: _Params = None,
    date: _Date = "",
    key: _Key = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the run.")] = "",
    resume: Annotated[str | None, typer.Option("--resume", metavar="RUN", help="Go on with an unfinished run.")] = None,
) -> None:
    """Run a pipeline here, in the foreground. Ctrl-C stops gracefully; what runs at vendors goes on there."""
    from conductor.core.errors import ConflictError

    session = session_of(context)
    if (pipeline is None) == (resume is None):
        raise typer.BadParameter("name a pipeline, or an unfinished run with --resume")
    if session.service is not None:
        mode = session.service.status().get("mode")
        other = f"conductor trigger {pipeline} --wait" if pipeline else f"conductor status {resume}"
        raise ConflictError(f"`conductor {mode}` works on this project already: use `{other}`")
    ask = None
    if pipeline is not None:
        _require(session, pipeline)
        ask = _ask(session, pipeline, params=params or (), date=date, key=key, reason=reason)
    raise typer.Exit(asyncio.run(_foreground(session, ask, resume)))


async def _foreground(session: Session, ask: TriggerAsk | None, resume: str | None) -> Code:
    import sys

    from conductor.bootstrap import build_running, configure_logging
    from conductor.cli.hosting import hosted

    workspace = session.workspace
    level = {1: "info", 2: "debug"}.get(min(session.say.verbosity, 2), "error")
    running = build_running(workspace, has_schedules=False)
    try:
        with configure_logging(level=level, form="auto", stream=sys.stderr, redact=workspace.redact):
            async with hosted(running, mode="run") as here:
                run_id = await _begun(session, running, ask, resume)
                view = await _until_ended(session, here, run_id)
        if view is not None:
            return _ended(session, view)
        session.say.note(
            "stopped: what runs at vendors goes on there, and nothing more is started; go on with "
            f"`conductor run --resume {run_id}` or `conductor serve`"
        )
        return Code.INTERRUPTED
    finally:
        running.close()


async def _begun(session: Session, running: Running, ask: TriggerAsk | None, resume: str | None) -> str:
    """The run to follow.

    Raises:
        RequestError: It cannot be begun, or has ended.
    """
    from conductor.core.errors import ConflictError

    if ask is not None:
        others = len(running.engine.runs)
        answer = await running.actions.trigger(ask)
        if others:
            session.say.note(f"note: {others} other unfinished runs are followed meanwhile; see `conductor runs list`")
        session.say.note(f"{answer.pipeline} {answer.run_id} {'begins' if answer.is_new else 'is there already'}")
        return answer.run_id
    row = running.reader.row(resume or "")
    if row.state.is_final:
        raise ConflictError(
            f"run {row.id} has ended ({row.state}): nothing is left to go on with; "
            f"`conductor runs retry {row.id}` sets back what failed, then resume it"
        )
    return row.id


async def _until_ended(session: Session, here: Hosted, run_id: str) -> RunView | None:
    """The run's last view; None when the process was asked to stop before.

    Raises:
        StoreError: The engine cannot go on.
    """
    following = asyncio.create_task(_follow(session, here.running.reader, run_id))
    stop = asyncio.create_task(here.stop.wait())
    try:
        await asyncio.wait({following, stop, here.loop}, return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            return following.result()
        if here.loop.done():
            here.loop.result()
        session.say.note("stopping …")
        return None
    finally:
        stop.cancel()
        following.cancel()
        await asyncio.wait({following})
