"""Commands for whoever operates it: doctor, db, config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conductor.cli.connections import test_connections
from conductor.cli.failures import Code
from conductor.cli.session import Session, session_of

if TYPE_CHECKING:
    from conductor.service.doctor import CheckView
    from conductor.store import Store

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("doctor")(_doctor)
    base = typer.Typer(help="The database.", no_args_is_help=True)
    base.command("upgrade")(_upgrade)
    base.command("backup")(_backup)
    base.command("check")(_check)
    app.add_typer(base, name="db")
    config = typer.Typer(help="Settings and where they come from.", no_args_is_help=True)
    config.command("show")(_show)
    config.command("path")(_path)
    app.add_typer(config, name="config")


def _doctor(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Try no connection.")] = False,
) -> None:
    """Look for what would break later (exit 1 when something will)."""
    from conductor.service import doctor

    session = session_of(context)
    workspace = session.workspace
    url = workspace.settings.store_url
    missing = [(one.message, one.help) for one in workspace.project.missing_secrets()]
    found = [doctor.check_versions(), *doctor.check_database(url)]
    store = None if any(one.grade is doctor.Grade.BAD for one in found) else _reads(session)
    try:
        found.append(doctor.check_clock(store, now=workspace.clock.now()))
    finally:
        if store is not None:
            store.close()
    found += [doctor.check_disk(workspace.settings.state_dir), *doctor.check_secrets(missing), _definitions(session)]
    found.append(_service(session))
    if not offline:
        found += doctor.from_health(test_connections(session, []))
    _print_checks(session, found)


def _reads(session: Session) -> Store:
    from conductor.bootstrap import open_reads

    return open_reads(session.workspace)


def _definitions(session: Session) -> CheckView:
    from conductor.loader.diagnostics import Severity
    from conductor.service.doctor import CheckView, Grade

    project = session.workspace.project
    errors = sum(one.severity is Severity.ERROR for one in project.diagnostics)
    if errors:
        return CheckView(
            name="definitions", grade=Grade.BAD, message=f"{errors} errors in the files", help="conductor validate"
        )
    return CheckView(name="definitions", grade=Grade.OK, message=f"{len(project.plans)} pipelines are valid")


def _service(session: Session) -> CheckView:
    from conductor.service.doctor import CheckView, Grade

    if session.service is not None:
        status = session.service.status()
        return CheckView(
            name="service", grade=Grade.OK, message=f"{status.get('mode')} runs, process {status.get('pid')}"
        )
    if session.is_served:
        return CheckView(
            name="service",
            grade=Grade.WARNING,
            message="the database is in use, but no control channel is found",
            help="see which process holds the .lock file beside the database",
        )
    return CheckView(
        name="service",
        grade=Grade.WARNING,
        message="no service runs: schedules do not fire",
        help="conductor serve",
    )


def _print_checks(session: Session, found: list[CheckView]) -> None:
    from conductor.service.doctor import Grade
    from conductor.service.views import Listing

    if session.say.is_json:
        session.say.result(Listing(kind="checks", items=found))
    else:
        icons = {Grade.OK: "✓", Grade.WARNING: "!", Grade.BAD: "✕"}
        for one in found:
            help_text = f"  -> {one.help}" if one.help else ""
            session.say.line(f"{icons[one.grade]} {one.name}: {one.message}{help_text}")
    raise typer.Exit(Code.BAD if any(one.grade is Grade.BAD for one in found) else Code.GOOD)


def _upgrade(context: typer.Context) -> None:
    """Bring the database's schema up to this version; makes the database where there is none."""
    from conductor.bootstrap import open_store

    session = session_of(context)
    open_store(session.workspace, is_read_only=False).close()
    session.say.note("the database is up to date")


def _backup(
    context: typer.Context, target: Annotated[Path, typer.Argument(help="A file that does not exist yet.")]
) -> None:
    """Write a consistent copy of a SQLite database, also while a service runs."""
    from conductor.bootstrap import open_reads

    session = session_of(context)
    store = open_reads(session.workspace)
    try:
        store.backup(target)
    finally:
        store.close()
    session.say.note(f"wrote {target}")


def _check(context: typer.Context) -> None:
    """Check the database's schema, its settings and every page (exit 1 when something is wrong)."""
    from conductor.service import doctor

    session = session_of(context)
    url = session.workspace.settings.store_url
    _print_checks(session, [doctor.check_versions(), *doctor.check_database(url, is_deep=True)])


def _show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
) -> None:
    """Show the settings of this process."""
    from conductor.store.opening import parse_url

    session = session_of(context)
    settings = session.workspace.settings
    rows = []
    for name, setting in settings.by_name.items():
        value = setting.value
        if name == "store.url":
            value = parse_url(settings.store_url).render_as_string(hide_password=True)
        rows.append([name, value, setting.origin.value, setting.place])
    if session.say.is_json:
        items = [{"name": row[0], "value": row[1], "origin": row[2], "place": row[3]} for row in rows]
        print(json.dumps({"version": 1, "kind": "settings", "items": items}))
    elif origin:
        session.say.table(["SETTING", "VALUE", "ORIGIN", "PLACE"], rows)
    else:
        session.say.table(["SETTING", "VALUE"], [row[:2] for row in rows])


def _path(context: typer.Context) -> None:
    """Print where the project's files and its state lie."""
    session = session_of(context)
    settings = session.workspace.settings
    paths = {
        "project": str(settings.project),
        "conductor.yml": str(settings.project / "conductor.yml"),
        "connections.yml": str(settings.project / "connections.yml"),
        "state_dir": str(settings.state_dir),
    }
    if session.say.is_json:
        print(json.dumps({"version": 1, "kind": "paths", **paths}))
        return
    for name, path in paths.items():
        session.say.line(f"{name:<16} {path}")
