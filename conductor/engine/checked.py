"""Whether an integration answered what the protocol says: others write them, and no type checker need have seen them.

Questions only. What does not fit raises, like any other thing that went wrong while asking.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from conductor.core.errors import ErrorInfo, UnreadableError
from conductor.core.keys import canonical
from conductor.core.vendor import Absent, ExternalRef, ExternalState, FindAnswer, FindUnknown, Found, Observation
from conductor.store.codec import text_of

__all__ = ["expect", "expect_found", "expect_ref", "expect_seen"]

_T = TypeVar("_T")


def expect(kind: type[_T], answer: object) -> _T:
    """`answer`, which is a `kind`.

    Raises:
        UnreadableError: It is not.
    """
    if not isinstance(answer, kind):
        raise UnreadableError(
            f"the integration answered {type(answer).__name__} where the protocol says {kind.__name__}: mend it"
        )
    return answer


def expect_ref(answer: object) -> ExternalRef:
    """A reference with an id, by which the run can be followed.

    Raises:
        UnreadableError: It is none.
    """
    ref = expect(ExternalRef, answer)
    if not expect(str, ref.id):
        raise UnreadableError("the integration answered a reference without an id: mend it")
    return ref


def expect_found(answer: object) -> FindAnswer:
    """One of the three answers of a look-up.

    Raises:
        UnreadableError: It is none of them.
    """
    if isinstance(answer, Absent | FindUnknown):
        return answer
    return replace(expect(Found, answer), ref=expect_ref(expect(Found, answer).ref))


def expect_seen(answer: object) -> dict[str, Observation]:
    """What a poll saw, without the parts of an observation that no run can keep.

    Raises:
        UnreadableError: It is no mapping of ids to observations.
    """
    if not isinstance(answer, Mapping):
        raise UnreadableError(f"the integration's poll answered {type(answer).__name__}, no mapping: mend it")
    return {expect(str, ref_id): _kept(expect(Observation, seen)) for ref_id, seen in answer.items()}


def _kept(seen: Observation) -> Observation:
    expect(ExternalState, seen.state)
    odd: dict[str, Any] = {name: _UNSET[name] for name, fits in _FITS.items() if not fits(getattr(seen, name))}
    outputs = odd.get("outputs", seen.outputs)
    try:
        # Most looks bring none, and there are thousands of looks a second.
        _ = outputs and canonical(outputs)
    except (TypeError, ValueError):
        odd["outputs"] = json.loads(text_of(outputs))
    return replace(seen, **odd) if odd else seen


def _is_instant(at: object) -> bool:
    return at is None or (isinstance(at, datetime) and at.tzinfo is not None)


_UNSET: Mapping[str, object] = {
    "word": "",
    "message": None,
    "marker": "",
    "progress": None,
    "started_at": None,
    "ended_at": None,
    "outputs": {},
    "error": None,
    "ref": None,
}
_FITS: Mapping[str, Callable[[object], bool]] = {
    "word": lambda value: isinstance(value, str),
    "message": lambda value: isinstance(value, str | None),
    "marker": lambda value: isinstance(value, str),
    "progress": lambda value: value is None or (isinstance(value, int | float) and math.isfinite(value)),
    "started_at": _is_instant,
    "ended_at": _is_instant,
    "outputs": lambda value: isinstance(value, Mapping),
    "error": lambda value: isinstance(value, ErrorInfo | None),
    "ref": lambda value: isinstance(value, ExternalRef | None),
}
