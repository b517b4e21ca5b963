"""The names that users give to pipelines, nodes, connections, pools and parameters. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

__all__ = ["NAME_PATTERN", "Name", "ParamName", "is_name"]

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_PARAM_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"


def is_name(text: str) -> bool:
    """True for `[a-z0-9][a-z0-9_-]{0,62}`, and nothing after it."""
    return re.fullmatch(NAME_PATTERN[1:-1], text) is not None


def _name(text: str) -> str:
    if is_name(text):
        return text
    better = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[:63]
    message = "`{name}` is not a name: use a to z, 0 to 9, `_` and `-`, at most 63, not beginning with a sign"
    context = {"name": text[:80], "help": f"for example `{better}`" if is_name(better) else ""}
    raise PydanticCustomError("CND010", message, context)


def _param_name(text: str) -> str:
    if re.fullmatch(_PARAM_PATTERN[1:-1], text):
        return text
    better = re.sub(r"\W+", "_", text, flags=re.ASCII)
    message = "`{name}` is not a parameter's name: use letters, digits and `_`, not beginning with a digit"
    context = {
        "name": text[:80],
        "help": f"for example `{better}`" if re.fullmatch(_PARAM_PATTERN[1:-1], better) else "",
    }
    raise PydanticCustomError("CND010", message, context)


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
"""Of a pipeline, node, connection or pool."""

ParamName = Annotated[str, AfterValidator(_param_name), Field(json_schema_extra={"pattern": _PARAM_PATTERN})]
"""Of a parameter: also an identifier in expressions."""
