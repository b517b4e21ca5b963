"""Every error Conductor raises on purpose, split first by what to do about it, then by whose fault it is.

A message reads *what failed: why; what to do*. It names the pipeline, node or connection and never holds a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conductor.core.vendor import ExternalRef

__all__ = [
    "AmbiguousError",
    "AuthError",
    "BusyError",
    "ConductorError",
    "ConflictError",
    "DefinitionError",
    "ErrorClass",
    "ErrorInfo",
    "ExpressionError",
    "IntegrationError",
    "InvalidTransitionError",
    "NotAllowedError",
    "NotFoundError",
    "RefusedError",
    "RejectedError",
    "RequestError",
    "SchemaVersionError",
    "StaleVersionError",
    "StoreError",
    "StoreUnavailableError",
    "UnreadableError",
]


class ErrorClass(StrEnum):
    """Why an attempt failed, by what would heal it. Retry policies choose by this word."""

    TRANSIENT = "transient"
    """The vendor or the network hiccuped; the same request may work later."""
    QUOTA = "quota"
    """A limit was reached; later will work."""
    AUTH = "auth"
    """Credentials or permissions; a person must act."""
    CONFIG = "config"
    """The request itself is wrong; a person must change the definition."""
    DATA = "data"
    """The work ran and the data or the models are wrong."""
    TIMEOUT = "timeout"
    """One of our own stated limits passed."""
    UNKNOWN = "unknown"
    """The vendor gave no reason that we can class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """A failure as people read it and as retries judge it.

    Attributes:
        error_class: What would heal it.
        message: The vendor's own first words, secrets removed, at most 4,000 characters.
        code: The vendor's own code, or an HTTP status, when there is one.
        link: The vendor's page about it.
        detail: More of the vendor's words (failing SQL, rejected rows), at most 16,000 characters.
    """

    error_class: ErrorClass
    message: str
    code: str | None = None
    link: str | None = None
    detail: str | None = None


class ConductorError(Exception):
    """The root of all errors that Conductor raises on purpose."""


class DefinitionError(ConductorError):
    """A pipeline, project or connection file is wrong. Carries the diagnostics that name each place.

    Attributes:
        diagnostics: What is wrong and where; at least one. The loader defines their form.
    """

    def __init__(self, message: str, *, diagnostics: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.diagnostics = diagnostics


class ExpressionError(ConductorError):
    """An expression could not be evaluated on the values of this run; the node fails with class `config`."""


class RequestError(ConductorError):
    """The caller asked for something that cannot be done as asked."""


class NotFoundError(RequestError):
    """The named thing does not exist."""


class ConflictError(RequestError):
    """The thing is in a state in which the request makes no sense."""


class NotAllowedError(RequestError):
    """The caller may not do this."""


class InvalidTransitionError(ConductorError):
    """An event met a state that has no arrow for it. This is a bug in Conductor; nothing changed."""


class StoreError(ConductorError):
    """The database could not do what was asked."""


class StaleVersionError(StoreError):
    """Another writer changed the row first. Reload; nothing was written."""


class StoreUnavailableError(StoreError):
    """The database does not answer, is full or is locked. Wait; nothing was written."""


class SchemaVersionError(StoreError):
    """The database was written by another version of Conductor. Stop and migrate."""


class IntegrationError(ConductorError):
    """A vendor call did not give what was asked for.

    Attributes:
        connection: The connection's name, filled in by the HTTP client.
        operation: What was attempted, such as `start` or `poll`.
        code: The vendor's code or the HTTP status.
        link: The vendor's page, when it is known.
        error_class: What would heal it.
    """

    error_class: ErrorClass = ErrorClass.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        connection: str = "",
        operation: str = "",
        code: str | None = None,
        link: str | None = None,
        error_class: ErrorClass | None = None,
    ) -> None:
        super().__init__(message)
        self.connection = connection
        self.operation = operation
        self.code = code
        self.link = link
        if error_class is not None:
            self.error_class = error_class

    def info(self) -> ErrorInfo:
        """This error as a value that a run can keep."""
        return ErrorInfo(error_class=self.error_class, message=str(self)[:4000], code=self.code, link=self.link)


class RejectedError(IntegrationError):
    """Nothing happened at the vendor, and repeating the request will not help (a documented 4xx)."""

    error_class = ErrorClass.CONFIG


class AuthError(RejectedError):
    """Nothing happened: the credentials or permissions are wrong. Stops the connection until it is mended."""

    error_class = ErrorClass.AUTH


class RefusedError(IntegrationError):
    """Nothing happened at the vendor, and later may work (429, a documented 503, a connection never made).

    Attributes:
        retry_after_s: How long the vendor asked us to wait, in seconds, clamped to [1, 3600]; None when it did not say.
    """

    error_class = ErrorClass.TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        connection: str = "",
        operation: str = "",
        code: str | None = None,
        link: str | None = None,
        error_class: ErrorClass | None = None,
    ) -> None:
        super().__init__(
            message, connection=connection, operation=operation, code=code, link=link, error_class=error_class
        )
        self.retry_after_s = retry_after_s


class BusyError(RefusedError):
    """Nothing happened because something is already running there. The node's `if_running` decides.

    Attributes:
        running: The vendor's run that is in the way, when the vendor names it.
    """

    def __init__(self, message: str, *, running: ExternalRef | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.running = running


class AmbiguousError(IntegrationError):
    """Something may have happened: a lost answer, a reset, a read timeout, any undocumented 5xx on a start."""

    error_class = ErrorClass.TRANSIENT


class UnreadableError(IntegrationError):
    """The vendor answered something that we do not understand. On a start this is ambiguous; on a poll we ask again.

    Attributes:
        raw: The vendor's words, at most 2,000 characters, secrets removed.
    """

    def __init__(self, message: str, *, raw: str = "", connection: str = "", operation: str = "") -> None:
        super().__init__(message, connection=connection, operation=operation)
        self.raw = raw[:2000]
