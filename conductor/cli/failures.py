"""Turns whatever went wrong into one line on stderr and an exit code. The outer edge: nothing escapes it.

0 good, 1 the answer is bad, 2 Conductor could not, 3 waited long enough, 4 not allowed, 5 not reachable,
6 cancelled or skipped by somebody else, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import traceback
from enum import IntEnum

__all__ = ["Code", "report"]


class Code(IntEnum):
    """The exit codes."""

    GOOD = 0
    """Done, and what was asked about is good."""
    BAD = 1
    """Done, and the answer is bad: a run failed, files have errors, a connection does not work."""
    CANNOT = 2
    """Conductor could not do it: wrong options, a broken project, a crash."""
    TIMED_OUT = 3
    """Waited until `--timeout`; the run goes on."""
    NOT_ALLOWED = 4
    """Not allowed."""
    UNREACHABLE = 5
    """The service, the database or a vendor does not answer."""
    CANCELLED = 6
    """Somebody else cancelled it."""
    INTERRUPTED = 130
    """Ctrl-C."""


def report(error: BaseException, *, shows_traceback: bool) -> Code:
    """Say what went wrong, and how the process ends."""
    if shows_traceback:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Code.INTERRUPTED
    usage = getattr(error, "format_message", None)
    if callable(usage):
        return _usage(error, str(usage()))
    from conductor.core.errors import ConductorError

    if isinstance(error, BrokenPipeError):
        return Code.GOOD
    if isinstance(error, ConductorError):
        print(f"error: {error}", file=sys.stderr)
        return _code(error)
    if isinstance(error, OSError):
        print(f"error: {error.filename or 'a file'} cannot be used: {error.strerror or error}", file=sys.stderr)
        return Code.CANNOT
    print(
        f"error: this is a bug in Conductor: {type(error).__name__}: {error}; "
        "please report it with the output of the same command and -vv",
        file=sys.stderr,
    )
    return Code.CANNOT


def _usage(error: BaseException, message: str) -> Code:
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "conductor")
    if type(error).__name__ == "NoArgsIsHelpError" or not message:
        print(context.get_help() if context is not None else message, file=sys.stderr)
        return Code.CANNOT
    first = message[:1].lower() + message[1:].rstrip(".")
    print(f"error: {path}: {first}; see `{path} --help`", file=sys.stderr)
    return Code.CANNOT


def _code(error: BaseException) -> Code:
    from conductor.core.errors import AmbiguousError, NotAllowedError, RefusedError, StoreUnavailableError

    if isinstance(error, NotAllowedError):
        return Code.NOT_ALLOWED
    if isinstance(error, StoreUnavailableError | RefusedError | AmbiguousError):
        return Code.UNREACHABLE
    return Code.CANNOT
