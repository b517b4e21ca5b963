"""Loads a project: `conductor.yml`, `connections.yml` and pipelines, every mistake at once. No network, no secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from conductor.core.errors import NotFoundError
from conductor.core.plan import Plan
from conductor.core.vendor import Json
from conductor.loader.compile import compile_pipeline
from conductor.loader.connections import Connection, read_connections
from conductor.loader.diagnostics import Diagnostic, Report, Severity, has_errors, raise_errors
from conductor.loader.literals import check_secrets
from conductor.loader.partly import read_partly
from conductor.loader.projectfile import ProjectFile
from conductor.loader.scope import Operations, ProjectFacts
from conductor.loader.secrets import (
    DirectorySecrets,
    EnvironmentSecrets,
    SecretSource,
    SecretSources,
    system_environment,
)
from conductor.loader.source import Source
from conductor.loader.written import Written, check_references, written_at
from conductor.loader.yamlread import MAX_BYTES, YamlFile, read_yaml
from conductor.sdk.plugin import Plugin

__all__ = ["CONNECTIONS_FILE", "PROJECT_FILE", "Project", "ResolvedConnection", "load_project", "with_defaults"]

PROJECT_FILE = "conductor.yml"
CONNECTIONS_FILE = "connections.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConnection:
    """A connection with its secrets. Not to be kept or shown.

    Attributes:
        settings: The plugin's model.
        secrets: The secrets' values, for the redactor.
    """

    settings: BaseModel
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A loaded project, as far as it is right; `diagnostics` says how far that is.

    Attributes:
        root: The folder of `conductor.yml`.
        settings: Of `conductor.yml`, with variables filled in; places that hold a secret hold a sample.
        plans: The pipelines without errors, by name.
        files: Pipeline name → its file, relative to the root.
        connections: By name, without secrets.
        plugins: The integrations it was loaded with, by kind.
        diagnostics: All mistakes and warnings, by file and position.
        secrets: Where secrets come from.
        environment: Where variables come from.
        written: `conductor.yml` as it stands, with references.
    """

    root: Path
    settings: ProjectFile
    plans: Mapping[str, Plan]
    connections: Mapping[str, Connection]
    plugins: Mapping[str, Plugin]
    diagnostics: tuple[Diagnostic, ...]
    secrets: SecretSource = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    files: Mapping[str, str] = field(default_factory=dict)
    written: Written = field(default_factory=Written, repr=False)

    @property
    def is_ok(self) -> bool:
        """No errors; there may be warnings."""
        return not has_errors(self.diagnostics)

    @property
    def pools(self) -> Mapping[str, int]:
        """Named pools and their slots."""
        return self.settings.pools

    @property
    def facts(self) -> ProjectFacts:
        """What pipelines may refer to; `compile_definition` takes it."""
        return _facts(self.settings, self.connections)

    def require_ok(self) -> None:
        """Refuse a project with errors.

        Raises:
            DefinitionError: Carries all diagnostics.
        """
        raise_errors(f"project `{self.settings.name}`", self.diagnostics)

    def resolve_connection(self, name: str) -> BaseModel:
        """The connection's settings with its secrets, read now. `resolve` also gives the values to redact.

        Raises:
            NotFoundError: No connection has this name.
            DefinitionError: A secret is not set, or the result does not fit.
        """
        return self.resolve(name).settings

    def resolve(self, name: str) -> ResolvedConnection:
        """As `resolve_connection`, with the values that must never be shown. The name may be an integration's kind.

        Raises:
            NotFoundError: No connection has this name.
            DefinitionError: A secret is not set, or the result does not fit.
        """
        connection = self.connections.get(name)
        if connection is None and name in self.plugins:
            connection = Connection(name=name, type=name)
        if connection is None:
            raise NotFoundError(f"connection `{name}` cannot be used: there is none; add it to {CONNECTIONS_FILE}")
        settings, values = connection.written.resolve(
            self.plugins[connection.type].connection,
            what=f"connection `{name}`",
            secrets=self.secrets,
            environment=self.environment,
        )
        return ResolvedConnection(settings=settings, secrets=values)

    def resolve_settings(self) -> ProjectFile:
        """`settings` with secrets, read now.

        Raises:
            DefinitionError: A secret is not set, or the result does not fit.
        """
        return self.written.resolve(ProjectFile, what=PROJECT_FILE, secrets=self.secrets, environment=self.environment)[
            0
        ]

    def missing_secrets(self, *, severity: Severity = Severity.WARNING) -> tuple[Diagnostic, ...]:
        """Every secret and variable that is referred to and not set. Reads whether there is a value, keeps none.

        Args:
            severity: `validate` warns; `serve` and `run` take errors.
        """
        found: list[Diagnostic] = []
        for written in (self.written, *(connection.written for connection in self.connections.values())):
            found += written.missing(secrets=self.secrets, environment=self.environment, severity=severity)
        return tuple(found)


def load_project(
    root: Path,
    *,
    plugins: Mapping[str, Plugin],
    secrets: SecretSource | None = None,
    environment: Mapping[str, str] | None = None,
) -> Project:
    """Load everything under `root`, and name every mistake. Never raises for the content of files.

    Args:
        root: The folder of `conductor.yml`.
        plugins: The installed integrations by kind.
        secrets: Where secrets come from; the environment and the project's secrets folder by default.
        environment: Where variables come from; this process's by default.
    """
    root = root.resolve()
    environment = system_environment() if environment is None else environment
    diagnostics: list[Diagnostic] = []
    settings, written, raw_defaults = _read_settings(root, environment, diagnostics)
    connections = _read_all_connections(root, settings, plugins, environment, diagnostics)
    is_complete = not any(diagnostic.code in _UNREAD for diagnostic in diagnostics)
    facts = _facts(settings, connections, is_complete=is_complete)
    loader = _Pipelines(root, Operations(plugins), facts, raw_defaults, diagnostics)
    loader.load(settings.pipelines)
    if secrets is None:
        folder = DirectorySecrets(root / settings.secrets.directory)
        secrets = SecretSources([EnvironmentSecrets(environment), folder])
    return Project(
        root=root,
        settings=settings,
        plans=loader.plans,
        connections=connections,
        plugins=plugins,
        diagnostics=tuple(sorted(diagnostics, key=lambda one: (one.path, one.line, one.column, one.code))),
        secrets=secrets,
        environment=environment,
        files=loader.files,
        written=written,
    )


def with_defaults(definition: Json, defaults: Json) -> Json:
    """A pipeline's definition with the project's `defaults` below its own, so that a stored version says all.

    Objects are merged field by field; a node's own fields still win over both.
    """
    if not isinstance(definition, Mapping) or not isinstance(defaults, Mapping) or not defaults:
        return definition
    own = definition.get("defaults", {})
    if not isinstance(own, Mapping):
        return definition
    merged = {**defaults, **own}
    for name, short in _SHORT.items():
        if name in defaults and name in own:
            below, above = (_long(value, short) for value in (defaults[name], own[name]))
            merged[name] = {**below, **above} if below is not None and above is not None else own[name]
    return {**definition, "defaults": merged}


_UNREAD = frozenset({"CND001", "CND005", "CND006", "CND007", "CND060"})
_SHORT = {"retries": "attempts", "timeout": "total"}


def _long(value: Json, short: str) -> Mapping[str, Json] | None:
    if isinstance(value, Mapping):
        return value
    return {short: value} if isinstance(value, int | str) else None


def _facts(settings: ProjectFile, connections: Mapping[str, Connection], *, is_complete: bool = True) -> ProjectFacts:
    return ProjectFacts(
        connections={name: connection.type for name, connection in connections.items()},
        pools=frozenset(settings.pools),
        default_connections=settings.connections.default,
        is_complete=is_complete,
        environment=settings.environment,
    )


def _read(root: Path, name: str) -> YamlFile:
    try:
        with (root / name).open("rb") as file:
            return read_yaml(file.read(MAX_BYTES + 1), path=name)
    except OSError as error:
        report = Report(Source(name))
        report.add("CND001", f"the file cannot be read: {error.strerror or error}")
        return YamlFile(value=None, source=report.source, diagnostics=report.diagnostics())


def _read_settings(
    root: Path, environment: Mapping[str, str], diagnostics: list[Diagnostic]
) -> tuple[ProjectFile, Written, Json]:
    fallback = ProjectFile.model_validate({"version": 1, "name": "unnamed"})
    if not (root / PROJECT_FILE).is_file():
        report = Report(Source(PROJECT_FILE))
        report.add("CND060", f"there is no {PROJECT_FILE} in this folder", help_text="`conductor init` makes one")
        diagnostics += report.diagnostics()
        return fallback, Written(path=PROJECT_FILE), {}
    file = _read(root, PROJECT_FILE)
    diagnostics += file.diagnostics
    if has_errors(file.diagnostics):
        return fallback, Written(path=PROJECT_FILE), {}
    report = Report(file.source)
    check_references(report, file.value)
    check_secrets(report, file.value, code="CND041")
    data = file.value if isinstance(file.value, Mapping) else {}
    written = written_at(file.source, data)
    filled, unknown = written.samples(environment)
    stand_ins: dict[str, Json] = {"version": 1, "name": "unnamed"}
    seen = read_partly(ProjectFile, filled if data else file.value, report=report, stand_ins=stand_ins, ignore=unknown)
    diagnostics += report.diagnostics()
    return seen or fallback, written, data.get("defaults", {}) if seen and "defaults" in seen.model_fields_set else {}


def _read_all_connections(
    root: Path,
    settings: ProjectFile,
    plugins: Mapping[str, Plugin],
    environment: Mapping[str, str],
    diagnostics: list[Diagnostic],
) -> dict[str, Connection]:
    connections: dict[str, Connection] = {}
    if (root / CONNECTIONS_FILE).is_file():
        file = _read(root, CONNECTIONS_FILE)
        diagnostics += file.diagnostics
        report = Report(file.source)
        connections = read_connections(
            file.value, report=report, plugins=plugins, defaults=settings.connections, environment=environment
        )
        diagnostics += report.diagnostics()
    if (root / PROJECT_FILE).is_file():
        diagnostics += _check_default_connections(root, settings, connections)
    return connections


def _check_default_connections(
    root: Path, settings: ProjectFile, connections: Mapping[str, Connection]
) -> tuple[Diagnostic, ...]:
    report = Report(_read(root, PROJECT_FILE).source)
    for type_, name in settings.connections.default.items():
        where = ("connections", "default", type_)
        if name not in connections:
            report.add("CND033", f"no connection `{name}`", where, help_text=report.suggest(name, connections))
        elif connections[name].type != type_:
            report.add("CND034", f"connection `{name}` is of type `{connections[name].type}`, not `{type_}`", where)
    return report.diagnostics()


class _Pipelines:
    """Loads the pipeline files of one project."""

    def __init__(
        self,
        root: Path,
        operations: Operations,
        facts: ProjectFacts,
        defaults: Json,
        diagnostics: list[Diagnostic],
    ) -> None:
        self.plans: dict[str, Plan] = {}
        self.files: dict[str, str] = {}
        self._root = root
        self._operations = operations
        self._facts = facts
        self._defaults = defaults
        self._diagnostics = diagnostics
        self._named: dict[str, str] = {}

    def load(self, patterns: Sequence[str]) -> None:
        names = sorted(set(self._find(patterns)))
        if not names and not has_errors(self._diagnostics):
            self._complain(f"no file matches {', '.join(f'`{pattern}`' for pattern in patterns)}")
        for name in names:
            self._load_one(name)

    def _find(self, patterns: Sequence[str]) -> Iterator[str]:
        for pattern in patterns:
            if Path(pattern).is_absolute() or ".." in Path(pattern).parts or not pattern.strip():
                self._complain(f"pattern `{pattern[:80]}` leaves the project", severity=Severity.ERROR)
                continue
            try:
                matches = list(self._root.glob(pattern))
            except (ValueError, NotImplementedError, OSError) as error:
                self._complain(f"pattern `{pattern[:80]}` cannot be used: {error}", severity=Severity.ERROR)
                continue
            for path in matches:
                if path.is_file() and path.resolve().is_relative_to(self._root):
                    name = path.relative_to(self._root).as_posix()
                    if name not in {PROJECT_FILE, CONNECTIONS_FILE}:
                        yield name

    def _complain(self, message: str, severity: Severity | None = None) -> None:
        report = Report(_read(self._root, PROJECT_FILE).source)
        report.add(
            "CND061", message, ("pipelines",), severity=severity, help_text="correct `pipelines` in conductor.yml"
        )
        self._diagnostics += report.diagnostics()

    def _load_one(self, name: str) -> None:
        file = _read(self._root, name)
        self._diagnostics += file.diagnostics
        if has_errors(file.diagnostics):
            return
        report = Report(file.source)
        definition = with_defaults(file.value, self._defaults)
        plan = compile_pipeline(definition, report=report, operations=self._operations, facts=self._facts)
        pipeline = definition.get("name") if isinstance(definition, Mapping) else None
        if isinstance(pipeline, str):
            other = self._named.setdefault(pipeline, name)
            if other != name:
                message = f"pipeline `{pipeline}` is also defined in {other}"
                report.add("CND009", message, ("name",), help_text="rename one of them")
                plan = None
        self._diagnostics += report.diagnostics()
        if plan is not None:
            self.plans[plan.name] = plan
            self.files[plan.name] = name
