"""The only place that builds things and passes them in: project, store, redactor, connections, engine, faces.

Decides nothing about runs. Everything here is built per call; there is no global to reach for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from conductor.config import Settings, read_settings
from conductor.core.admit import Limits
from conductor.core.errors import ConductorError, DefinitionError
from conductor.core.plan import Plan
from conductor.core.vendor import Json
from conductor.engine.capacity import Capacity
from conductor.engine.clock import SystemClock
from conductor.engine.connections import Connections
from conductor.engine.engine import Engine
from conductor.engine.perform import Performer
from conductor.engine.pipelines import Pipelines
from conductor.loader.compile import compile_definition
from conductor.loader.diagnostics import Diagnostic, Severity, raise_errors
from conductor.loader.plugins import Plugins, load_plugins
from conductor.loader.project import Project, load_project
from conductor.sdk.clock import Clock
from conductor.sdk.plugin import Context, Integration
from conductor.sdk.redact import Redactor
from conductor.service.actions import EngineActions, StoreActions
from conductor.service.plans import Plans
from conductor.service.reading import Reader
from conductor.service.tools import connections_used
from conductor.store import Store
from conductor.store.opening import FileLock, parse_url, sqlite_path
from conductor.store.store import PipelineRow

__all__ = [
    "Current",
    "Running",
    "Workspace",
    "build_engine",
    "build_plans",
    "build_reader",
    "build_running",
    "build_store_actions",
    "configure_logging",
    "is_local",
    "is_written",
    "missing_secrets",
    "new_connections",
    "nonce",
    "open_project",
    "open_reads",
    "open_store",
    "reload_project",
    "require_secrets",
]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A loaded project with everything that does not need the database.

    Attributes:
        project: The definitions.
        plugins: What is installed.
        settings: Of this process.
        redact: Knows every secret that was resolved.
        clock: The time.
    """

    project: Project
    plugins: Plugins
    settings: Settings
    redact: Redactor
    clock: Clock


class Current:
    """The project as it was last loaded, for what outlives a reload: connections, limits, compiling old versions."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.connections: dict[str, int] = {}
        self.pools: dict[str, int] = {}
        self.use(project)

    def use(self, project: Project) -> None:
        """From now on. Connections that are in use keep the settings that they were built with."""
        limits = _limits(project)
        self.project = project
        for held, fresh in ((self.connections, limits.connections), (self.pools, limits.pools)):
            held.clear()
            held.update(fresh)


@dataclass(frozen=True, kw_only=True)
class Running:
    """An engine with what its faces need. Close it with `close`.

    Attributes:
        workspace: The process's settings, and the project as it was at the start.
        current: The project as it is now.
        engine: Started by its user.
        store: The engine's own; nobody else may use it.
        reads: For questions, on its own connection.
        plans: Current and old definitions; `use` new ones after a reload.
        actions: What people may ask.
        reader: What people may see.
        executor: The store's one writing thread.
    """

    workspace: Workspace
    current: Current
    engine: Engine
    store: Store
    reads: Store
    plans: Plans
    actions: EngineActions
    reader: Reader
    executor: Executor

    async def reload(self) -> tuple[str, ...]:
        """Load the definitions anew, for runs to come; returns the pipelines' names. Runs keep their version.

        Raises:
            DefinitionError: There are errors now; everything stays as it was.
        """
        fresh = await asyncio.to_thread(reload_project, self.workspace)
        self.current.use(fresh)
        self.plans.use(fresh.plans)
        await self.engine.replace_plans(fresh.plans)
        return tuple(sorted(fresh.plans))

    def close(self) -> None:
        """Let go of the database."""
        self.executor.shutdown(wait=True)
        self.reads.close()
        self.store.close()


def nonce() -> str:
    """A text that sets a run by hand apart from every other."""
    return secrets.token_hex(16)


# --- the project ----------------------------------------------------------------------------------------------------


def open_project(
    *, flags: Mapping[str, str], variables: Mapping[str, str], cwd: Path, clock: Clock | None = None
) -> Workspace:
    """Load the project that the settings name. Never raises for the content of its files: see `project.diagnostics`.

    Args:
        flags: Setting → value from the command line.
        variables: The environment.
        cwd: Where to look for the project.
        clock: The system's by default.

    Raises:
        DefinitionError: A setting is not accepted.
    """
    first = read_settings(flags=flags, variables=variables, file={}, cwd=cwd)
    plugins = load_plugins()
    project = load_project(first.project, plugins=plugins.by_kind, environment=variables)
    redact = Redactor()
    settings = read_settings(flags=flags, variables=variables, file=_file_settings(project, redact), cwd=cwd)
    return Workspace(project=project, plugins=plugins, settings=settings, redact=redact, clock=clock or SystemClock())


def reload_project(workspace: Workspace) -> Project:
    """The same project, read anew.

    Raises:
        DefinitionError: It has errors now.
    """
    project = load_project(
        workspace.project.root, plugins=workspace.plugins.by_kind, environment=workspace.project.environment
    )
    project.require_ok()
    return project


def _file_settings(project: Project, redact: Redactor) -> dict[str, str]:
    """What `conductor.yml` itself sets, by the names of `config.SETTINGS`."""
    file = project.settings
    if "store" in file.model_fields_set:
        try:
            file = project.resolve_settings()
        except DefinitionError:
            file = project.settings
    found: dict[str, str] = {}
    if "state_dir" in file.model_fields_set:
        found["state_dir"] = file.state_dir
    if file.store.url:
        found["store.url"] = file.store.url
        password = parse_url(file.store.url).password if "://" in file.store.url else None
        redact.add(str(password or ""))
    return found


def missing_secrets(workspace: Workspace) -> tuple[Diagnostic, ...]:
    """Secrets and variables that nothing has a value for."""
    return workspace.project.missing_secrets()


def require_secrets(workspace: Workspace, plans: Mapping[str, Plan]) -> None:
    """Refuse to begin while a connection that these pipelines use lacks a secret.

    Raises:
        DefinitionError: Names every one of them.
    """
    project = workspace.project
    used = [project.connections[name] for name in connections_used(plans.values()) if name in project.connections]
    missing = [
        one
        for connection in used
        for one in connection.written.missing(
            secrets=project.secrets, environment=project.environment, severity=Severity.ERROR
        )
    ]
    raise_errors(f"project `{project.settings.name}`", missing)


# --- the store ------------------------------------------------------------------------------------------------------


def open_store(workspace: Workspace, *, is_read_only: bool) -> Store:
    """The project's database.

    Raises:
        StoreError: As `Store.open`.
        ConflictError: Another process writes it.
    """
    return Store.open(workspace.settings.store_url, is_read_only=is_read_only)


def open_reads(workspace: Workspace) -> Store:
    """The project's database for questions; an empty one is made where there is no SQLite file yet.

    Raises:
        StoreError: As `Store.open`.
    """
    parsed = parse_url(workspace.settings.store_url)
    if parsed.get_backend_name() == "sqlite" and not sqlite_path(parsed).exists():
        open_store(workspace, is_read_only=False).close()
    return open_store(workspace, is_read_only=True)


def is_local(workspace: Workspace) -> bool:
    """The database is a file on this machine, whose writer lock tells whether somebody else writes it."""
    return parse_url(workspace.settings.store_url).get_backend_name() == "sqlite"


def is_written(workspace: Workspace) -> bool:
    """Some process writes the project's SQLite database: a service, or a run in the foreground."""
    parsed = parse_url(workspace.settings.store_url)
    return parsed.get_backend_name() == "sqlite" and FileLock.is_held(sqlite_path(parsed))


def build_plans(workspace: Workspace, store: Store, current: Current | None = None) -> Plans:
    """The project's pipelines, and old versions from the store."""
    current = current or Current(workspace.project)

    def compile_plan(definition: Mapping[str, Json]) -> Plan:
        return compile_definition(definition, plugins=current.project.plugins, project=current.project.facts)

    return Plans(current=current.project.plans, stored=store.definition, compile_plan=compile_plan)


def build_reader(workspace: Workspace, store: Store) -> Reader:
    """Answers questions from a store that is open for reading."""
    return Reader(
        store=store,
        plans=build_plans(workspace, store),
        limits=_limits(workspace.project),
        files=workspace.project.files,
    )


def build_store_actions(workspace: Workspace, store: Store) -> StoreActions:
    """Changes runs straight on a store that is open for writing, while nothing runs."""
    return StoreActions(store=store, plans=build_plans(workspace, store), clock=workspace.clock, nonce=nonce)


def _limits(project: Project) -> Limits:
    return Limits(
        connections={
            name: connection.max_parallel
            for name, connection in project.connections.items()
            if connection.max_parallel is not None
        },
        pools=project.pools,
    )


# --- the engine -----------------------------------------------------------------------------------------------------


def new_connections(workspace: Workspace, current: Current | None = None) -> Connections:
    """The project's connections, each built when it is first used. Every secret is masked from then on."""
    current = current or Current(workspace.project)
    redact = workspace.redact

    def build(name: str, context: Context) -> Integration:
        project = current.project
        resolved = project.resolve(name)
        for value in resolved.secrets:
            redact.add(value)
        kind = project.connections[name].type if name in project.connections else name
        return project.plugins[kind].build(context, resolved.settings)

    _mask_all(current.project, redact)
    return Connections(
        build=build,
        clock=workspace.clock,
        redact=redact,
        state_dir=workspace.settings.state_dir,
        project_dir=workspace.project.root,
    )


def _mask_all(project: Project, redact: Redactor) -> None:
    """Secrets of connections that are not in use yet may stand in other connections' texts."""
    for name in project.connections:
        try:
            values = project.resolve(name).secrets
        except ConductorError:
            continue
        for value in values:
            redact.add(value)


def build_engine(
    workspace: Workspace,
    store: Store,
    *,
    plans: Plans,
    has_schedules: bool,
    executor: Executor | None = None,
    current: Current | None = None,
) -> Engine:
    """An engine on a store that is open for writing. Registers the project's pipelines.

    A pipeline whose schedule differs from the one that the database knew begins it anew from now.
    """
    current = current or Current(workspace.project)
    project = current.project
    before = store.pipelines()
    rows = store.register(project.plans.values(), now=workspace.clock.now())
    connections = new_connections(workspace, current)
    return Engine(
        store=store,
        clock=workspace.clock,
        connections=connections,
        performer=Performer(connections, workspace.redact),
        pipelines=Pipelines(
            plans=project.plans,
            rows=rows,
            load_version=plans.load,
            install=store.install,
            rescheduled=_rescheduled(project.plans, before, plans),
            has_schedules=has_schedules,
        ),
        capacity=Capacity(connections=current.connections, pools=current.pools),
        executor=executor,
    )


def _rescheduled(current: Mapping[str, Plan], before: Mapping[str, PipelineRow], plans: Plans) -> Iterator[str]:
    for name, plan in current.items():
        row = before.get(name)
        if row is None or row.version == plan.version:
            continue
        old = plans.find(name, row.version)
        # A version that no longer loads tells nothing of its schedule; beginning anew never fires a slot too many.
        if old is None or old.schedule != plan.schedule:
            yield name


def build_running(workspace: Workspace, *, has_schedules: bool) -> Running:
    """An engine with its store, its writing thread and its faces; nothing is started yet.

    Raises:
        ConflictError: Another process writes this database.
        StoreError: The database cannot be used.
    """
    current = Current(workspace.project)
    store = open_store(workspace, is_read_only=False)
    executor = ThreadPoolExecutor(1, thread_name_prefix="conductor-store")
    try:
        plans = build_plans(workspace, store, current)
        engine = build_engine(
            workspace, store, plans=plans, has_schedules=has_schedules, executor=executor, current=current
        )
        reads = open_store(workspace, is_read_only=True)
    except BaseException:
        executor.shutdown(wait=True)
        store.close()
        raise
    seen = build_plans(workspace, reads, current)
    return Running(
        workspace=workspace,
        current=current,
        engine=engine,
        store=store,
        reads=reads,
        plans=seen,
        actions=EngineActions(engine=engine, plans=seen, reads=reads, nonce=nonce),
        reader=Reader(
            store=reads,
            plans=seen,
            limits=Limits(connections=current.connections, pools=current.pools),
            files=workspace.project.files,
        ),
        executor=executor,
    )


# --- logging --------------------------------------------------------------------------------------------------------


@contextmanager
def configure_logging(
    *, level: str, form: str, stream: TextIO | None = None, redact: Redactor | None = None
) -> Iterator[None]:
    """Log lines to `stream` while the block runs: for people on a terminal, JSON elsewhere. Secrets are masked.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `auto`, `console` or `json`.
        stream: Standard output by default.
        redact: Masks every text.
    """
    import structlog

    stream = stream if stream is not None else sys.stdout
    is_console = form == "console" or (form == "auto" and stream.isatty())

    def masked(_logger: Any, _name: str, event: Any) -> Any:
        if redact is None:
            return event
        return {key: redact(value) if isinstance(value, str) else value for key, value in event.items()}

    plain = structlog.dev.plain_traceback
    last: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)
        if is_console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            masked,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.reset_defaults()
