"""One table from (phase, what happened) to an error: the only place that decides whether a start may have happened.

Definite "no" only where no byte can have been processed (never connected) or where the vendor documents it. Everything
else on a start is ambiguous.
"""

from __future__ import annotations

import math
from enum import StrEnum

from conductor.core.errors import (
    AmbiguousError,
    AuthError,
    ErrorClass,
    IntegrationError,
    RefusedError,
    RejectedError,
)

__all__ = ["Failure", "Phase", "from_failure", "from_status", "retry_after_s"]

_AUTH = frozenset({401, 403})
_LATER = frozenset({425, 429})
_NO_EFFECT_REDIRECTS = frozenset({307, 308})
_MAX_RETRY_AFTER_S = 3600.0
_REQUEST_TIMEOUT = 408
_CLIENT_ERRORS = range(400, 500)
_REDIRECTS = range(300, 400)


class Phase(StrEnum):
    """What kind of call it was."""

    START = "start"
    """It may begin work at the vendor: sent once."""
    READ = "read"
    """It changes nothing, or may be repeated."""


class Failure(StrEnum):
    """How a call ended without an answer."""

    NOT_CONNECTED = "not_connected"
    """DNS, refused, TLS or connect time-out: no byte of the request was processed."""
    LOST = "lost"
    """Connected, then reset, timed out or broken off: the request may have been processed."""


def from_failure(phase: Phase, failure: Failure, why: str) -> IntegrationError:
    """The error for a call that got no answer."""
    if phase is Phase.START and failure is Failure.LOST:
        return AmbiguousError(f"the answer to the start was lost ({why}); it may have been accepted")
    return RefusedError(f"no answer: {why}")


def from_status(
    phase: Phase,
    status: int,
    why: str,
    *,
    retry_after: float | None = None,
    refused_statuses: frozenset[int] = frozenset(),
) -> IntegrationError:
    """The error for an answer whose status is not 2xx.

    Args:
        phase: The kind of call.
        status: The HTTP status.
        why: The vendor's words, secrets removed.
        retry_after: From the answer's header, in seconds, already clamped.
        refused_statuses: Statuses that this vendor documents as "nothing happened, try later".
    """
    code = str(status)
    text = f"HTTP {status}: {why}" if why else f"HTTP {status}"
    if status in _LATER:
        return RefusedError(text, retry_after_s=retry_after, code=code, error_class=ErrorClass.QUOTA)
    if status in refused_statuses:
        return RefusedError(text, retry_after_s=retry_after, code=code)
    if status in _AUTH:
        return AuthError(text, code=code)
    if status in _REDIRECTS:
        return _redirected(phase, status, text)
    if status in _CLIENT_ERRORS and status != _REQUEST_TIMEOUT:
        return RejectedError(text, code=code)
    if phase is Phase.START:
        return AmbiguousError(f"{text}; the start may have been accepted", code=code)
    return RefusedError(text, retry_after_s=retry_after, code=code)


def _redirected(phase: Phase, status: int, text: str) -> IntegrationError:
    if phase is Phase.START and status not in _NO_EFFECT_REDIRECTS:
        return AmbiguousError(f"{text}; a redirect is not followed on a start", code=str(status))
    return RejectedError(
        f"{text}; redirects are not followed: set the connection's address to the final one", code=str(status)
    )


def retry_after_s(header: str | None, *, now_epoch_s: float) -> float | None:
    """`Retry-After` in seconds, clamped to [1, 3600]; None when absent or not understood.

    Accepts seconds or an HTTP date; negative and absurd values are clamped.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        value = float(text)
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            value = parsedate_to_datetime(text).timestamp() - now_epoch_s
        except (TypeError, ValueError, IndexError):
            return None
    if math.isnan(value):
        return None
    return min(max(value, 1.0), _MAX_RETRY_AFTER_S)
