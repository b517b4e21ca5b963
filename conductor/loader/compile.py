"""A pipeline's definition, as plain JSON, → a `Plan`. The same for a file, for Python and for an old stored version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from conductor.core.graph import Ancestry, topological_order
from conductor.core.keys import digest
from conductor.core.params import fitted
from conductor.core.plan import ConcurrencyPolicy, NodePlan, Plan, ScheduleSpec
from conductor.core.vendor import Json
from conductor.loader.checks import check_cycles, check_dependencies, check_reach
from conductor.loader.diagnostics import Report, raise_errors
from conductor.loader.literals import check_secrets
from conductor.loader.models import Param, PipelineFile, Schedule
from conductor.loader.nodes import plan_node
from conductor.loader.params import param_schema
from conductor.loader.partly import read_partly
from conductor.loader.problems import lookup
from conductor.loader.schedules import cron_problem, zone_problem
from conductor.loader.scope import Operations, ProjectFacts, Scope, context_types, samples_of
from conductor.loader.source import Source, Where
from conductor.loader.yamlread import MAX_DEPTH, MAX_VALUES
from conductor.sdk.plugin import Plugin

__all__ = ["compile_definition", "compile_pipeline", "version_of"]


def compile_definition(definition: Mapping[str, Json], *, plugins: Mapping[str, Plugin], project: ProjectFacts) -> Plan:
    """The plan of a definition that has no text, such as one stored with a run.

    Args:
        definition: As `Plan.definition`.
        plugins: The installed integrations by kind.
        project: What the definition may refer to.

    Raises:
        DefinitionError: Something is wrong; carries all diagnostics, without lines.
    """
    name = definition.get("name")
    report = Report(Source(f"pipeline {name}" if isinstance(name, str) else "pipeline"))
    plan = compile_pipeline(definition, report=report, operations=Operations(plugins), facts=project)
    raise_errors(report.source.path, report.diagnostics())
    assert plan is not None
    return plan


def compile_pipeline(definition: Json, *, report: Report, operations: Operations, facts: ProjectFacts) -> Plan | None:
    """The plan, or None when `report` has an error. Finds all errors that do not hide one another."""
    if not _is_small(report, definition):
        return None
    file = read_partly(PipelineFile, definition, report=report, stand_ins={"name": "unnamed", "version": 1})
    check_secrets(report, lookup(definition, ("params",)), ("params",))
    nodes = lookup(definition, ("nodes",))
    for node in list(nodes) if isinstance(nodes, Mapping) else []:
        check_secrets(report, lookup(definition, ("nodes", node, "with")), ("nodes", node, "with"))
    if file is None:
        return None
    written = _written_graph(definition)
    check_dependencies(report, written)
    is_acyclic = check_cycles(report, written)
    schedule = _check_schedule(report, file)
    params = _check_params(report, file)
    plans = _plan_nodes(report, file, written=written, params=params, operations=operations, facts=facts)
    if not is_acyclic or report.has_errors():
        return None
    order = topological_order({name: node.depends_on for name, node in plans.items()})
    ordered = {name: plans[name] for name in order}
    check_reach(report, ordered)
    return (
        None
        if report.has_errors()
        else replace(_assemble(definition, file, ordered, schedule, params), environment=facts.environment)
    )


def version_of(definition: Mapping[str, Json]) -> str:
    """A digest of the definition: 12 hexadecimal characters, the same for the same content in any order of keys."""
    return digest(definition)[:12]


def _assemble(
    definition: Json,
    file: PipelineFile,
    nodes: Mapping[str, NodePlan],
    schedule: ScheduleSpec | None,
    params: dict[str, Json],
) -> Plan:
    assert isinstance(definition, Mapping)
    return Plan(
        name=file.name,
        version=version_of(definition),
        definition=definition,
        nodes=nodes,
        params=params,
        param_types={name: param.type for name, param in file.params.items()},
        required_params=frozenset(name for name, param in file.params.items() if not param.has_default),
        schedule=schedule,
        timezone=file.timezone,
        concurrency=file.concurrency.limit if file.concurrency else None,
        concurrency_policy=file.concurrency.policy if file.concurrency else ConcurrencyPolicy.QUEUE,
        run_timeout_s=file.run_timeout,
        priority=file.priority,
        owner=file.owner,
        description=file.description,
        tags=tuple(file.tags),
    )


def _is_small(report: Report, definition: Json) -> bool:
    """Definitions from elsewhere than our reader get its limits too, before anything recurses into them."""
    stack: list[tuple[Json, int]] = [(definition, 0)]
    count = 0
    while stack:
        value, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            report.add("CND007", f"more than {MAX_DEPTH} levels or {MAX_VALUES:,} values", help_text="split it")
            return False
        if isinstance(value, Mapping):
            stack.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            stack.extend((inner, depth + 1) for inner in value)
    return True


def _written_graph(definition: Json) -> dict[str, list[str]]:
    """Who depends on whom, as written: also for nodes whose other fields are wrong, so that they count as known."""
    nodes = lookup(definition, ("nodes",))
    graph: dict[str, list[str]] = {}
    for node, body in nodes.items() if isinstance(nodes, Mapping) else ():
        upstream = lookup(body, ("depends_on",))
        is_right = isinstance(upstream, list) and all(isinstance(other, str) for other in upstream)
        graph[node] = list(upstream) if isinstance(upstream, list) and is_right else []
    return graph


def _check_schedule(report: Report, file: PipelineFile) -> ScheduleSpec | None:
    _check_zone(report, file.timezone, ("timezone",))
    schedule: Schedule | None = file.schedule
    if schedule is None:
        return None
    if schedule.timezone is not None:
        _check_zone(report, schedule.timezone, ("schedule", "timezone"))
    problem = cron_problem(schedule.cron)
    if problem is not None:
        where = ("schedule", "cron") if report.source.mark(("schedule", "cron")) else ("schedule",)
        report.add("CND012", problem[0], where, help_text=problem[1])
    for name, param in file.params.items():
        if not param.has_default:
            message = f"parameter `{name}` has no default, and a scheduled run is given none"
            report.add("CND014", message, ("params", name), on_key=True, help_text="add a default")
    return ScheduleSpec(
        cron=schedule.cron,
        timezone=schedule.timezone or file.timezone,
        catchup=schedule.catchup,
        max_catchup=schedule.max_catchup,
    )


def _check_zone(report: Report, zone: str, where: Where) -> None:
    problem = zone_problem(zone)
    if problem is not None:
        report.add("CND013", problem[0], where, help_text=problem[1])


def _check_params(report: Report, file: PipelineFile) -> dict[str, Json]:
    params: dict[str, Json] = {}
    for name, param in file.params.items():
        params[name] = None
        if param.has_default:
            try:
                params[name] = fitted(param.type, param.default)
            except ValueError as error:
                report.add("CND014", f"the default of `{name}` does not fit: {error}", ("params", name, "default"))
    return params


def _plan_nodes(
    report: Report,
    file: PipelineFile,
    *,
    written: Mapping[str, list[str]],
    params: Mapping[str, Json],
    operations: Operations,
    facts: ProjectFacts,
) -> dict[str, NodePlan]:
    schemas = {name: _schema(param, params[name]) for name, param in file.params.items()}
    types = context_types(schemas, {node: body.uses for node, body in file.nodes.items()}, operations)
    scope = Scope(
        report=report,
        operations=operations,
        facts=facts,
        file=file,
        written=frozenset(written),
        ancestry=Ancestry(written),
        types=types,
        samples=samples_of(types),
    )
    planned = {node: plan_node(scope, node, body) for node, body in file.nodes.items()}
    for at, pool in enumerate(file.defaults.pools):
        if pool not in facts.pools and facts.is_complete:
            report.add(
                "CND036", f"no pool `{pool}`", ("defaults", "pools", at), help_text="declare it in conductor.yml"
            )
    return {node: plan for node, plan in planned.items() if plan is not None}


def _schema(param: Param, default: Json) -> Mapping[str, object]:
    return param_schema(param.type, default=default, has_default=param.has_default and default is not None)
