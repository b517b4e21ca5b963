"""`dbt.core_*`: builds the child's spec, reads its files and artifacts, lets `mapping` judge. No sleep, no retry."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from conductor.sdk import (
    Baseline,
    CancelSupport,
    Capabilities,
    Context,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    FindAnswer,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Operation,
    Plugin,
    Request,
    UnreadableError,
)
from conductor.sdk.child import Children, ChildSpec
from conductor.sdk.child_view import ChildView, observe_child
from integrations.dbt import commandline, config, events, mapping, resume
from integrations.dbt.artifacts import Results, compiled_paths, node_name, parse_results
from integrations.dbt.commandline import Places

__all__ = ["Dbt", "build", "capabilities", "plugin"]

_RESULTS = "run_results.json"
_SOURCES = "sources.json"
_RESUME = "resume"
_TARGET = "target"
_FRESHNESS = "core_source_freshness"
_MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
_MAX_SQL_BYTES = 16_000
_LOG_STEP_BYTES = 1024 * 1024
_LOG_TAIL_BYTES = 256 * 1024


class Dbt:
    """One dbt installation. Keeps nothing: every answer is read from the children's directories."""

    def __init__(self, context: Context, connection: config.Connection, children: Children) -> None:
        self._context = context
        self._connection = connection
        self._children = children

    async def prepare(self, request: Request) -> Baseline:  # noqa: ARG002 - the protocol's
        """Nothing to read: the key alone tells attempts apart."""
        return Baseline()

    async def start(self, request: Request) -> ExternalRef:
        """Launch dbt, or `dbt retry` where `request.resume` allows it; with the same key, at most once ever."""
        settings, connection = request.settings, self._connection
        places = self._places(request.key, settings)
        identity = commandline.identity(request.operation, settings, places)
        decision, results = await asyncio.to_thread(self._decide, request, identity)
        files: dict[str, bytes] = {}
        if decision.is_retry and results is not None:
            state = self._children.directory(request.key) / _RESUME
            words = commandline.retry_arguments(settings, places, state=state)
            files[f"{_RESUME}/{_RESULTS}"] = results
        else:
            words = commandline.arguments(request.operation, settings, places)
        spec = ChildSpec(
            key=request.key,
            argv=(self._executable(), *words),
            cwd=places.project,
            env={
                **connection.env,
                "DBT_ENV_CUSTOM_ENV_CONDUCTOR_KEY": request.key,
                "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
                "CONDUCTOR_KEY": request.key,
                "CONDUCTOR_RUN_ID": request.run_id,
                "PYTHONUNBUFFERED": "1",
            },
            pass_env=tuple(connection.pass_env),
            secret_env={name: value.get_secret_value() for name, value in connection.secret_env.items()},
            int_grace_s=connection.interrupt_grace_s,
            log_cap_bytes=connection.log_cap_mib * 1024 * 1024,
            meta={
                "operation": request.operation,
                "identity": identity,
                "resumed_from": request.resume.id if request.resume and decision.is_retry else None,
                "how": decision.why,
            },
            files=files,
        )
        await self._children.start(spec)
        return ExternalRef(id=request.key)

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """Look at each child's files. A child that cannot be read is left out; if none can be, that is raised."""
        seen: dict[str, Observation] = {}
        trouble: UnreadableError | None = None
        for ref in refs:
            try:
                seen[ref.id] = await self._observe(ref)
            except UnreadableError as error:
                trouble = error
        if trouble is not None and not seen:
            raise trouble
        return seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:  # noqa: ARG002 - the protocol's
        """The claim tells: with it dbt was launched, without it nothing was."""
        return self._children.find(request.key)

    async def cancel(self, ref: ExternalRef) -> None:
        """SIGINT, upon which dbt cancels its queries; then SIGTERM and SIGKILL."""
        self._children.cancel(ref.id)

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The last of dbt's log, as lines for people."""
        excerpt = self._children.tail(ref.id, max_bytes=_LOG_TAIL_BYTES)
        return replace(excerpt, lines=tuple(line for line in map(events.readable, excerpt.lines) if line))

    async def check(self) -> Health:
        """Tell whether dbt, the project and the children's folder are there. Runs no dbt."""
        executable = Path(self._executable())
        if not os.access(executable, os.X_OK):
            return Health(is_ok=False, message=f"there is no dbt at {executable}; install dbt-core or set `executable`")
        project = self._folder(self._connection.project_dir)
        if not (project / "dbt_project.yml").is_file():
            return Health(is_ok=False, message=f"{project} has no dbt_project.yml; set `project_dir`")
        health = self._children.check()
        return replace(health, message=f"{executable} on {project}; {health.message}")

    def _executable(self) -> str:
        """The dbt beside Conductor's own interpreter, so that one installation brings both; else the first on PATH."""
        named = self._connection.executable
        if named is not None:
            return str(self._folder(named)) if os.sep in named else self._children.which(named)
        beside = Path(sys.executable).parent / "dbt"
        return str(beside) if os.access(beside, os.X_OK) else self._children.which("dbt")

    def _folder(self, path: str) -> Path:
        return (self._context.project_dir / Path(path).expanduser()).resolve()

    def _places(self, key: str, settings: Mapping[str, Json]) -> Places:
        directory = self._children.directory(key)
        profiles = settings.get("profiles_dir") or self._connection.profiles_dir
        target = settings.get("target") or self._connection.target
        return Places(
            project=self._folder(str(settings.get("project_dir") or self._connection.project_dir)),
            profiles=self._folder(str(profiles)) if profiles else None,
            target=str(target) if target else None,
            target_path=directory / _TARGET,
            log_path=directory / "logs",
        )

    def _decide(self, request: Request, identity: str) -> tuple[resume.Decision, bytes | None]:
        """How to go on after `request.resume`, and the results file to go on from. Trouble reading it means in full."""
        failed = request.resume
        if failed is None:
            return resume.Decision(is_retry=False, why="the first attempt, or nothing to resume"), None
        try:
            # As dbt wrote it: a mask inside it would change what is run.
            body = self._children.artifact(
                failed.id, f"{_TARGET}/{_RESULTS}", max_bytes=_MAX_ARTIFACT_BYTES, is_masked=False
            )
            decision = resume.decide(
                operation=request.operation,
                settings=request.settings,
                view=self._children.look(failed.id),
                meta=self._children.meta(failed.id),
                results=parse_results(body) if body is not None else None,
                identity=identity,
            )
        except UnreadableError as error:
            return resume.Decision(is_retry=False, why=f"the failed attempt cannot be read: {error}"), None
        return decision, body

    async def _observe(self, ref: ExternalRef) -> Observation:
        view = self._children.look(ref.id)
        judged = observe_child(view)
        if judged is None:
            return await asyncio.to_thread(self._judge, view)
        if not judged.state.is_final:
            return self._progress(ref, judged, view)
        if judged.state in {ExternalState.CANCELLED, ExternalState.FAILED} and view.exit is not None:
            ended = await asyncio.to_thread(self._ended, view)
            return replace(judged, outputs=mapping.outputs_of(ended))
        return judged

    def _progress(self, ref: ExternalRef, seen: Observation, view: ChildView) -> Observation:
        """`seen` with how far dbt is; reads only what it wrote since the last look."""
        before = _progress_of(ref)
        if view.log_bytes <= before.offset:
            return replace(seen, progress=before.fraction, message=seen.message or before.words)
        chunk = self._children.read_log(ref.id, before.offset, max_bytes=_LOG_STEP_BYTES)
        now = events.advance(before, self._children.redacted(ref.id, chunk.text), chunk.next_offset)
        data = {"offset": now.offset, "done": now.done, "total": now.total, "last": now.last}
        changed = replace(ref, data=data) if now != before else None
        return replace(seen, progress=now.fraction, message=seen.message or now.words, ref=changed)

    def _judge(self, view: ChildView) -> Observation:
        return mapping.judge(self._ended(view))

    def _ended(self, view: ChildView) -> mapping.Ended:
        """Everything that the attempt's directory tells of its end."""
        meta = self._children.meta(view.key)
        is_freshness = meta.get("operation") == _FRESHNESS
        results, trouble = self._results(view.key, _SOURCES if is_freshness else _RESULTS)
        resumed_from = meta.get("resumed_from")
        lines = self._children.tail(view.key, max_lines=10_000, max_bytes=_LOG_TAIL_BYTES * 4).lines
        return mapping.Ended(
            view=view,
            results=results,
            trouble=trouble,
            words=events.error_words(lines),
            logged=events.freshness_of(lines) if is_freshness else {},
            expected=self._expected(view.key) if resumed_from else (),
            resumed_from=resumed_from if isinstance(resumed_from, str) else None,
            sql=self._sql(view.key, results) if results is not None else {},
        )

    def _results(self, key: str, name: str) -> tuple[Results | None, str]:
        """The attempt's own results, or why there are none."""
        body = self._children.artifact(key, f"{_TARGET}/{name}", max_bytes=_MAX_ARTIFACT_BYTES)
        if body is None:
            return None, f"it left no {name}"
        try:
            results = parse_results(body)
        except UnreadableError as error:
            return None, f"its {name} cannot be read ({error})"
        if results.key != key:
            return None, f"its {name} is of another run ({results.key or 'unnamed'})"
        return results, ""

    def _expected(self, key: str) -> tuple[str, ...]:
        body = self._children.artifact(key, f"{_RESUME}/{_RESULTS}", max_bytes=_MAX_ARTIFACT_BYTES)
        return mapping.retryable(parse_results(body), warn_error=False) if body is not None else ()

    def _sql(self, key: str, results: Results) -> Mapping[str, tuple[str, str]]:
        """The compiled SQL of what failed: from the compiled file, else from the results."""
        bad = [node for node in results.nodes if mapping.kind_of(node.status) is mapping.Kind.FAILED]
        target = self._children.directory(key) / _TARGET
        paths = compiled_paths(target, frozenset(node_name(node.unique_id) for node in bad)) if bad else {}
        found: dict[str, tuple[str, str]] = {}
        for node in bad[: mapping.MAX_FAILURES]:
            path = paths.get(node_name(node.unique_id))
            if path is not None:
                body = self._children.artifact(key, str(path.relative_to(target.parent)), max_bytes=_MAX_SQL_BYTES)
                found[node.unique_id] = (str(path.relative_to(target)), (body or b"").decode())
            elif node.sql:
                found[node.unique_id] = ("", node.sql[:_MAX_SQL_BYTES])
        return found


def _progress_of(ref: ExternalRef) -> events.Progress:
    numbers = {name: ref.data.get(name) for name in ("offset", "done", "total")}
    safe = {name: value if isinstance(value, int) else 0 for name, value in numbers.items()}
    return events.Progress(**safe, last=str(ref.data.get("last") or ""))


def capabilities(settings: Mapping[str, Json]) -> Capabilities:
    """Class A through the claim of the attempt's directory; resumable where the settings allow it."""
    return Capabilities(
        correlation=Correlation.KEY,
        delivery=Delivery.EFFECTIVELY_ONCE,
        cancel=CancelSupport.CONFIRMED,
        batch_size=1000,
        poll_floor_s=0.1,
        settle_window_s=5.0,
        key_ttl_s=7 * 86_400.0,
        not_found_grace_s=0.0,
        resume=settings.get("resume", "never") != "never",
        maturity="real server",
    )


def build(context: Context, connection: BaseModel) -> Dbt:
    """The integration of one connection. No I/O."""
    assert isinstance(connection, config.Connection)
    for secret in connection.secret_env.values():
        context.redact.add(secret.get_secret_value())
    children = Children(
        context.state_dir / "children", redact=context.redact, clock=context.clock, keep_days=connection.keep_days
    )
    return Dbt(context, connection, children)


_GUARANTEE = (
    "Effectively once: dbt is launched at most once per attempt, whatever crashes and however often the start is "
    "repeated, while its state folder is kept on a local disk. Green needs exit code 0 and this attempt's own results. "
    "It does not survive its host."
)


def _operation(name: str, summary: str, settings: type[BaseModel]) -> Operation:
    return Operation(
        name=name,
        summary=summary,
        settings=settings,
        outputs=config.Outputs,
        capabilities=capabilities,
        guarantee=_GUARANTEE,
    )


plugin = Plugin(
    kind="dbt",
    title="dbt",
    summary="dbt-core projects, run as supervised processes on the host of Conductor.",
    connection=config.Connection,
    operations={
        operation.name: operation
        for operation in (
            _operation("core_build", "Seeds, models, snapshots and their tests, in order.", config.BuildSettings),
            _operation("core_run", "Models without tests.", config.RunSettings),
            _operation("core_test", "Tests alone.", config.TestSettings),
            _operation("core_seed", "CSV files into tables.", config.SeedSettings),
            _operation("core_snapshot", "Snapshots of changing tables.", config.SnapshotSettings),
            _operation(_FRESHNESS, "How old the sources are.", config.FreshnessSettings),
        )
    },
    build=build,
)
