"""The shapes of work that are measured, as values that travel to child processes as JSON. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Self

__all__ = ["ENGINE", "WORKLOADS", "Workload", "quick"]

_QUICK_DURATION_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Pipelines of layers: every node of a layer depends on every node of the layer before.

    Attributes:
        name: As in the table.
        title: What it is, for people.
        layers: Layers of each pipeline.
        width: Nodes in a layer.
        pipelines: Pipelines with one run each, all triggered at once.
        duration_s: How long the vendor works on one run, in seconds.
        poll_floor_s: A run is looked at most this often, in seconds.
        vendor: `key` for a vendor that folds repeated starts by key, `tag` for one that lists runs with our key.
        kill_at_s: Kill the process so long after its first start, in seconds; None for never.
        is_kill_in_transit: Kill it while the vendor has accepted every start and answered none.
        repeats: How often it is measured; the median counts.
    """

    name: str
    title: str
    layers: int = 1
    width: int = 1
    pipelines: int = 1
    duration_s: float = 0.0
    poll_floor_s: float = 1.0
    vendor: str = "key"
    kill_at_s: float | None = None
    is_kill_in_transit: bool = False
    repeats: int = 3

    @property
    def runs(self) -> int:
        """How many runs the vendor is to start."""
        return self.layers * self.width * self.pipelines

    @property
    def ideal_s(self) -> float:
        """How long it takes when nothing but the vendor takes time, in seconds."""
        return self.layers * self.duration_s

    def pipelines_of_jobs(self) -> Iterator[list[list[str]]]:
        """The names of the vendor's jobs, unique in the workload: by pipeline, then by layer."""
        for at in range(self.pipelines):
            yield [[f"p{at}-{layer}-{one}" for one in range(self.width)] for layer in range(self.layers)]

    def job_names(self) -> Iterator[str]:
        """All of them."""
        return (job for layers in self.pipelines_of_jobs() for layer in layers for job in layer)

    def job_body(self, job: str) -> dict[str, object]:
        """The body of a start, without key or tag."""
        return {"name": job, "duration_s": self.duration_s}

    def to_json(self) -> str:
        """For a child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The other way."""
        return cls(**json.loads(text))


WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(name="W1", title="200 parallel runs of 20 s", width=200, duration_s=20.0),
        Workload(name="W2", title="a chain of 30 runs of 1 s", layers=30, duration_s=1.0, poll_floor_s=0.1),
        Workload(name="W3-1k", title="1,000 runs of 60 s in flight", width=1000, duration_s=60.0),
        Workload(
            name="W3-10k", title="10,000 runs of 60 s in flight", width=1000, pipelines=10, duration_s=60.0, repeats=1
        ),
        Workload(name="W4", title="20 layers of 50 runs of 0 s, all to all", layers=20, width=50, poll_floor_s=0.1),
        Workload(name="W5-key", title="50 runs, killed at 10 s", width=50, duration_s=20.0, kill_at_s=10.0),
        Workload(
            name="W5-tag", title="50 runs, killed at 10 s", width=50, duration_s=20.0, kill_at_s=10.0, vendor="tag"
        ),
        Workload(
            name="W5t-key",
            title="50 starts, killed before the answers",
            width=50,
            duration_s=5.0,
            is_kill_in_transit=True,
        ),
        Workload(
            name="W5t-tag",
            title="50 starts, killed before the answers",
            width=50,
            duration_s=5.0,
            is_kill_in_transit=True,
            vendor="tag",
        ),
    )
}


ENGINE = Workload(
    name="engine",
    title="the engine alone: 4 runs of 20 layers of 50, a vendor that does nothing",
    layers=20,
    width=50,
    pipelines=4,
)


def quick(workload: Workload) -> Workload:
    """The same, small enough to see within seconds that it works; its figures say nothing."""
    return replace(
        workload,
        layers=min(workload.layers, 3),
        width=min(workload.width, 20),
        pipelines=min(workload.pipelines, 2),
        duration_s=min(workload.duration_s, _QUICK_DURATION_S),
        kill_at_s=None if workload.kill_at_s is None else 1.5,
        repeats=1,
    )
