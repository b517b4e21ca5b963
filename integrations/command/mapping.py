"""What an ended command means: exit code and output file → our state, outputs and error. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.vendor import ExternalState, Json, Observation
from conductor.sdk.child_view import ChildView
from integrations.command.config import ExitRule

__all__ = ["OUTPUT_CAP_BYTES", "observe_exit", "read_outputs", "rule_for"]

OUTPUT_CAP_BYTES = 64 * 1024
_MESSAGE_LINES = 3
_DETAIL_LINES = 50

_RULES: Mapping[int, ExitRule] = {
    0: ExitRule(state="succeeded"),
    126: ExitRule(state="failed", error_class=ErrorClass.CONFIG),
    127: ExitRule(state="failed", error_class=ErrorClass.CONFIG),
}
"""Only what every program agrees on: 126 is "cannot be executed" and 127 "not found".

Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html (2.8.2, exit status for commands).
"""


def rule_for(code: int, rules: Mapping[str, Json]) -> ExitRule:
    """The node's rule for `code`, else the common one, else failed for an unknown reason."""
    written = rules.get(str(code))
    if written is not None:
        return ExitRule.model_validate(written)
    return _RULES.get(code, ExitRule(state="failed"))


def read_outputs(body: bytes | None) -> tuple[Mapping[str, Json], str]:
    """The object of an output file, or nothing and why it was not taken; None is no file, which is fine."""
    if body is None or not body.strip():
        return {}, ""
    if len(body) > OUTPUT_CAP_BYTES:
        return {}, f"its outputs are longer than {OUTPUT_CAP_BYTES // 1024} KiB; write less to CONDUCTOR_OUTPUT"
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}, "its outputs are not JSON; write one object to CONDUCTOR_OUTPUT"
    if not isinstance(value, dict):
        return {}, "its outputs are not a JSON object; write one to CONDUCTOR_OUTPUT"
    return value, ""


def observe_exit(
    view: ChildView, *, rules: Mapping[str, Json], output: bytes | None, lines: Sequence[str]
) -> Observation:
    """What a command that exited by itself came to.

    Args:
        view: With an exit record whose outcome is `exited`.
        rules: `exit_codes` of the node, dumped.
        output: The output file, at most one byte longer than its cap; None when there is none.
        lines: The end of its log, secrets removed.
    """
    assert view.exit is not None
    code = view.exit.code if view.exit.code is not None else -1
    rule = rule_for(code, rules)
    values, trouble = read_outputs(output)
    state = ExternalState(rule.state)
    error = None
    if state is not ExternalState.SUCCEEDED:
        error = _error(code, rule, lines)
    elif trouble:
        # Succeeded, but what others may need is not there: to be seen, and no reason to do the work again.
        state = ExternalState.WARNED
        error = ErrorInfo(error_class=ErrorClass.DATA, message=f"the command succeeded, but {trouble}", code="outputs")
    return Observation(
        state=state,
        word=f"exit {code}",
        message=error.message if error else None,
        marker=str(view.log_bytes),
        started_at=view.started_at,
        ended_at=view.exit.ended_at,
        outputs={"exit_code": code, "values": dict(values)},
        error=error,
    )


def _error(code: int, rule: ExitRule, lines: Sequence[str]) -> ErrorInfo:
    words = [line for line in lines if line.strip()]
    last = " | ".join(words[-_MESSAGE_LINES:]) or "it wrote nothing"
    return ErrorInfo(
        error_class=rule.error_class,
        message=f"the command ended with exit code {code}: {last}"[:4000],
        code=f"exit {code}",
        detail="\n".join(words[-_DETAIL_LINES:])[-16_000:] or None,
    )


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
