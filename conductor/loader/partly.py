"""Validates a file that has mistakes: names them all, cuts them out, and gives the rest, so that it is checked too."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from conductor.core.vendor import Json
from conductor.loader.diagnostics import Report
from conductor.loader.problems import report_problems
from conductor.loader.source import Where

__all__ = ["read_partly"]

_ROUNDS = 4
_Model = TypeVar("_Model", bound=BaseModel)


def read_partly(
    model: type[_Model],
    data: Json,
    *,
    report: Report,
    stand_ins: Mapping[str, Json],
    ignore: Iterable[Where] = (),
) -> _Model | None:
    """The model of what is right in `data`; None when too little is.

    Args:
        model: Of the whole file.
        data: Plain JSON.
        report: Gets a diagnostic for each mistake.
        stand_ins: Values for required fields at the top that are missing, so that the rest can be read.
        ignore: Places whose value is not known yet; cut out when they do not fit, but not reported.
    """
    for attempt in range(_ROUNDS):
        try:
            return model.model_validate(data)
        except ValidationError as error:
            if attempt == 0:
                report_problems(report, error, data, model=model, ignore=ignore)
                if not isinstance(data, Mapping):
                    return None
                data = copy.deepcopy(data)
            if not _cut(data, error, stand_ins):
                return None
    return None


def _cut(data: Json, error: ValidationError, stand_ins: Mapping[str, Json]) -> bool:
    """Remove the nearest field above each error; false when nothing would be left."""
    assert isinstance(data, dict)
    for item in error.errors(include_url=False, include_input=False):
        loc = item["loc"]
        is_missing = item["type"] == "missing"
        if is_missing and len(loc) == 1 and loc[0] in stand_ins:
            data[str(loc[0])] = stand_ins[str(loc[0])]
        elif not _remove(data, loc[:-1] if is_missing else loc):
            return False
    return True


def _remove(data: Json, loc: Where) -> bool:
    """Remove the deepest field on the way of `loc`, whole lists included."""
    last: tuple[dict[str, Json], str] | None = None
    for step in loc:
        if isinstance(data, dict) and step in data:
            last = (data, str(step))
            data = data[str(step)]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            break
    if last is not None:
        last[0].pop(last[1], None)
    return bool(loc)
