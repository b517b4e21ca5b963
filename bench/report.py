"""Turns verdicts into the one table and into build/bench.json. Pure but for writing that file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figures, Verdict
from bench.targets import PEERS, PEERS_CAPTION

__all__ = ["Result", "as_json", "as_table", "write_json"]

_COLUMNS = ("", "what", "target", "ours", "floor", "ratio", "holds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One workload, measured.

    Attributes:
        name: As in the table.
        title: What it is.
        ours: Conductor's figures.
        floor: The bare loop's; None where there is none.
        verdicts: One for each target.
        load: The machine's load average (1 minute) before and after.
    """

    name: str
    title: str
    ours: Figures
    floor: Figures | None
    verdicts: Sequence[Verdict]
    load: tuple[float, float]


def as_table(results: Sequence[Result]) -> str:
    """The table, the peers below it."""
    rows = [list(_COLUMNS)]
    for result in results:
        rows += [_row(result, verdict) for verdict in result.verdicts]
        rows.append(_costs(result))
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    shown = {result.name.split("-")[0] for result in results}
    peers = [f"  {who:<12} {where:<8} {what}" for who, where, what in PEERS if where[:2] in {one[:2] for one in shown}]
    return "\n".join([*lines, *(["", PEERS_CAPTION, *peers] if peers else [])])


def _row(result: Result, verdict: Verdict) -> list[str]:
    target = verdict.target
    bound = f"<= {target.at_most:g}" if target.at_most is not None else f">= {target.at_least:,.0f}"
    return [
        result.name,
        target.words,
        f"{bound} x floor" if target.is_ratio else bound,
        _number(verdict.ours),
        _number(verdict.floor),
        _number(verdict.ratio),
        "yes" if verdict.holds else "NO",
    ]


def _costs(result: Result) -> list[str]:
    parts = (("s", "elapsed_s"), ("CPU s", "cpu_s"), ("MB", "rss_mb"), ("starts", "starts"), ("reads", "reads"))

    def words(figures: Figures | None) -> str:
        known = [(unit, figures.get(name)) for unit, name in parts] if figures is not None else []
        return ", ".join(f"{_number(value)} {unit}" for unit, value in known if value)

    return ["", result.title, "", words(result.ours), words(result.floor), "", ""]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def as_json(results: Sequence[Result]) -> dict[str, object]:
    """Everything that was measured, by workload."""
    return {
        "workloads": {
            result.name: {
                "title": result.title,
                "ours": dict(result.ours),
                "floor": None if result.floor is None else dict(result.floor),
                "load": list(result.load),
                "targets": [_target(verdict) for verdict in result.verdicts],
                "holds": all(verdict.holds for verdict in result.verdicts),
            }
            for result in results
        },
        "peers": {"caption": PEERS_CAPTION, "figures": [list(peer) for peer in PEERS]},
    }


def _target(verdict: Verdict) -> dict[str, object]:
    target = verdict.target
    return {
        "figure": target.figure,
        "words": target.words,
        "at_most": target.at_most,
        "at_least": target.at_least,
        "is_ratio": target.is_ratio,
        "ours": verdict.ours,
        "floor": verdict.floor,
        "ratio": verdict.ratio,
        "holds": verdict.holds,
    }


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write `as_json` to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(results), indent=2) + "\n", encoding="utf-8")
