"""What a node that may start waits for: a pause, a stopped connection, a refusal's delay, a slot, a service. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from conductor.core.admit import Usage, Want
from conductor.core.run import NodeRun, Run
from conductor.service.reasons import Facts, Held

__all__ = ["usage_of", "why_queued"]


def usage_of(runs: Iterable[Run]) -> Usage:
    """What the attempts of these runs occupy: the same count as the engine's, from the states alone."""
    usage = Usage()
    for run in runs:
        for node in run.nodes.values():
            if node.attempt is not None and node.attempt.holds_slot:
                plan = run.plan.nodes[node.id]
                usage.add(plan.connection, _scope(run, node), plan.pools)
    return usage


def why_queued(run: Run, node: NodeRun, facts: Facts) -> tuple[Held, str, datetime | None]:
    """By what a queued node is held back, in one sentence, and when that may change by itself."""
    plan = run.plan.nodes[node.id]
    attempt = node.attempt
    if run.is_paused or facts.is_pipeline_paused:
        what = f"pipeline {run.plan.name}" if facts.is_pipeline_paused else "the run"
        return Held.PAUSED, f"{what} is paused: nothing more is started", None
    if plan.connection in facts.closed:
        return Held.CONNECTION, f"connection {plan.connection} is stopped: {facts.closed[plan.connection]}", None
    if attempt is not None and attempt.not_before is not None and attempt.not_before > facts.now:
        why = attempt.error.message if attempt.error is not None else node.reason or "the vendor said not now"
        return Held.REFUSED, f"refused for now: {why}", attempt.not_before
    want = Want(
        id=node.id,
        connection=plan.connection,
        scope=_scope(run, node),
        pools=plan.pools,
        has_slot=attempt is not None and attempt.holds_slot,
    )
    blocker = facts.usage.blocker(want, facts.limits)
    if blocker is not None:
        return Held.POOL, blocker, None
    if not facts.is_served:
        return Held.SERVICE, "nothing runs that would start it: no service follows this database", None
    return Held.NOTHING, "it is about to start", None


def _scope(run: Run, node: NodeRun) -> str:
    is_exclusive = run.plan.nodes[node.id].capabilities.is_exclusive
    return node.attempt.scope if is_exclusive and node.attempt is not None else ""
