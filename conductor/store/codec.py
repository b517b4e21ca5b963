"""Rows from values and values from rows. Nested parts are JSON; what is unset is left out; unknown fields are ignored.

A body written by an older version must load: fields are only ever added, with defaults. Nothing that a vendor says may
stop a commit: text that a database cannot hold is replaced, and values that JSON cannot hold become text or null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.keys import digest
from conductor.core.plan import Plan
from conductor.core.run import Attempt, NodeRun, Run, Subject, Transition, Trigger
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import Baseline, ExternalRef, ExternalState, Json

__all__ = [
    "attempt_from_row",
    "attempt_row",
    "external_key",
    "instant",
    "micros",
    "node_from_row",
    "node_row",
    "run_from_row",
    "run_row",
    "storable",
    "text_of",
    "transition_from_row",
    "transition_row",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONGEST_KEY = 400
"""Characters of an external id in the unique index, whose rows PostgreSQL limits to 2,704 bytes."""


def micros(at: datetime | None) -> int | None:
    """An instant as the tables keep it."""
    return None if at is None else (at - _EPOCH) // _MICROSECOND


def instant(value: int | None) -> datetime | None:
    """An instant from a table."""
    return None if value is None else _EPOCH + timedelta(microseconds=value)


def storable(text: str) -> str:
    """`text` with what PostgreSQL and UTF-8 cannot hold (NUL, lone surrogates) replaced by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def external_key(external_id: str) -> str:
    """A vendor's id as the unique index keeps it: itself, or where it is too long its beginning and its digest."""
    text = storable(external_id)
    if len(text) <= _LONGEST_KEY:
        return text
    return f"{text[:_LONGEST_KEY]}…{digest(text)}"


def text_of(value: object) -> str:
    """`value` as JSON text that every database holds."""
    try:
        text = _encode(value)
    except (TypeError, ValueError):
        return _encode(_plain(value))
    if "\\u0000" in text or (not text.isascii() and _UNSTORABLE.search(text)):
        return _encode(_plain(value))
    return text


def _plain(value: object) -> Json:
    match value:
        case str():
            return storable(str(value))
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {storable(str(key)): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case AbstractSet():
            return sorted((_plain(part) for part in value), key=str)
        case _:
            return storable(str(value))


_ATTEMPT_INSTANTS = (
    "intended_at",
    "first_sent_at",
    "permit_at",
    "not_before",
    "settle_until",
    "find_at",
    "running_at",
    "seen_at",
    "marker_at",
    "vendor_started_at",
    "cancel_asked_at",
    "cancel_at",
    "ended_at",
)
_ATTEMPT_PLAIN: dict[str, Json] = {
    "scope": "",
    "send_no": 0,
    "refusals": 0,
    "find_no": 0,
    "adopted": "",
    "seen_word": "",
    "seen_message": None,
    "progress": None,
    "marker": "",
    "cancel_no": 0,
}
"""What is kept as it is, with the default that is left out."""


def attempt_row(run: Run, node: str, attempt: Attempt) -> dict[str, Any]:
    """The row of one attempt."""
    body: dict[str, Any] = {"settings": attempt.settings}
    for name in _ATTEMPT_INSTANTS:
        at = getattr(attempt, name)
        if at is not None:
            body[name] = (at - _EPOCH) // _MICROSECOND
    for name, default in _ATTEMPT_PLAIN.items():
        value = getattr(attempt, name)
        if value != default:
            body[name] = value
    for name, ref in (("resume", attempt.resume), ("ref", attempt.ref)):
        if ref is not None:
            body[name] = _ref(ref)
    if attempt.baseline is not None:
        running = attempt.baseline.running
        body["baseline"] = {
            "data": attempt.baseline.data,
            "is_busy": attempt.baseline.is_busy,
            "running": _ref(running) if running else None,
        }
    if attempt.seen_state is not None:
        body["seen_state"] = attempt.seen_state.value
    if attempt.cancel_cause is not None:
        body["cancel_cause"] = attempt.cancel_cause.value
    if attempt.error is not None:
        body["error"] = _error(attempt.error)
    if attempt.outputs:
        body["outputs"] = attempt.outputs
    return {
        "run_id": run.id,
        "node": node,
        "no": attempt.no,
        "key": attempt.key,
        "state": attempt.state.value,
        "outcome": attempt.outcome.value if attempt.outcome else None,
        "connection": run.plan.nodes[node].connection,
        "external_id": external_key(attempt.ref.id) if attempt.ref else None,
        "body": text_of(body),
    }


def attempt_from_row(row: Mapping[str, Any]) -> Attempt:
    """An attempt from its row."""
    body = cast("dict[str, Any]", json.loads(row["body"]))
    values: dict[str, Any] = {name: body[name] for name in _ATTEMPT_PLAIN if name in body}
    values |= {name: instant(body[name]) for name in _ATTEMPT_INSTANTS if name in body}
    baseline = body.get("baseline")
    if baseline is not None:
        running = baseline["running"]
        values["baseline"] = Baseline(
            data=baseline["data"], is_busy=baseline["is_busy"], running=_ref_from(running) if running else None
        )
    for name in ("resume", "ref"):
        if name in body:
            values[name] = _ref_from(body[name])
    if "seen_state" in body:
        values["seen_state"] = ExternalState(body["seen_state"])
    if "cancel_cause" in body:
        values["cancel_cause"] = CancelCause(body["cancel_cause"])
    if "error" in body:
        values["error"] = _error_from(body["error"])
    values.setdefault("scope", "")
    return Attempt(
        no=row["no"],
        key=row["key"],
        state=AttemptState(row["state"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        settings=body["settings"],
        outputs=body.get("outputs", {}),
        **values,
    )


_NODE_INSTANTS = ("retry_at", "ready_at", "started_at", "ended_at")


def node_row(run_id: str, node: NodeRun) -> dict[str, Any]:
    """The row of one node; its attempts have rows of their own."""
    body: dict[str, Any] = {}
    for name in _NODE_INSTANTS:
        at = getattr(node, name)
        if at is not None:
            body[name] = (at - _EPOCH) // _MICROSECOND
    if node.budget_from:
        body["budget_from"] = node.budget_from
    if node.reason:
        body["reason"] = node.reason
    if node.outputs:
        body["outputs"] = node.outputs
    if node.error is not None:
        body["error"] = _error(node.error)
    return {
        "run_id": run_id,
        "node": node.id,
        "state": node.state.value,
        "attempts": node.attempts,
        "body": text_of(body) if body else "{}",
    }


def node_from_row(row: Mapping[str, Any], attempt: Attempt | None) -> NodeRun:
    """A node from its row and its newest attempt."""
    body = cast("dict[str, Any]", json.loads(row["body"]))
    return NodeRun(
        id=row["node"],
        state=NodeState(row["state"]),
        attempt=attempt,
        attempts=row["attempts"],
        budget_from=body.get("budget_from", 0),
        reason=body.get("reason", ""),
        outputs=body.get("outputs", {}),
        error=_error_from(body["error"]) if "error" in body else None,
        **{name: instant(body.get(name)) for name in _NODE_INSTANTS},
    )


def run_row(run: Run, *, wake_at: datetime | None) -> dict[str, Any]:
    """The row of one run."""
    return {
        "id": run.id,
        "pipeline": run.plan.name,
        "version": run.plan.version,
        "trigger": run.trigger.value,
        "state": run.state.value,
        "slot": micros(run.slot),
        "logical_at": micros(run.logical_at),
        "created_at": micros(run.created_at),
        "started_at": micros(run.started_at),
        "ended_at": micros(run.ended_at),
        "wake_at": micros(wake_at),
        "is_paused": run.is_paused,
        "cancel_cause": run.cancel_cause.value if run.cancel_cause else None,
        "priority": run.priority,
        "revision": run.revision,
        "epoch": run.epoch,
        "seq": run.seq,
        "actor": storable(run.actor),
        "reason": storable(run.reason),
        "params": text_of(dict(run.params)),
    }


def run_from_row(row: Mapping[str, Any], *, plan: Plan, nodes: Mapping[str, NodeRun]) -> Run:
    """A run from its row, its plan and its nodes (put into the plan's order)."""
    created_at, logical_at = instant(row["created_at"]), instant(row["logical_at"])
    assert created_at is not None
    assert logical_at is not None
    return Run(
        id=row["id"],
        plan=plan,
        trigger=Trigger(row["trigger"]),
        state=RunState(row["state"]),
        created_at=created_at,
        logical_at=logical_at,
        nodes={node: nodes[node] for node in plan.nodes},
        slot=instant(row["slot"]),
        params=json.loads(row["params"]),
        started_at=instant(row["started_at"]),
        ended_at=instant(row["ended_at"]),
        is_paused=bool(row["is_paused"]),
        cancel_cause=CancelCause(row["cancel_cause"]) if row["cancel_cause"] else None,
        reason=row["reason"],
        actor=row["actor"],
        priority=row["priority"],
        revision=row["revision"],
        epoch=row["epoch"],
        seq=row["seq"],
    )


def transition_row(run_id: str, transition: Transition) -> dict[str, Any]:
    """The journal's row of one transition."""
    return {
        "run_id": run_id,
        "seq": transition.seq,
        "at": (transition.at - _EPOCH) // _MICROSECOND,
        "subject": transition.subject.value,
        "node": transition.node,
        "attempt_no": transition.attempt_no,
        "before": transition.before,
        "after": transition.after,
        "cause": transition.cause.value,
        "detail": text_of(dict(transition.detail)) if transition.detail else "{}",
    }


def transition_from_row(row: Mapping[str, Any]) -> Transition:
    """A transition from the journal."""
    at = instant(row["at"])
    assert at is not None
    return Transition(
        at=at,
        seq=row["seq"],
        subject=Subject(row["subject"]),
        node=row["node"],
        attempt_no=row["attempt_no"],
        before=row["before"],
        after=row["after"],
        cause=Cause(row["cause"]),
        detail=json.loads(row["detail"]),
    )


def _ref(ref: ExternalRef) -> dict[str, Json]:
    return {"id": ref.id, "data": dict(ref.data), "link": ref.link}


def _ref_from(value: Mapping[str, Any]) -> ExternalRef:
    return ExternalRef(id=value["id"], data=value["data"], link=value["link"])


def _error(error: ErrorInfo) -> dict[str, Json]:
    value: dict[str, Json] = {"class": error.error_class.value, "message": error.message}
    for name in ("code", "link", "detail"):
        part = getattr(error, name)
        if part is not None:
            value[name] = part
    return value


def _error_from(value: Mapping[str, Any]) -> ErrorInfo:
    return ErrorInfo(
        error_class=ErrorClass(value["class"]),
        message=value["message"],
        code=value.get("code"),
        link=value.get("link"),
        detail=value.get("detail"),
    )
