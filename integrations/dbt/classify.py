"""Why a node or a whole dbt command failed, by what would heal it. Pure; words of dbt and of common warehouses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from conductor.core.errors import ErrorClass

__all__ = ["class_of_node", "class_of_words", "worst"]

_TRANSIENT = re.compile(
    r"connection (?:refused|reset|timed out|closed|already closed|aborted)|could not connect|can't connect"
    r"|failed to connect|unable to connect|server closed the connection|lost connection|broken pipe"
    r"|\btimed? ?out\b|\btimeout\b|temporarily unavailable|service unavailable|too many connections"
    r"|deadlock|could not serialize|serialization failure|lock wait|could not set lock on file|conflicting lock"
    r"|name resolution|name or service not known|network is unreachable|no route to host"
    r"|\b50[234]\b (?:bad gateway|service|gateway)|warehouse .* suspended|cluster .* (?:starting|pending)",
    re.IGNORECASE,
)
_AUTH = re.compile(
    r"password authentication failed|authentication (?:failed|error)|incorrect username or password"
    r"|invalid credentials|permission denied|insufficient privileges|access denied|not authorized|unauthori[sz]ed"
    r"|\b40[13]\b (?:client|forb)|token (?:is )?(?:expired|invalid)",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"quota exceeded|rate limit|resources exceeded|too many requests", re.IGNORECASE)
_CONFIG = re.compile(
    r"compilation error|parsing error|dependency error|could not find profile|dbt_project\.ya?ml|no such option"
    r"|usage: dbt|credentials in profile|env var required|is not installed",
    re.IGNORECASE,
)
# What a retry can heal comes last: one cause that needs a person makes the retry of all others useless.
_ORDER = (
    ErrorClass.CONFIG,
    ErrorClass.AUTH,
    ErrorClass.DATA,
    ErrorClass.TIMEOUT,
    ErrorClass.UNKNOWN,
    ErrorClass.QUOTA,
    ErrorClass.TRANSIENT,
)


def class_of_node(unique_id: str, status: str, message: str) -> ErrorClass:
    """The class of one failed node: a failed test is data; an error is what its message says."""
    if status == "fail":
        return ErrorClass.DATA
    if status == "error" and unique_id.startswith("source."):
        return ErrorClass.DATA  # stale: the source was read and is too old
    if status == "warn":
        return ErrorClass.DATA
    return class_of_words(message, otherwise=ErrorClass.UNKNOWN)


def class_of_words(words: str, *, otherwise: ErrorClass) -> ErrorClass:
    """The class that dbt's or the warehouse's words tell, else `otherwise`."""
    for pattern, error_class in (
        (_CONFIG, ErrorClass.CONFIG),
        (_AUTH, ErrorClass.AUTH),
        (_QUOTA, ErrorClass.QUOTA),
        (_TRANSIENT, ErrorClass.TRANSIENT),
    ):
        if pattern.search(words):
            return error_class
    return otherwise


def worst(classes: Iterable[ErrorClass]) -> ErrorClass:
    """The class that a retry heals least; unknown for none."""
    found = set(classes)
    return next((error_class for error_class in _ORDER if error_class in found), ErrorClass.UNKNOWN)
