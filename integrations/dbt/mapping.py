"""What an ended dbt command means: exit code, results and log → our state, outputs and error. Pure.

The exit code and the results must agree before anything is green. Source:
https://docs.getdbt.com/reference/exit-codes and https://docs.getdbt.com/reference/artifacts/run-results-json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.vendor import ExternalState, Observation
from conductor.sdk.child_view import ChildView
from integrations.dbt.artifacts import Node, Results, node_name
from integrations.dbt.classify import class_of_node, class_of_words, worst
from integrations.dbt.config import NodeFailure, NodeOutcome, Outputs

__all__ = ["MAX_FAILURES", "STATUSES", "Ended", "Kind", "judge", "kind_of", "outputs_of", "retryable"]

MAX_FAILURES = 50
"""No more failed nodes than this are told one by one."""
_MAX_NODES = 200
_MAX_MESSAGE = 600
_IN_MESSAGE = 3


class Kind(StrEnum):
    """What dbt's word for one node means to us."""

    GOOD = "good"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


STATUSES: Mapping[str, Kind] = {
    "success": Kind.GOOD,
    "pass": Kind.GOOD,
    "no-op": Kind.GOOD,
    "reused": Kind.GOOD,
    "warn": Kind.WARNED,
    "error": Kind.FAILED,
    "fail": Kind.FAILED,
    "runtime error": Kind.FAILED,
    "partial success": Kind.FAILED,
    "skipped": Kind.SKIPPED,
}
"""Every word of dbt 1.9 to 1.12 and 2. Source: dbt/artifacts/schemas/results.py; `reused` is of dbt 2."""

_RETRYABLE = frozenset({"error", "fail", "skipped", "runtime error", "partial success"})


def kind_of(status: str) -> Kind:
    """The kind of a status; words that nobody knows are `unknown`, never good."""
    return STATUSES.get(status, Kind.UNKNOWN)


def retryable(results: Results, *, warn_error: bool) -> tuple[str, ...]:
    """The nodes that `dbt retry` would run again; hooks are never among them.

    Source: RETRYABLE_STATUSES in dbt/task/retry.py.
    """
    wanted = _RETRYABLE | {"warn"} if warn_error else _RETRYABLE
    found = (node.unique_id for node in results.nodes if node.status in wanted)
    return tuple(unique_id for unique_id in found if not unique_id.startswith("operation."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Everything that is known of a dbt command that exited by itself.

    Attributes:
        view: The child, with an exit record.
        results: Its own results file; None when it left none, or none that names this attempt.
        trouble: Why there are no results, for people.
        words: What dbt called errors in its log.
        logged: Sources whose check began, by the log: dbt's word and message; sources.json lacks those that crashed.
        expected: Nodes that a resumed attempt had to run again.
        resumed_from: The attempt that was resumed; None for a full run.
        sql: Compiled SQL by unique id, with its path below the target folder, for nodes that failed.
    """

    view: ChildView
    results: Results | None = None
    trouble: str = ""
    words: tuple[str, ...] = ()
    logged: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    resumed_from: str | None = None
    sql: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def judge(ended: Ended) -> Observation:
    """The final observation. Green needs exit code 0, this attempt's own results, and known good words in them."""
    assert ended.view.exit is not None
    code = ended.view.exit.code
    nodes = _nodes(ended)
    bad = [node for node in nodes if kind_of(node.status) is Kind.FAILED]
    odd = [node for node in nodes if kind_of(node.status) is Kind.UNKNOWN]
    missed = sorted({*ended.expected} - {node.unique_id for node in nodes}) if ended.results is not None else []
    error: ErrorInfo | None = None
    state = ExternalState.SUCCEEDED
    if bad or code not in {0, None} or missed:
        state, error = ExternalState.FAILED, _error(ended, bad=bad, missed=missed, nodes=nodes)
    elif odd:
        words = ", ".join(f"{node_name(node.unique_id)} is {node.status!r}" for node in odd[:_IN_MESSAGE])
        state, error = ExternalState.WARNED, _warning(f"dbt ended well, but says words that are not known: {words}")
    elif ended.results is None:
        state, error = ExternalState.WARNED, _warning(f"dbt ended well, but {ended.trouble}")
    elif not nodes:
        message = "dbt ran nothing: the selection matches no node; mend `select`, or the project's models are disabled"
        state, error = ExternalState.WARNED, _warning(message)
    return Observation(
        state=state,
        word=f"exit {code}",
        message=error.message if error else _summary(nodes),
        progress=1.0 if state is not ExternalState.FAILED else None,
        marker=str(ended.view.log_bytes),
        started_at=ended.view.started_at,
        ended_at=ended.view.exit.ended_at,
        outputs=outputs_of(ended),
        error=error,
    )


def outputs_of(ended: Ended) -> Mapping[str, object]:
    """The outputs model as JSON; also what a cancelled run got done."""
    nodes, results = _nodes(ended), ended.results
    kinds = Counter(kind_of(node.status) for node in nodes)
    told = [node for node in nodes if kind_of(node.status) not in {Kind.GOOD, Kind.SKIPPED}]
    told.sort(key=lambda node: (kind_of(node.status) is not Kind.FAILED, node.unique_id))
    slow = sorted(nodes, key=lambda node: (-(node.execution_s or 0.0), node.unique_id))
    return Outputs(
        exit_code=ended.view.exit.code if ended.view.exit else None,
        invocation_id=results.invocation_id if results else None,
        dbt_version=results.dbt_version if results else None,
        elapsed_s=results.elapsed_s if results else None,
        total=len(nodes),
        succeeded=kinds[Kind.GOOD],
        warned=kinds[Kind.WARNED],
        failed=kinds[Kind.FAILED] + kinds[Kind.UNKNOWN],
        skipped=kinds[Kind.SKIPPED],
        counts=dict(sorted(Counter(node.status for node in nodes).items())),
        failures=[_failure(node, ended) for node in told[:MAX_FAILURES]],
        nodes=[
            NodeOutcome(
                unique_id=node.unique_id,
                status=node.status,
                execution_s=node.execution_s,
                rows_affected=node.rows_affected,
                relation=node.relation,
            )
            for node in slow[:_MAX_NODES]
        ],
        resumed_from=ended.resumed_from,
    ).model_dump(mode="json")


def _nodes(ended: Ended) -> tuple[Node, ...]:
    listed = ended.results.nodes if ended.results else ()
    known = {node.unique_id for node in listed}
    crashed = tuple(
        Node(unique_id=unique_id, status=word or "runtime error", message=message)
        for unique_id, (word, message) in sorted(ended.logged.items())
        if unique_id not in known
    )
    return (*listed, *crashed)


def _failure(node: Node, ended: Ended) -> NodeFailure:
    path, _ = ended.sql.get(node.unique_id, (None, ""))
    return NodeFailure(
        unique_id=node.unique_id,
        status=node.status,
        message=node.message[:_MAX_MESSAGE],
        failures=node.failures,
        compiled_path=path or None,
    )


def _summary(nodes: tuple[Node, ...]) -> str:
    kinds = Counter(kind_of(node.status) for node in nodes)
    warned = [node_name(node.unique_id) for node in nodes if kind_of(node.status) is Kind.WARNED]
    text = f"{kinds[Kind.GOOD]} of {len(nodes)} fine"
    return f"{text}, {len(warned)} warned: {', '.join(warned[:_IN_MESSAGE])}" if warned else text


def _warning(message: str) -> ErrorInfo:
    return ErrorInfo(error_class=ErrorClass.UNKNOWN, message=message)


def _error(ended: Ended, *, bad: list[Node], missed: list[str], nodes: tuple[Node, ...]) -> ErrorInfo:
    code = ended.view.exit.code if ended.view.exit else None
    if bad:
        lines = [f"{node_name(node.unique_id)}: {_first(node.message) or node.status}" for node in bad[:_IN_MESSAGE]]
        more = f"; and {len(bad) - _IN_MESSAGE} more" if len(bad) > _IN_MESSAGE else ""
        message = f"{len(bad)} of {len(nodes)} failed: {'; '.join(lines)}{more}"
        error_class = worst(class_of_node(node.unique_id, node.status, node.message) for node in bad)
        return ErrorInfo(
            error_class=error_class, message=message[:4000], code=f"exit {code}", detail=_detail(ended, bad)
        )
    if missed and code == 0:
        names = ", ".join(node_name(unique_id) for unique_id in missed[:_IN_MESSAGE])
        message = f"dbt retry ended without running {len(missed)} nodes that had failed ({names}); run it in full"
        return ErrorInfo(error_class=ErrorClass.CONFIG, message=message, code=f"exit {code}")
    words = " | ".join(ended.words) or ended.trouble or "it said nothing"
    otherwise = ErrorClass.CONFIG if code == 2 else ErrorClass.UNKNOWN
    return ErrorInfo(
        error_class=class_of_words(words, otherwise=otherwise),
        message=f"dbt ended with exit code {code}: {words}"[:4000],
        code=f"exit {code}",
        detail="\n".join(ended.words)[:16_000] or None,
    )


def _detail(ended: Ended, bad: list[Node]) -> str:
    """Each failure in full: the name, dbt's message, the compiled SQL."""
    parts: list[str] = []
    for node in bad[:MAX_FAILURES]:
        path, sql = ended.sql.get(node.unique_id, ("", ""))
        head = f"-- {node.unique_id} ({node.status})" + (f" {path}" if path else "")
        parts.append("\n".join(part for part in (head, node.message.strip(), sql.strip()) if part))
    return "\n\n".join(parts)[:16_000]


def _first(message: str) -> str:
    """The lines of a message that say something, as one: the first names the node again, the second the reason."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
