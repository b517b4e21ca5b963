"""Writes a workload down as a user would: a project of `http.job` nodes, which Conductor loads like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.workloads import Workload

__all__ = ["CONNECTION", "TOKEN", "pipeline_name", "write_project"]

CONNECTION = "vendor"
TOKEN = "BENCH_TOKEN"  # noqa: S105 - the name of a variable
_BATCH = 500


def pipeline_name(at: int) -> str:
    """The name of the pipeline number `at`."""
    return f"bench-{at}"


def write_project(workload: Workload, base_url: str, folder: Path) -> None:
    """Make `folder` a project: one pipeline file for each of the workload's pipelines, one connection."""
    (folder / "pipelines").mkdir(parents=True)
    (folder / "conductor.yml").write_text("version: 1\nname: bench\n", encoding="utf-8")
    connection = {
        CONNECTION: {
            "type": "http",
            "base_url": base_url,
            "bearer": f"${{{{ secret('{TOKEN}') }}}}",
            "rate": {"requests": 5000, "per_s": 1, "burst": 5000},
        }
    }
    (folder / "connections.yml").write_text(json.dumps(connection), encoding="utf-8")
    for at, layers in enumerate(workload.pipelines_of_jobs()):
        lines = ["version: 1", f"name: {pipeline_name(at)}", "nodes:"]
        lines += [f"  {job}: {json.dumps(node)}" for job, node in _nodes(workload, layers)]
        (folder / "pipelines" / f"{pipeline_name(at)}.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _nodes(workload: Workload, layers: list[list[str]]) -> Iterator[tuple[str, Mapping[str, object]]]:
    above: list[str] = []
    for layer in layers:
        for job in layer:
            yield job, {"uses": "http.job", "depends_on": above, "with": _settings(workload, job)}
        above = layer


def _settings(workload: Workload, job: str) -> Mapping[str, object]:
    body = workload.job_body(job)
    recovery: dict[str, object] = {"key": {"header": "Idempotency-Key"}}
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
