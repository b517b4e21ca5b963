"""What we promise, workload by workload, and what is known of others. Values only."""

from __future__ import annotations

from collections.abc import Mapping

from bench.figures import Target

__all__ = ["PEERS", "PEERS_CAPTION", "TARGETS"]

_RECOVERY = (
    Target(figure="duplicates", words="duplicates", at_most=0),
    Target(figure="lost", words="lost", at_most=0),
    Target(figure="reattach_s", words="re-attached, s", at_most=5),
)

TARGETS: Mapping[str, tuple[Target, ...]] = {
    "W1": (Target(figure="over_ideal_s", words="above the ideal 20 s, s", at_most=1.5),),
    "W2": (Target(figure="hand_off_s", words="hand-off a node, s", at_most=0.25),),
    "W3-1k": (
        Target(figure="cpu_s", words="CPU in all, s", at_most=3),
        Target(figure="reads_per_100_looks", words="requests a 100 runs and round", at_most=1),
    ),
    "W3-10k": (
        Target(figure="rss_mb", words="peak memory, MB", at_most=500),
        Target(figure="waiting_share", words="share of a core while waiting", at_most=0.15),
        Target(figure="reads_per_100_looks", words="requests a 100 runs and round", at_most=1),
    ),
    "W4": (Target(figure="elapsed_s", words="elapsed against the floor, s", at_most=1.5, is_ratio=True),),
    "W5-key": _RECOVERY,
    "W5-tag": _RECOVERY,
    "W5t-key": _RECOVERY,
    "W5t-tag": _RECOVERY,
    "engine": (Target(figure="per_second", words="node completions a second", at_least=2000),),
    "help": (Target(figure="elapsed_s", words="`conductor --help`, s", at_most=0.3),),
    "install": (Target(figure="size_mb", words="base install, MB", at_most=100),),
}
"""By workload, in the order of the table."""

PEERS_CAPTION = (
    "Others, as reported: measured beside on the same vendor, not in this run. "
    "This package does not measure them, so these figures cannot be repeated from here."
)
PEERS: tuple[tuple[str, str, str], ...] = (
    ("Prefect 3.8", "W1", "6 s above the ideal"),
    ("Prefect 3.8", "W2", "32 s above the ideal"),
    ("Prefect 3.8", "W3-1k", "31 CPU s"),
    ("Prefect 3.8", "W4", "12.4 s"),
    ("Prefect 3.8", "W5, W5t", "50 duplicates of 50"),
    ("Airflow 3.3", "W1", "14 s above the ideal"),
    ("Airflow 3.3", "W3-1k", "203 CPU s, 8.8 GB"),
    ("Dagster", "W5", "50 duplicates of 50"),
    ("Luigi", "W5", "50 duplicates of 50"),
    ("DBOS", "W5", "0 duplicates"),
    ("DBOS", "W5t", "50 duplicates of 50"),
)
"""(product and version where known, workload, figure)."""
