"""The benchmark's arithmetic: medians, duplicates, requests a round, and whether a target holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

from bench.workloads import Workload

__all__ = ["Figures", "Sample", "Target", "Verdict", "count_starts", "per_hundred_looks", "summary", "verdicts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement of one process.

    Attributes:
        elapsed_s: From the trigger to the end of the last run, in seconds.
        cpu_s: CPU seconds of the process, imports and all.
        rss_mb: The most memory it held, in MB.
        waiting_share: The share of one core while everything was in flight.
        starts: Starts that the vendor was sent.
        reads: All other requests.
        looks: Looks at runs; one list request that names 500 ids is 500 looks.
        duplicates: Jobs that the vendor accepted more than once.
        lost: Jobs that the vendor never accepted, or whose end was never seen.
        reattach_s: From the start of the second process until every run was followed again, in seconds.
    """

    elapsed_s: float
    cpu_s: float
    rss_mb: float
    waiting_share: float | None = None
    starts: int = 0
    reads: int = 0
    looks: int = 0
    duplicates: int = 0
    lost: int = 0
    reattach_s: float | None = None


Figures = Mapping[str, float | None]
"""By name: the median of every field of the samples that has a value, and what is derived from them."""


def count_starts(wanted: Iterable[str], accepted: Sequence[str]) -> tuple[int, int]:
    """How many jobs were accepted more often than once (each surplus counts), and how many never."""
    seen = Counter(accepted)
    return sum(count - 1 for count in seen.values()), sum(1 for name in wanted if name not in seen)


def per_hundred_looks(reads: float, looks: float) -> float | None:
    """Requests for a hundred looks: 1.0 is one request for a hundred runs in each round. None without looks."""
    return 100.0 * reads / looks if looks else None


def summary(samples: Sequence[Sample], workload: Workload) -> dict[str, float | None]:
    """The figures of one subject on one workload: medians, and of what must never happen the worst.

    Empty for no samples.
    """
    if not samples:
        return {}
    rows = [asdict(sample) for sample in samples]
    figures: dict[str, float | None] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        pick: Callable[[list[float]], float] = max if name in {"duplicates", "lost", "reattach_s"} else median
        figures[name] = pick(values) if values else None
    elapsed_s = median(sample.elapsed_s for sample in samples)
    figures["over_ideal_s"] = elapsed_s - workload.ideal_s
    figures["hand_off_s"] = (elapsed_s - workload.ideal_s) / workload.layers
    figures["per_second"] = workload.runs / elapsed_s if elapsed_s else None
    shares = [per_hundred_looks(sample.reads, sample.looks) for sample in samples]
    known = [share for share in shares if share is not None]
    figures["reads_per_100_looks"] = median(known) if known else None
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A promise about one figure.

    Attributes:
        figure: Its name in the summary.
        words: For people, with its unit.
        at_most: The bound from above; None when there is none.
        at_least: The bound from below.
        is_ratio: The bound is on ours divided by the floor's.
    """

    figure: str
    words: str
    at_most: float | None = None
    at_least: float | None = None
    is_ratio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a target.

    Attributes:
        target: It.
        ours: Our figure; None when it could not be measured.
        floor: The floor's, where it was measured.
        holds: Whether the target holds; what was not measured does not hold.
    """

    target: Target
    ours: float | None
    floor: float | None = None
    holds: bool = field(default=False)

    @property
    def ratio(self) -> float | None:
        """Ours divided by the floor's."""
        return None if self.ours is None or not self.floor else self.ours / self.floor


def verdicts(targets: Iterable[Target], ours: Figures, floor: Figures | None) -> list[Verdict]:
    """Every target against the figures."""
    return [_verdict(target, ours.get(target.figure), (floor or {}).get(target.figure)) for target in targets]


def _verdict(target: Target, ours: float | None, floor: float | None) -> Verdict:
    found = Verdict(target=target, ours=ours, floor=floor)
    value = found.ratio if target.is_ratio else ours
    is_low_enough = value is not None and (target.at_most is None or value <= target.at_most)
    is_high_enough = value is not None and (target.at_least is None or value >= target.at_least)
    return Verdict(target=target, ours=ours, floor=floor, holds=is_low_enough and is_high_enough)
