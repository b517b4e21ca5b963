"""What a user writes for a `command` connection and a `command.run` node, and what the node gives to others. No I/O."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, SecretStr, model_validator

from conductor.core.errors import ErrorClass
from conductor.sdk import NoConnection, Settings

__all__ = ["Connection", "EnvName", "ExitRule", "Outputs", "RunSettings"]

_RESERVED = "CONDUCTOR_"


def _not_reserved(name: str) -> str:
    if name.startswith(_RESERVED):
        raise ValueError(f"{name} begins with {_RESERVED}, which Conductor sets itself; choose another name")
    return name


def _rule(value: object) -> object:
    """`warned` is short for `{state: warned}`, `transient` for `{state: failed, error_class: transient}`."""
    if not isinstance(value, str):
        return value
    if value in {error_class.value for error_class in ErrorClass}:
        return {"state": "failed", "error_class": value}
    return {"state": value}


EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_not_reserved)]
"""The name of an environment variable that is not Conductor's own."""


class Connection(NoConnection):
    """Optional: secrets and limits that several commands share. Nodes without secrets need no connection."""

    secret_env: dict[EnvName, SecretStr] = Field(
        default_factory=dict, description="Secret variables: name to value. They reach the command and no file."
    )
    log_cap_mib: int = Field(
        default=64, ge=1, le=4096, description="Keep no more output than this of one command, in MiB; the newest stays."
    )
    keep_days: float = Field(
        default=14, ge=8, description="Remove logs and records of commands that ended longer ago, in days."
    )


class ExitRule(Settings):
    """What one exit code means."""

    state: Literal["succeeded", "warned", "failed"] = Field(description="How the node ends.")
    error_class: ErrorClass = Field(default=ErrorClass.UNKNOWN, description="Why it failed; retries choose by it.")


class RunSettings(Settings):
    """One command. No shell reads it; for pipes and globs say `argv: [sh, -c, "..."]`."""

    argv: list[str] = Field(default_factory=list, description="The program and its arguments; or give `command`.")
    command: str = Field(
        default="", description="The same as one text, split by the rules of a shell's quotes; nothing is expanded."
    )
    cwd: str = Field(default=".", description="Where it runs; relative to the project's folder.")
    env: dict[EnvName, str] = Field(default_factory=dict, description="Variables as plain text; no secrets.")
    pass_env: list[EnvName] = Field(
        default_factory=list, description="Variables of Conductor's own environment that the command gets too."
    )
    exit_codes: dict[Annotated[int, Field(ge=0, le=255)], Annotated[ExitRule, BeforeValidator(_rule)]] = Field(
        default_factory=dict,
        description="What exit codes mean: `succeeded`, `warned`, `failed`, an error class, or both as an object. "
        "Without a rule 0 is succeeded and all others are failed.",
    )
    interrupt_grace_s: float = Field(
        default=15, ge=0, le=600, description="On a cancel: how long SIGINT may take before SIGTERM, in seconds."
    )
    terminate_grace_s: float = Field(
        default=15, ge=0, le=600, description="How long SIGTERM may take before SIGKILL, in seconds."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.argv) == bool(self.command):
            raise ValueError("give either argv or command")
        if not self.words:
            raise ValueError("the command is empty")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return tuple(self.argv) if self.argv else tuple(shlex.split(self.command))


class Outputs(Settings):
    """What a command gives to others."""

    exit_code: int | None = Field(default=None, description="Its exit code; null when it did not exit by itself.")
    values: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="The JSON object that it wrote to the file named by CONDUCTOR_OUTPUT, at most 64 KiB.",
    )
