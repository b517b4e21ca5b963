"""Whether a retry may be `dbt retry`, bound to the exact failed invocation. Pure.

`dbt retry` runs what run_results.json lists as failed or skipped, and nothing else: it is right only where that file is
complete, is of that attempt, and asks for the same work. Everywhere else the answer is a full run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conductor.core.vendor import Json
from conductor.sdk.child_view import ChildPhase, ChildView
from integrations.dbt.artifacts import Results
from integrations.dbt.mapping import retryable

__all__ = ["Decision", "decide"]

_RESUMABLE = frozenset({"core_build", "core_run", "core_test", "core_seed", "core_snapshot"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a retry will do.

    Attributes:
        is_retry: By `dbt retry`; else in full.
        why: For people.
        nodes: What `dbt retry` must run again.
    """

    is_retry: bool
    why: str
    nodes: tuple[str, ...] = ()


def decide(
    *,
    operation: str,
    settings: Mapping[str, Json],
    view: ChildView,
    meta: Mapping[str, Json],
    results: Results | None,
    identity: str,
) -> Decision:
    """What to do after the failed attempt that `view`, `meta` and `results` are of.

    Args:
        operation: Of the new attempt.
        settings: Of the new attempt.
        view: The failed attempt's child.
        meta: The failed attempt's spec.
        results: The failed attempt's run_results.json; None when there is none that can be read.
        identity: Of the new attempt (`commandline.identity`).
    """
    ended = view.exit
    if operation not in _RESUMABLE or settings.get("resume") == "never":
        return Decision(is_retry=False, why="this node runs in full each time")
    if view.phase is not ChildPhase.ENDED or ended is None or ended.outcome != "exited" or ended.code != 1:
        # An interrupted dbt lists only what had ended by then: what it never reached would never be run.
        return Decision(is_retry=False, why="the failed attempt was not finished by dbt itself")
    if meta.get("identity") != identity:
        return Decision(is_retry=False, why="the node asks for other work than the failed attempt")
    if results is None or results.key != view.key:
        return Decision(is_retry=False, why="the failed attempt left no run_results.json of its own")
    nodes = retryable(results, warn_error=settings.get("warn_error") is True)
    if not nodes:
        # It failed outside its nodes, such as in a hook; `dbt retry` would do nothing and call it a success.
        return Decision(is_retry=False, why="the failed attempt lists nothing that dbt retry would run again")
    return Decision(is_retry=True, why=f"dbt retry of {len(nodes)} nodes of {view.key}", nodes=nodes)
