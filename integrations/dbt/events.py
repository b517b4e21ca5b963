"""dbt's JSON log, one event a line: progress while it runs, its own words when it could not. Pure.

Lines that are no events (a traceback, a usage text) are kept as they are. Source:
https://docs.getdbt.com/reference/events-logging
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from conductor.core.vendor import Json

__all__ = ["Progress", "advance", "error_words", "freshness_of", "readable"]

_ENDED = frozenset(
    {
        "LogFreshnessResult",
        "LogFunctionResult",
        "LogModelResult",
        "LogNodeNoOpResult",
        "LogNodeResult",
        "LogSeedResult",
        "LogSkipBecauseError",
        "LogSnapshotResult",
        "LogTestResult",
        "SkippingDetails",
    }
)
_ERRORS = frozenset({"error", "critical"})
_MAX_NAME = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far dbt is; small enough to live in a ref.

    Attributes:
        offset: How much of the log was read.
        done: Nodes that ended.
        total: Nodes to run; 0 while dbt parses.
        last: The last thing that dbt said about a node.
    """

    offset: int = 0
    done: int = 0
    total: int = 0
    last: str = ""

    @property
    def fraction(self) -> float | None:
        """0.0 to 1.0; None while the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def words(self) -> str | None:
        """The same for people."""
        return f"{self.done} of {self.total}: {self.last}" if self.total else None


def advance(progress: Progress, text: str, next_offset: int) -> Progress:
    """`progress` after these further lines."""
    done, total, last = progress.done, progress.total, progress.last
    for event in _events(text.splitlines()):
        info, data = _part(event, "info"), _part(event, "data")
        if str(info.get("name")).startswith("LogHook"):
            continue  # hooks are counted by themselves and would spoil the total
        count = data.get("total", data.get("num_models"))
        if isinstance(count, int) and isinstance(data.get("index"), int):
            total = max(total, count)
            last = str(data.get("description") or info.get("msg") or "")[:_MAX_NAME]
        if info.get("name") in _ENDED:
            done += 1
    return Progress(offset=next_offset, done=min(done, total) if total else done, total=total, last=last)


def error_words(lines: Sequence[str]) -> tuple[str, ...]:
    """What dbt called an error, oldest first; where it logged none, the last lines that are no events."""
    found: list[str] = []
    raw: list[str] = []
    for line in lines:
        event = _event(line)
        if event is None:
            if line.strip():
                raw.append(line.strip())
            continue
        info = _part(event, "info")
        message = str(info.get("msg") or "").strip()
        if info.get("level") in _ERRORS and message:
            found.append(message)
    return tuple(found) or tuple(raw[-5:])


def freshness_of(lines: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """Source's unique id → dbt's word and message, for every source whose check began; empty while none is logged.

    sources.json leaves out the sources whose query crashed; the log does not.
    """
    words: dict[str, str] = {}
    messages: dict[str, str] = {}
    for event in _events(lines):
        info, data = _part(event, "info"), _part(event, "data")
        unique_id = _part(data, "node_info").get("unique_id")
        if not isinstance(unique_id, str) or not unique_id.startswith("source."):
            continue
        if info.get("name") == "LogStartLine":
            words.setdefault(unique_id, "")
        elif info.get("name") == "LogFreshnessResult":
            words[unique_id] = str(data.get("status") or "")
        elif info.get("name") == "RunResultError":
            messages[unique_id] = str(data.get("msg") or "")
    return {unique_id: (word, messages.get(unique_id, "")) for unique_id, word in words.items()}


def readable(line: str) -> str:
    """An event as a line for people, empty for one that only spaces the others; anything else as it is."""
    event = _event(line)
    if event is None:
        return line
    info = _part(event, "info")
    if not str(info.get("msg") or "").strip():
        return ""
    time = str(info.get("ts") or "")[11:19]
    return f"{time} {info.get('level') or '':<5} {info.get('msg')}".rstrip()


def _events(lines: Iterable[str]) -> Iterable[Mapping[str, Json]]:
    for line in lines:
        event = _event(line)
        if event is not None:
            yield event


def _event(line: str) -> Mapping[str, Json] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("info"), dict) else None


def _part(value: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    part = value.get(name)
    return part if isinstance(part, dict) else {}
