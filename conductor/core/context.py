"""What expressions may see: the names behind `${{ }}`, built from plain facts of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from conductor.core.plan import Plan
from conductor.core.vendor import Json

__all__ = ["NodeFacts", "RunFacts", "build_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run as expressions see it under `run`.

    Attributes:
        id: The run's id.
        logical_at: The instant the run is about; `run.date` is its local date in the pipeline's zone.
        scheduled_for: The slot; None for runs that no schedule began.
        trigger: Why it began.
        attempt: The number of the attempt being planned.
    """

    id: str
    logical_at: datetime
    scheduled_for: datetime | None
    trigger: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """An ended node as expressions see it under `nodes.<id>`.

    Attributes:
        status: Its state's word.
        outputs: What it gave; empty unless it succeeded or was warned.
    """

    status: str
    outputs: Mapping[str, Json] = field(default_factory=dict)


def build_context(
    *,
    params: Mapping[str, Json],
    run: RunFacts,
    nodes: Mapping[str, NodeFacts],
    plan: Plan,
) -> dict[str, Json]:
    """The names that an expression may use, as plain JSON values."""
    local = run.logical_at.astimezone(ZoneInfo(plan.timezone))
    return {
        "params": dict(params),
        "run": {
            "id": run.id,
            "date": local.date().isoformat(),
            "logical_time": run.logical_at.astimezone(UTC).isoformat(),
            "scheduled_for": run.scheduled_for.astimezone(UTC).isoformat() if run.scheduled_for else None,
            "trigger": run.trigger,
            "attempt": run.attempt,
            "is_backfill": run.trigger == "backfill",
        },
        "nodes": {node: {"status": seen.status, "outputs": dict(seen.outputs)} for node, seen in nodes.items()},
        "pipeline": {"name": plan.name, "version": plan.version, "owner": plan.owner},
        "env": plan.environment,
    }
