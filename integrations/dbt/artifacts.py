"""run_results.json and sources.json of one attempt, read leniently: newer dbt adds fields and words. No judgement here.

Source: https://docs.getdbt.com/reference/artifacts/run-results-json and .../sources-json
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conductor.core.vendor import Json
from conductor.sdk import UnreadableError

__all__ = ["Node", "Results", "compiled_paths", "node_name", "parse_results"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of `results`.

    Attributes:
        unique_id: dbt's id.
        status: dbt's word, verbatim.
        message: dbt's message, else empty.
        failures: Failing rows of a test.
        execution_s: Seconds.
        rows_affected: Where the adapter says.
        relation: The table or view.
        sql: The compiled SQL, where the file has it.
    """

    unique_id: str
    status: str
    message: str = ""
    failures: int | None = None
    execution_s: float | None = None
    rows_affected: int | None = None
    relation: str | None = None
    sql: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One results file.

    Attributes:
        key: The key of the attempt that wrote it (`metadata.env.CONDUCTOR_KEY`); empty when it names none.
        invocation_id: dbt's id.
        dbt_version: dbt's version.
        elapsed_s: Seconds.
        nodes: In the file's order.
    """

    key: str
    invocation_id: str | None
    dbt_version: str | None
    elapsed_s: float | None
    nodes: tuple[Node, ...]


def parse_results(body: bytes) -> Results:
    """A results file as values.

    Raises:
        UnreadableError: It is not a results file.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"dbt's results are not readable JSON: {type(error).__name__}") from error
    rows = value.get("results") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(rows, list):
        raise UnreadableError("dbt's results file has no list of results")
    metadata = _object(value.get("metadata"))
    return Results(
        key=_text(_object(metadata.get("env")).get("CONDUCTOR_KEY")) or "",
        invocation_id=_text(metadata.get("invocation_id")),
        dbt_version=_text(metadata.get("dbt_version")),
        elapsed_s=_number(value.get("elapsed_time")),
        nodes=tuple(_node(_object(row)) for row in rows),
    )


def node_name(unique_id: str) -> str:
    """What people call the node: `unique_orders_id` of `test.shop.unique_orders_id.1360ecc70e`."""
    parts = unique_id.split(".")
    return ".".join(parts[2:]) if parts[0] == "source" else parts[2] if len(parts) > 2 else unique_id


def compiled_paths(target: Path, names: frozenset[str]) -> Mapping[str, Path]:
    """Where the compiled SQL of the named nodes is, by name; those without a file are left out."""
    found: dict[str, Path] = {}
    for path in (target / "compiled").rglob("*.sql"):
        if path.stem in names:
            found.setdefault(path.stem, path)
    return found


def _node(row: Mapping[str, Json]) -> Node:
    error = _text(row.get("error"))
    return Node(
        unique_id=_text(row.get("unique_id")) or "(no id)",
        status=_text(row.get("status")) or "(no status)",
        message=_text(row.get("message")) or error or _age(row),
        failures=_whole(row.get("failures")),
        execution_s=_number(row.get("execution_time")),
        rows_affected=_whole(_object(row.get("adapter_response")).get("rows_affected")),
        relation=_text(row.get("relation_name")),
        sql=_text(row.get("compiled_code")),
    )


def _age(row: Mapping[str, Json]) -> str:
    """How old a source is, in words; empty for what is no source."""
    age_s = _number(row.get("max_loaded_at_time_ago_in_s"))
    if age_s is None:
        return ""
    age = f"{age_s / 86_400:.1f} days" if age_s >= 86_400 else f"{age_s:.0f} s"
    return f"the newest row is {age} old"


def _object(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return round(float(value), 3) if is_number and isinstance(value, int | float) else None
