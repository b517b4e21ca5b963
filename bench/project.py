"""A workload as pipelines for Conductor: `http.job` nodes, as a user would declare them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.workloads import Workload
from conductor.core.keys import digest
from conductor.core.plan import NodePlan, Plan, Rendered
from conductor.core.vendor import Json
from integrations.http.config import JobSettings
from integrations.http.integration import capabilities

__all__ = ["CONNECTION", "Constant", "plans"]

CONNECTION = "vendor"
_BATCH = 500


@dataclass(slots=True)
class Constant:
    """A `with` without expressions."""

    constant: Rendered | None

    def render(self, _context: Mapping[str, Json]) -> Rendered:
        """Itself."""
        assert self.constant is not None
        return self.constant


def plans(workload: Workload) -> list[Plan]:
    """One pipeline after the other."""
    return [_plan(workload, f"bench-{at}", layers) for at, layers in enumerate(workload.pipelines_of_jobs())]


def _plan(workload: Workload, name: str, layers: list[list[str]]) -> Plan:
    nodes: dict[str, NodePlan] = {}
    above: tuple[str, ...] = ()
    for layer in layers:
        nodes |= {job: _node(workload, job, above) for job in layer}
        above = tuple(layer)
    definition: dict[str, Json] = {"name": name, "nodes": list(nodes)}
    return Plan(name=name, version=digest(definition)[:12], definition=definition, nodes=nodes)


def _node(workload: Workload, job: str, above: tuple[str, ...]) -> NodePlan:
    settings = JobSettings.model_validate(_settings(workload, job)).model_dump(mode="json")
    able = capabilities(settings)
    return NodePlan(
        id=job,
        uses="http.job",
        connection=CONNECTION,
        settings=Constant(Rendered(settings=settings)),
        capabilities=able,
        delivery=able.delivery,
        if_running=able.if_running,
        on_unknown=able.on_unknown,
        settle_window_s=able.settle_window_s,
        depends_on=above,
    )


def _settings(workload: Workload, job: str) -> dict[str, Json]:
    body = workload.job_body(job)
    recovery: dict[str, Json] = {"key": {"header": "Idempotency-Key"}}
    if workload.vendor == "tag":
        body["tag"] = "{key}"
        recovery = {
            "find": {
                "path": "/jobs",
                "items": "jobs",
                "id": "id",
                "key": "tag",
                "created": "created_at",
                "since": {"param": "since"},
                "next": "next",
                "next_param": "cursor",
                "lag_s": 5,
            }
        }
    return {
        "start": {"path": "/jobs", "json": body, "id": "id"},
        "batch": {
            "path": "/jobs",
            "params": {"ids": "{ids}"},
            "items": "jobs",
            "id": "id",
            "state": "state",
            "max_ids": _BATCH,
        },
        "states": {"pending": "queued", "running": "running", "done": "succeeded", "error": "failed"},
        "poll_floor_s": workload.poll_floor_s,
        **recovery,
    }
