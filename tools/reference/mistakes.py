"""One example for each diagnostic code: a small project that earns it. The page prints what the loader really says."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType

from conductor.loader.diagnostics import Diagnostic
from conductor.loader.plugins import GROUP, load_plugins
from conductor.loader.project import load_project
from conductor.sdk.plugin import Plugin

__all__ = ["MISTAKES", "diagnose"]

_PIPELINE = "pipelines/orders.yml"
_HEAD = "version: 1\nname: orders\n"
_PROJECT = "version: 1\nname: shop\n"
_CONNECTIONS = """\
fivetran_prod:
  type: fivetran
  api_key: ${{ secret('FIVETRAN_API_KEY') }}
  api_secret: ${{ secret('FIVETRAN_API_SECRET') }}
"""
_LOAD = "  load: {uses: fivetran.sync, with: {connection_id: orders}}\n"
_SAY = "{uses: command.run, with: {argv: [echo, hello]}"


def _pipeline(nodes: str, head: str = "") -> Mapping[str, str]:
    return {_PIPELINE: f"{_HEAD}{head}nodes:\n{nodes}"}


def _after(rest: str) -> Mapping[str, str]:
    return _pipeline(f"{_LOAD}  say: {_SAY}, {rest}}}\n")


def _written(value: str) -> Mapping[str, str]:
    return _pipeline(
        f"{_LOAD}  say:\n    uses: command.run\n    depends_on: [load]\n    with: {{argv: [echo, {value}]}}\n"
    )


_HTTP = """\
  post:
    uses: http.job
    connection: jobs
    with: {start: {path: /jobs, is_final: true}}
"""
_JOBS = "jobs: {type: http, base_url: 'https://jobs.example.com'}\n"

MISTAKES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "CND001": {_PIPELINE: f"{_HEAD}nodes:\n  say: {{uses: command.run\n"},
        "CND002": _after("needs: [load]"),
        "CND003": _pipeline("  load: {uses: fivetran.sync}\n"),
        "CND004": _after("priority: high"),
        "CND005": _pipeline(f"  say: {_SAY}}}\n  say: {_SAY}}}\n"),
        "CND006": _pipeline(f"  say: &say {_SAY}}}\n  again: *say\n"),
        "CND007": {_PIPELINE: f"version: {'[' * 65}{']' * 65}\n"},
        "CND008": _after("for_each: [1, 2]"),
        "CND009": {_PIPELINE: f"{_HEAD}nodes:\n{_LOAD}", "pipelines/sales.yml": f"{_HEAD}nodes:\n{_LOAD}"},
        "CND010": _pipeline(f"  Say Hello: {_SAY}}}\n"),
        "CND011": _after("timeout: 45"),
        "CND012": _pipeline(_LOAD, 'schedule: "0 0 31 2 *"\n'),
        "CND013": _pipeline(_LOAD, "timezone: Europe/Pariss\n"),
        "CND014": _pipeline(_LOAD, "params: {rows: {type: integer, default: many}}\n"),
        "CND020": _after("depends_on: [laod]"),
        "CND021": _pipeline(f"  one: {_SAY}, depends_on: [two]}}\n  two: {_SAY}, depends_on: [one]}}\n"),
        "CND022": _pipeline(f"  say: {_SAY}, depends_on: [say]}}\n"),
        "CND023": _after("depends_on: [load, load]"),
        "CND024": _after("trigger_rule: one_failed"),
        "CND025": _after("if: false"),
        "CND030": _pipeline("  load: {uses: fivetrann.sync}\n"),
        "CND031": _pipeline("  load: {uses: fivetran.snyc}\n"),
        "CND032": {_PIPELINE: f"{_HEAD}nodes:\n{_LOAD}", "connections.yml": ""},
        "CND033": _pipeline("  load: {uses: fivetran.sync, connection: prod, with: {connection_id: orders}}\n"),
        "CND034": _pipeline(f"  say: {_SAY}, connection: fivetran_prod}}\n"),
        "CND036": _after("pools: [warehouse]"),
        "CND037": {_PIPELINE: f"{_HEAD}nodes:\n{_HTTP}", "connections.yml": _JOBS},
        "CND038": _pipeline(
            "  load: {uses: fivetran.sync, with: {connection_id: orders}, delivery: effectively_once}\n"
        ),
        "CND040": _written("AKIAABCDEFGHIJKLMNOP"),
        "CND041": {"connections.yml": "fivetran_prod: {type: fivetran, api_key: abc, api_secret: def}\n"},
        "CND042": {"connections.yml": _CONNECTIONS},
        "CND043": _written("\"${{ secret('TOKEN') }}\""),
        "CND050": _written('"${{ 1 + }}"'),
        "CND051": _written('"${{ run.dat }}"'),
        "CND052": _pipeline(
            f"{_LOAD}  say:\n    uses: command.run\n"
            '    with: {argv: [echo, "${{ nodes.load.status }}"]}\n'
        ),
        "CND053": _written('"${{ run.attempt + run.id }}"'),
        "CND054": _written('"${{ [1].map(x, [1].map(y, x)) }}"'),
        "CND055": _after('depends_on: [load], if: "${{ run.attempt }}"'),
        "CND060": {"conductor.yml": ""},
        "CND061": {_PIPELINE: ""},
    }
)  # fmt: skip
"""Code → the files of a project. `conductor.yml` and `connections.yml` are right where a project does not give them;
an empty text stands for no file. CND039 is about an installed package and has no project."""


def diagnose(code: str, plugins: Mapping[str, Plugin]) -> tuple[Mapping[str, str], Diagnostic]:
    """The example's files and the first diagnostic with this code.

    Raises:
        ValueError: There is no example, or it does not earn its code.
    """
    if code == "CND039":
        broken = load_plugins([EntryPoint("acme", "conductor_acme:plugin", GROUP)])
        return {}, broken.diagnostics[0]
    if code not in MISTAKES:
        raise ValueError(f"{code} has no example: add one to {__name__}.MISTAKES")
    given = MISTAKES[code]
    files = {"conductor.yml": _PROJECT, "connections.yml": _CONNECTIONS} | dict(given)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text:
                path.write_text(text, encoding="utf-8")
        project = load_project(Path(folder), plugins=plugins, environment={})
        found = [one for one in (*project.diagnostics, *project.missing_secrets()) if one.code == code]
    if not found:
        raise ValueError(f"the example of {code} does not earn it, but: {[str(one) for one in project.diagnostics]}")
    return {name: text for name, text in given.items() if text}, found[0]
