"""`conductor connections` and `conductor integrations`: what is set up, whether it works, what is installed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from conductor.cli.failures import Code
from conductor.cli.session import Session, session_of

if TYPE_CHECKING:
    from conductor.service.views import HealthView

__all__ = ["add", "test_connections"]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Look at connections and try them.", no_args_is_help=True)
    group.command("list")(_list)
    group.command("test")(_test)
    app.add_typer(group, name="connections")
    installed = typer.Typer(help="What is installed.", no_args_is_help=True)
    installed.command("list")(_integrations)
    app.add_typer(installed, name="integrations")


def _list(context: typer.Context) -> None:
    """List the project's connections, without their secrets."""
    from conductor.service.tools import list_connections
    from conductor.service.views import ConnectionView

    session = session_of(context)
    found = list_connections(session.workspace.project, stopped=session.stopped)
    if session.say.is_json:
        session.say.result(found)
        return
    views = [one for one in found.items if isinstance(one, ConnectionView)]
    if not views:
        session.say.line("no connections; connections.yml holds them")
        return
    rows = [
        [
            view.name,
            view.type,
            str(view.max_parallel or "-"),
            ", ".join(view.used_by) or "-",
            view.stopped or "; ".join(view.missing) or "ready",
        ]
        for view in views
    ]
    session.say.table(["CONNECTION", "TYPE", "AT ONCE", "USED BY", "STATE"], rows)


def _test(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; all without it.")] = None,
) -> None:
    """Try connections by reading only (exit 1 when one does not work)."""
    from conductor.service.views import Listing

    session = session_of(context)
    health = test_connections(session, names or [])
    if session.say.is_json:
        session.say.result(Listing(kind="health", items=health))
    for one in [] if session.say.is_json else health:
        version = f" (version {one.vendor_version})" if one.vendor_version else ""
        session.say.line(f"{'✓' if one.is_ok else '✕'} {one.name}: {one.message}{version}")
    raise typer.Exit(Code.GOOD if all(one.is_ok for one in health) else Code.BAD)


def test_connections(session: Session, names: list[str]) -> list[HealthView]:
    """Try these connections; all that the project has or uses when none is named.

    Raises:
        NotFoundError: There is no connection of that name.
    """
    from conductor.bootstrap import new_connections
    from conductor.core.errors import NotFoundError
    from conductor.service.tools import check_connections, connections_used

    project = session.workspace.project
    known = {*project.connections, *connections_used(project.plans.values())}
    for name in names:
        if name not in known and name not in project.plugins:
            raise NotFoundError(
                f"there is no connection {name!r}: the project has {', '.join(sorted(known)) or 'none'}"
            )

    async def check() -> list[HealthView]:
        connections = new_connections(session.workspace)
        try:
            return await check_connections(connections, names or sorted(known))
        finally:
            await connections.aclose()

    return asyncio.run(check())


def _integrations(context: typer.Context) -> None:
    """List what is installed and what nodes can use."""
    from conductor.loader.plugins import load_plugins
    from conductor.service.tools import list_integrations
    from conductor.service.views import IntegrationView

    session = session_of(context)
    plugins = load_plugins()
    found = list_integrations(plugins.by_kind)
    if session.say.is_json:
        session.say.result(found)
        return
    rows = [
        [operation.uses, operation.correlation or "depends", operation.maturity or "depends", operation.summary]
        for one in found.items
        if isinstance(one, IntegrationView)
        for operation in one.operations
    ]
    if rows:
        session.say.table(["USES", "LOST START IS FOUND BY", "TESTED AGAINST", "DOES"], rows)
    for problem in plugins.diagnostics:
        session.say.note(f"warning: {problem.message}; {problem.help}")
