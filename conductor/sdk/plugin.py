"""What an integration is: one protocol, and one `Plugin` value named by an entry point in `conductor.integrations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from conductor.core.vendor import (
    Baseline,
    Capabilities,
    ExternalRef,
    FindAnswer,
    Health,
    Json,
    LogExcerpt,
    Observation,
    Request,
)
from conductor.sdk.clock import Clock
from conductor.sdk.http import Http, HttpSettings
from conductor.sdk.limits import RateLimit
from conductor.sdk.redact import Redactor
from conductor.sdk.sandbox import Sandbox

__all__ = ["Context", "Integration", "NoConnection", "Operation", "Plugin", "Settings"]


class Settings(BaseModel):
    """The base of every settings and outputs model: unknown fields are errors, values are frozen.

    A field's `description` is what editors and the reference page show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class NoConnection(Settings):
    """For integrations that need no credentials; nodes then need no `connection`."""


@runtime_checkable
class Integration(Protocol):
    """One connection to one vendor account. Never sleeps, never retries, never logs bodies, keeps no state of runs."""

    async def prepare(self, request: Request) -> Baseline:
        """Read what the vendor shows before the start. Called only where `needs_baseline`; may be called again.

        Raises:
            IntegrationError: It could not be read; the engine asks again.
        """
        ...

    async def start(self, request: Request) -> ExternalRef:
        """Start one run by exactly one request (`request.baseline` is what `prepare` answered).

        Raises:
            RejectedError: Nothing happened and repeating will not help.
            RefusedError: Nothing happened, later may work; BusyError where something else is running there.
            AmbiguousError: It may have happened. Any other exception counts as this.
        """
        ...

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """See how runs are doing, in as few requests as the vendor allows. Keyed by `ExternalRef.id`.

        A ref missing from the answer means "not seen this time". Never more than `batch_size` refs.

        Raises:
            IntegrationError: Nothing was learnt; no run changes because of it.
        """
        ...

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:
        """Look for the run that `request` may have started; scans down to the baseline, not to a page count.

        An error while looking may be raised or answered as `FindUnknown`; never answered as `Absent`.
        """
        ...

    async def cancel(self, ref: ExternalRef) -> None:
        """Ask the vendor to stop the run. Idempotent: an ended or unknown run is not an error.

        Raises:
            IntegrationError: The request was not accepted; the engine asks again.
        """
        ...

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The vendor's own words about the run, secrets removed."""
        ...

    async def check(self) -> Health:
        """Try credentials and permissions by reading only. Answers, not raises, where it can say what is wrong."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the engine hands to an integration when it builds it.

    Attributes:
        connection: The connection's name.
        clock: The only source of time.
        redact: Masks secrets in any text that is kept.
        state_dir: A folder that survives restarts, for children on this host and the like.
        project_dir: Where the project's `conductor.yml` lies; relative paths in settings start here.
        http: Makes this connection's client; `limit` is the vendor's posted limit.
    """

    connection: str
    clock: Clock
    redact: Redactor
    state_dir: Path
    project_dir: Path
    http: Callable[[HttpSettings, RateLimit], Http]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that nodes can use: `uses: <plugin.kind>.<operation.name>`.

    Attributes:
        name: The part after the dot.
        summary: One sentence for the reference page.
        settings: The model of the node's `with`.
        outputs: The model of what downstream nodes may use as `nodes.<id>.outputs`.
        capabilities: What it can do and promise, as a function of the validated `with` (a constant for most).
        scope: The object that a start occupies, from the validated `with`, such as a connection id; attempts of an
            `is_exclusive` operation on the same scope never overlap. Empty text for none.
        guarantee: One sentence: what a user may rely on, with its limits.
    """

    name: str
    summary: str
    settings: type[BaseModel]
    outputs: type[BaseModel]
    capabilities: Callable[[Mapping[str, Json]], Capabilities]
    guarantee: str
    scope: Callable[[Mapping[str, Json]], str] = field(default=lambda _settings: "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One vendor.

    Attributes:
        kind: The part of `uses` before the dot, such as `fivetran`.
        title: The vendor's name for people.
        summary: What it is, in one sentence.
        connection: The model of an entry in connections.yml, without `type`; secrets are `SecretStr` fields.
        operations: By name.
        build: Makes the integration for one connection. No I/O.
        sandbox: Makes the vendor as an ASGI app with a ledger; None where the real thing runs in tests.
    """

    kind: str
    title: str
    summary: str
    connection: type[BaseModel]
    operations: Mapping[str, Operation]
    build: Callable[[Context, BaseModel], Integration]
    sandbox: Callable[[Clock], Sandbox] | None = None
