"""`conductor serve`: the engine, the schedules and the control channel, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from conductor.cli.failures import Code
from conductor.cli.session import Session, session_of

if TYPE_CHECKING:
    from conductor.cli.hosting import Hosted

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(_serve)


def _serve(context: typer.Context) -> None:
    """Run pipelines on their schedules. SIGHUP loads definitions anew, SIGTERM stops gracefully."""
    from conductor.bootstrap import configure_logging, require_secrets

    session = session_of(context)
    workspace = session.workspace
    workspace.project.require_ok()
    require_secrets(workspace, workspace.project.plans)
    settings = workspace.settings
    with configure_logging(level=settings.text("log.level"), form=settings.text("log.format"), redact=workspace.redact):
        asyncio.run(_until_stopped(session))
    raise typer.Exit(Code.GOOD)


async def _until_stopped(session: Session) -> None:
    import structlog

    from conductor.bootstrap import build_running
    from conductor.cli.hosting import hosted

    log = structlog.get_logger("conductor.serve")
    workspace = session.workspace
    for one in (*workspace.plugins.diagnostics, *workspace.project.diagnostics):
        log.warning("diagnostic", code=one.code, path=one.path, line=one.line, message=one.message)
    running = build_running(workspace, has_schedules=True)
    try:
        async with hosted(running, mode="serve") as here:
            log.info(
                "serving",
                project=workspace.project.settings.name,
                pipelines=len(workspace.project.plans),
                unfinished_runs=len(running.engine.runs),
            )
            await _wait(here)
            log.info("stopping", signal=here.signals[0].name if here.signals else "engine ended")
        log.info("stopped", unfinished_runs=len(running.engine.runs))
    finally:
        running.close()


async def _wait(here: Hosted) -> None:
    """Until the process is asked to stop or the engine cannot go on; reloads when asked to."""
    import structlog

    from conductor.core.errors import ConductorError

    log = structlog.get_logger("conductor.serve")
    stop = asyncio.create_task(here.stop.wait())
    try:
        while not (stop.done() or here.loop.done()):
            reload = asyncio.create_task(here.reload.wait())
            await asyncio.wait({stop, here.loop, reload}, return_when=asyncio.FIRST_COMPLETED)
            if not reload.done():
                reload.cancel()
                continue
            here.reload.clear()
            try:
                log.info("definitions loaded anew", pipelines=list(await here.running.reload()))
            except ConductorError as error:
                log.warning("definitions stay as they were", error=str(error))
    finally:
        stop.cancel()
