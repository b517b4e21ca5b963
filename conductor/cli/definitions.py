"""Commands on definitions: init, validate, graph, schema, explain. Nothing here needs a database."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conductor.cli.complete import pipelines
from conductor.cli.failures import Code
from conductor.cli.session import Session, session_of

if TYPE_CHECKING:
    from conductor.loader.diagnostics import Diagnostic

__all__ = ["add"]


class _Format(StrEnum):
    TEXT = "text"
    JSON = "json"


class _Template(StrEnum):
    HELLO = "hello"
    ELT = "elt"


class _Graph(StrEnum):
    ASCII = "ascii"
    MERMAID = "mermaid"
    DOT = "dot"


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(_init)
    app.command("validate")(_validate)
    app.command("graph")(_graph)
    app.command("schema")(_schema)
    app.command("explain")(_explain)


def _init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where; made if need be.")] = Path(),
    template: Annotated[_Template, typer.Option("--template", help="What it shows.")] = _Template.HELLO,
    demo: Annotated[bool, typer.Option("--demo", help="Say how to run the demo instead.")] = False,
) -> None:
    """Make a project that validates."""
    session = session_of(context)
    if demo:
        session.say.line(_DEMO.rstrip())
        return
    from conductor.loader.plugins import load_plugins
    from conductor.loader.schema import pipeline_schema
    from conductor.service import scaffold

    files = scaffold.files_of(scaffold.Template(template.value), name=scaffold.project_name(folder))
    written = scaffold.write_project(folder, files)
    schema = folder / ".conductor" / "pipeline.schema.json"
    schema.parent.mkdir(mode=0o700, exist_ok=True)
    schema.write_text(json.dumps(pipeline_schema(load_plugins().by_kind), indent=2) + "\n", encoding="utf-8")
    if session.say.is_json:
        print(json.dumps({"version": 1, "kind": "project", "files": [str(path) for path in written]}))
        return
    for path in written:
        session.say.line(f"made {path}")
    where = "" if folder == Path() else f"cd {folder} && "
    first = "hello" if template is _Template.HELLO else "orders_to_crm"
    session.say.line(f"next: {where}conductor validate && conductor run {first}")


_DEMO = """\
The demo runs a pipeline through vendors that are played on this machine; no account is needed.

From a checkout of Conductor's source, with everything in one command:
  make demo                          # Fivetran, dbt and Hightouch: load, build, push
  make serve                         # the same, with the service

From an installed Conductor:
  conductor init hello && cd hello   # a project that needs no vendor
  conductor run hello                # three steps, followed live
  conductor sandbox serve            # played vendors on free ports, for connections of your own
"""


def _validate(
    context: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Only what is wrong in these files or folders.")] = None,
    form: Annotated[_Format, typer.Option("--format", help="How to print.")] = _Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
) -> None:
    """Check the project and every pipeline; names all mistakes at once."""
    from conductor.loader.diagnostics import has_errors, render_json, render_text

    session = session_of(context)
    found = _diagnostics(session, paths or [])
    is_bad = has_errors(found) or (strict and bool(found))
    project = session.workspace.project
    if form is _Format.JSON or session.say.is_json:
        answer = {
            "version": 1,
            "kind": "diagnostics",
            "is_valid": not is_bad,
            "pipelines": sorted(project.plans),
            "items": render_json(found),
        }
        print(json.dumps(answer, ensure_ascii=False))
    else:
        print(render_text(found), end="")
        if not has_errors(found):
            count = len(project.plans)
            session.say.line(f"✓ {count} pipeline{'' if count == 1 else 's'} valid")
    raise typer.Exit(Code.BAD if is_bad else Code.GOOD)


def _diagnostics(session: Session, paths: list[Path]) -> list[Diagnostic]:
    """What is wrong, in the files asked for.

    Raises:
        NotFoundError: A path leads to no file of the project.
    """
    from conductor.core.errors import NotFoundError

    workspace = session.workspace
    project = workspace.project
    found = [*workspace.plugins.diagnostics, *project.diagnostics, *project.missing_secrets()]
    if not paths:
        return found
    known = {(project.root / name).resolve() for name in (*project.files.values(), "conductor.yml", "connections.yml")}
    known |= {(project.root / one.path).resolve() for one in found}
    wanted = [path.resolve() for path in paths]
    for path, given in zip(wanted, paths, strict=True):
        if not any(one == path or path in one.parents for one in known):
            raise NotFoundError(
                f"{given} cannot be checked: no file of the project in {project.root} lies there; "
                "see `pipelines` in conductor.yml"
            )
    return [
        one
        for one in found
        if any((place := (project.root / one.path).resolve()) == path or path in place.parents for path in wanted)
    ]


def _graph(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="Which.", autocompletion=pipelines)],
    form: Annotated[_Graph, typer.Option("--format", help="How to draw.")] = _Graph.ASCII,
) -> None:
    """Draw a pipeline."""
    from conductor.service.asks import plan_named
    from conductor.service.graph import GraphFormat, draw

    session = session_of(context)
    plan = plan_named(session.workspace.project.plans, pipeline)
    if session.say.is_json:
        edges = [[above, node.id] for node in plan.nodes.values() for above in node.depends_on]
        nodes = [{"id": node.id, "uses": node.uses} for node in plan.nodes.values()]
        print(json.dumps({"version": 1, "kind": "graph", "pipeline": plan.name, "nodes": nodes, "edges": edges}))
        return
    print(draw(plan, GraphFormat(form.value)), end="")


def _schema(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="Write it here instead of printing it.")] = None,
) -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    from conductor.loader.plugins import load_plugins
    from conductor.loader.schema import pipeline_schema

    text = json.dumps(pipeline_schema(load_plugins().by_kind), indent=2) + "\n"
    if out is None:
        print(text, end="")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    session_of(context).say.note(f"wrote {out}")


def _explain(context: typer.Context, code: Annotated[str, typer.Argument(help="Such as CND020.")]) -> None:
    """Explain a diagnostic code."""
    import textwrap

    from conductor.core.errors import NotFoundError
    from conductor.loader.codes import CODES

    known = CODES.get(code.upper())
    if known is None:
        raise NotFoundError(f"there is no code {code!r}: `conductor validate` prints the codes that it finds")
    say = session_of(context).say
    if say.is_json:
        answer = {
            "version": 1,
            "kind": "code",
            "code": code.upper(),
            "title": known.title,
            "severity": known.severity,
            "explanation": known.explanation,
        }
        print(json.dumps(answer, ensure_ascii=False))
        return
    say.line(f"{code.upper()}: {known.title} ({known.severity})")
    say.line()
    say.line(textwrap.fill(known.explanation, 100))
