"""What is installed and connected: integrations, connections, their health, and vendors' logs. Shows no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from conductor.core.errors import ConflictError, NotFoundError
from conductor.core.plan import Plan
from conductor.core.run import Attempt, Run
from conductor.core.states import NodeState
from conductor.core.vendor import Capabilities
from conductor.engine.connections import Connections
from conductor.loader.diagnostics import Severity
from conductor.loader.project import Project
from conductor.sdk.plugin import Operation, Plugin
from conductor.service.views import (
    ConnectionView,
    HealthView,
    IntegrationView,
    Listing,
    LogsView,
    OperationView,
)

__all__ = [
    "check_connections",
    "connections_used",
    "list_connections",
    "list_integrations",
    "node_for_logs",
    "read_logs",
]


def list_integrations(plugins: Mapping[str, Plugin]) -> Listing:
    """What is installed, by name."""
    items = [
        IntegrationView(
            kind=plugin.kind,
            title=plugin.title,
            summary=plugin.summary,
            has_sandbox=plugin.sandbox is not None,
            operations=tuple(_operation(plugin.kind, operation) for operation in plugin.operations.values()),
        )
        for _, plugin in sorted(plugins.items())
    ]
    return Listing(kind="integrations", items=items)


def _operation(kind: str, operation: Operation) -> OperationView:
    can = _capabilities(operation)
    return OperationView(
        uses=f"{kind}.{operation.name}",
        summary=operation.summary,
        guarantee=operation.guarantee,
        correlation=can.correlation.value if can is not None else None,
        maturity=can.maturity if can is not None else None,
    )


def _capabilities(operation: Operation) -> Capabilities | None:
    """Without settings; None where an operation's promises depend on them."""
    try:
        return operation.capabilities({})
    except Exception:  # noqa: BLE001 - foreign code asked outside its contract: it may only know with settings
        return None


def connections_used(plans: Iterable[Plan]) -> dict[str, tuple[str, ...]]:
    """Connection → the pipelines that use it."""
    found: dict[str, dict[str, None]] = {}
    for plan in plans:
        for node in plan.nodes.values():
            found.setdefault(node.connection, {})[plan.name] = None
    return {name: tuple(pipelines) for name, pipelines in found.items()}


def list_connections(project: Project, *, stopped: Mapping[str, str]) -> Listing:
    """The project's connections by name, those that nodes use without being written down included."""
    used = connections_used(project.plans.values())
    items = []
    for name in sorted({*project.connections, *used}):
        connection = project.connections.get(name)
        missing = (
            connection.written.missing(
                secrets=project.secrets, environment=project.environment, severity=Severity.WARNING
            )
            if connection is not None
            else ()
        )
        items.append(
            ConnectionView(
                name=name,
                type=connection.type if connection is not None else name,
                max_parallel=connection.max_parallel if connection is not None else None,
                used_by=used.get(name, ()),
                missing=tuple(one.message for one in missing),
                stopped=stopped.get(name, ""),
            )
        )
    return Listing(kind="connections", items=items)


async def check_connections(connections: Connections, names: Iterable[str]) -> list[HealthView]:
    """Try each connection by reading only."""
    found = []
    for name in names:
        health = await connections.check(name)
        found.append(HealthView(name=name, is_ok=health.is_ok, message=health.message, vendor_version=health.version))
    return found


def node_for_logs(run: Run) -> str:
    """The node whose logs are meant when none is named: the failed one, else the running one, else the last to end.

    Raises:
        ConflictError: No node was started at any vendor.
    """
    started = [node for node in run.nodes.values() if node.attempt is not None and node.attempt.ref is not None]
    if not started:
        raise ConflictError(f"run {run.id} has no logs: none of its nodes was started; see `conductor why {run.id}`")
    for state in (NodeState.FAILED, NodeState.RUNNING, NodeState.RETRYING, NodeState.HELD):
        for node in started:
            if node.state is state:
                return node.id
    return max(started, key=lambda node: (node.ended_at is not None, node.ended_at or run.created_at, node.id)).id


async def read_logs(
    connections: Connections, run: Run, node: str, attempts: Iterable[Attempt], *, attempt_no: int | None, most: int
) -> LogsView:
    """The vendor's own words about one attempt of a node, the newest that was started unless one is named.

    Raises:
        NotFoundError: The run has no such node, or the node no such attempt.
        IntegrationError: The vendor did not give them.
    """
    if node not in run.nodes:
        raise NotFoundError(f"run {run.id} has no node {node!r}; its nodes are {', '.join(list(run.nodes)[:10])}")
    started = [one for one in attempts if one.ref is not None and attempt_no in {None, one.no}]
    if not started:
        which = f"attempt {attempt_no} of node {node}" if attempt_no is not None else f"node {node}"
        raise NotFoundError(f"{which} in run {run.id} has no logs: it was not started; see `conductor why {run.id}`")
    attempt = started[-1]
    assert attempt.ref is not None
    excerpt = await connections.integration(run.plan.nodes[node].connection).logs(attempt.ref)
    return LogsView(
        run_id=run.id,
        node=node,
        attempt_no=attempt.no,
        lines=excerpt.lines[-most:] if most > 0 else (),
        is_truncated=excerpt.is_truncated or len(excerpt.lines) > most,
        link=excerpt.link or attempt.ref.link,
    )
