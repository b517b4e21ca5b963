"""A small made-up vendor, a tool that promises nothing, and one that needs no connection: enough to load pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from pydantic import BaseModel, Field, SecretStr

from conductor.core.plan import Plan
from conductor.core.vendor import Capabilities, Correlation, Delivery, Json
from conductor.loader.compile import compile_pipeline
from conductor.loader.diagnostics import Diagnostic, Report
from conductor.loader.scope import Operations, ProjectFacts
from conductor.loader.yamlread import read_yaml
from conductor.sdk.plugin import Context, NoConnection, Operation, Plugin, Settings


class Account(Settings):
    api_key: SecretStr
    base_url: str = "https://vendor.example"
    hosts: dict[str, SecretStr] = Field(default_factory=dict)


class SyncSettings(Settings):
    target: str = Field(min_length=1, description="What to sync.")
    rows: int = 0
    full: bool = False
    labels: list[str] = Field(default_factory=list)
    schema_name: str = Field(default="public", alias="schema")


class SyncOutputs(Settings):
    rows: int
    ratio: float
    table: str | None = None
    is_fresh: bool = False
    facts: dict[str, object] = Field(default_factory=dict)


class Nothing(Settings):
    pass


def _capabilities(correlation: Correlation, *, sends_nothing: bool = False) -> Capabilities:
    return Capabilities(
        correlation=correlation, delivery=Delivery.PREFER_LOOKUP, sends_nothing=sends_nothing, settle_window_s=77.0
    )


def _build(context: Context, connection: BaseModel) -> NoReturn:
    raise AssertionError("loading must not build an integration")


def _operation(name: str, capabilities: Capabilities) -> Operation:
    return Operation(
        name=name,
        summary=f"{name} something",
        settings=SyncSettings,
        outputs=SyncOutputs,
        capabilities=lambda _settings: capabilities,
        guarantee="none: it is made up",
        scope=lambda settings: str(settings["target"]),
    )


VENDOR = Plugin(
    kind="vendor",
    title="Vendor",
    summary="A vendor that does not exist.",
    connection=Account,
    operations={
        "sync": _operation("sync", _capabilities(Correlation.TAG)),
        "fire": _operation("fire", _capabilities(Correlation.NONE)),
        "keyed": _operation("keyed", _capabilities(Correlation.KEY)),
    },
    build=_build,
)
LOCAL = Plugin(
    kind="local",
    title="Local",
    summary="Needs no credentials.",
    connection=NoConnection,
    operations={"wait": _operation("wait", _capabilities(Correlation.NONE, sends_nothing=True))},
    build=_build,
)
PLUGINS: Mapping[str, Plugin] = {"vendor": VENDOR, "local": LOCAL}
FACTS = ProjectFacts(connections={"main": "vendor"}, pools=frozenset({"heavy"}))


def load(text: str, facts: ProjectFacts = FACTS) -> tuple[Plan | None, tuple[Diagnostic, ...]]:
    """What one pipeline file gives."""
    file = read_yaml(text.encode(), path="p.yml")
    if file.diagnostics:
        return None, file.diagnostics
    report = Report(file.source)
    plan = compile_pipeline(file.value, report=report, operations=Operations(PLUGINS), facts=facts)
    return plan, report.diagnostics()


def pipeline(nodes: str, head: str = "") -> str:
    """A pipeline file with these nodes, each line of which is indented by two already."""
    return f"version: 1\nname: p\n{head}nodes:\n{nodes}"


def good(nodes: str, head: str = "") -> Plan:
    """The plan of nodes without errors."""
    plan, diagnostics = load(pipeline(nodes, head))
    assert plan is not None, diagnostics
    return plan


def context(**changes: Json) -> dict[str, Json]:
    """What expressions see in a run."""
    return {
        "params": {},
        "run": {"id": "r1", "date": "2026-01-05", "attempt": 1, "is_backfill": False},
        "nodes": {},
        "pipeline": {"name": "p", "version": "v", "owner": ""},
        "env": "test",
    } | changes
