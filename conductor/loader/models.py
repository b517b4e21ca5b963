"""What a pipeline file may hold, field by field. Shape and words only: what needs other files is checked by `compile`.

Descriptions are what editors show and what the reference page prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from conductor.core.errors import ErrorClass
from conductor.core.plan import Backoff, ConcurrencyPolicy, OnFailure, TriggerRule
from conductor.core.vendor import Delivery, IfRunning, OnUnknown
from conductor.loader.durations import PATTERN, parse_duration
from conductor.loader.names import Name, ParamName

__all__ = [
    "Concurrency",
    "Defaults",
    "Duration",
    "FileModel",
    "NodeFile",
    "Param",
    "PipelineFile",
    "Retries",
    "Schedule",
    "Timeout",
]


class FileModel(BaseModel):
    """The base of what files hold: strict, frozen, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=False)


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("CND011", "{why}", {"why": str(error)}) from None


def _positive(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise PydanticCustomError("CND011", "a limit of zero would never let anything run", {})
    return seconds


_Written = Annotated[str, Field(pattern=PATTERN, examples=["45m", "1h30m"])]
Duration = Annotated[float, BeforeValidator(_duration, json_schema_input_type=_Written)]
PositiveDuration = Annotated[float, BeforeValidator(_positive, json_schema_input_type=_Written)]

_Lax = Field(strict=False)


class Retries(FileModel):
    """Further attempts after a failed one. A bare number is `attempts`."""

    attempts: int = Field(default=0, ge=0, le=100, description="Further attempts after the first; 0 for none.")
    delay: Duration = Field(default=30.0, description="How long to wait before the next attempt, such as `60s`.")
    backoff: Annotated[Backoff, _Lax] = Field(default=Backoff.EXPONENTIAL, description="How the delay grows.")
    max_delay: Duration = Field(default=3600.0, description="No delay is longer.")
    jitter: float = Field(default=0.1, ge=0, le=1, description="Stretch delays by up to this fraction.")
    on: list[Annotated[ErrorClass, _Lax]] = Field(
        default=[ErrorClass.TRANSIENT, ErrorClass.QUOTA, ErrorClass.TIMEOUT, ErrorClass.UNKNOWN],
        description="The kinds of error that are worth another attempt.",
    )

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return {"attempts": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Timeout(FileModel):
    """Limits for one attempt. A bare duration is `total`. On passing one, the vendor is asked to cancel."""

    total: PositiveDuration = Field(default=86_400.0, description="From the start to the end; 24 hours when left out.")
    queued: PositiveDuration | None = Field(default=None, description="In the vendor's queue.")
    running: PositiveDuration | None = Field(default=None, description="Running at the vendor.")
    no_progress: PositiveDuration | None = Field(default=None, description="Without any sign of progress.")
    cancel_grace: Duration = Field(default=120.0, description="How long to wait for the vendor to confirm a cancel.")

    @model_validator(mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return value if isinstance(value, Mapping) else {"total": value}


class Schedule(FileModel):
    """When the pipeline runs by the clock. A bare text is `cron`."""

    cron: str = Field(
        description="Five fields: minute, hour, day of month, month, day of week.", examples=["0 6 * * *"]
    )
    timezone: str | None = Field(default=None, description="IANA name; the pipeline's `timezone` when left out.")
    catchup: bool = Field(default=False, description="After downtime run every missed slot, not only the newest.")
    max_catchup: int = Field(default=100, ge=1, le=10_000, description="Never more missed slots than this at once.")

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return {"cron": value} if isinstance(value, str) else value


class Concurrency(FileModel):
    """How many runs may be active at once. A bare number is `limit`."""

    limit: int = Field(ge=1, le=10_000, description="Active runs of this pipeline at once.")
    policy: Annotated[ConcurrencyPolicy, _Lax] = Field(
        default=ConcurrencyPolicy.QUEUE, description="What a run above the limit does."
    )

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return {"limit": value} if isinstance(value, int) and not isinstance(value, bool) else value


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "list"}


class Param(FileModel):
    """One value that a run is given. A bare value is a `default`, whose type is the parameter's type."""

    type: Literal["string", "integer", "number", "boolean", "list", "object"] = Field(
        description="What values are accepted."
    )
    default: object = Field(
        default=None, description="The value when none is given; without one the parameter is required."
    )
    description: str = Field(default="", description="For people.")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return value
        if value is None:
            raise PydanticCustomError("CND014", "null does not say its type", {"help": "write `{type: string}`"})
        return {"type": _TYPES.get(type(value), ""), "default": value}

    @property
    def has_default(self) -> bool:
        """True when a run need not give a value."""
        return "default" in self.model_fields_set


class Defaults(FileModel):
    """What every node of the pipeline has unless it says otherwise; objects are merged field by field."""

    retries: Retries = Field(default=Retries(), description="Further attempts; a number or an object.")
    timeout: Timeout = Field(default=Timeout(), description="Limits of one attempt; a duration or an object.")
    on_failure: Annotated[OnFailure, _Lax] = Field(
        default=OnFailure.FAIL, description="What the final failure of this node means for the run."
    )
    delivery: Annotated[Delivery | None, _Lax] = Field(
        default=None,
        description="What to do with a start whose answer was lost; the operation's default when left out.",
    )
    on_unknown: Annotated[OnUnknown | None, _Lax] = Field(
        default=None, description="What to do when the fate of a start stays unknown."
    )
    if_running: Annotated[IfRunning | None, _Lax] = Field(
        default=None, description="What to do when the vendor's object is already busy."
    )
    settle_window: Duration | None = Field(
        default=None, description="How long a start may stay invisible in the vendor's lists."
    )
    resend_limit: int = Field(default=1, ge=0, le=10, description="Further sends under `delivery: at_least_once`.")
    pools: list[Name] = Field(default=[], description="Named pools that the node takes one slot of.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher goes first when slots are short.")


def _uses(value: object) -> object:
    if isinstance(value, str):
        kind, dot, operation = value.partition(".")
        if not (dot and kind and operation and "." not in operation):
            message = "`{uses}` is not `<integration>.<operation>`"
            raise PydanticCustomError("CND004", message, {"uses": value[:80], "help": "for example `fivetran.sync`"})
    return value


class NodeFile(Defaults):
    """One step of a pipeline."""

    uses: Annotated[str, BeforeValidator(_uses, json_schema_input_type=str)] = Field(
        description="What it runs: `<integration>.<operation>`.", examples=["fivetran.sync"]
    )
    with_: dict[str, object] = Field(
        default={}, alias="with", description="The operation's settings; may hold expressions."
    )
    connection: str | None = Field(default=None, description="A name in connections.yml.")
    depends_on: list[str] = Field(default=[], description="The nodes that must end before this one begins.")
    if_: bool | str = Field(
        default=True, alias="if", description="Skip the node when false: a boolean or one `${{ ... }}` expression."
    )
    trigger_rule: Annotated[TriggerRule, _Lax] = Field(
        default=TriggerRule.ALL_SUCCESS, description="What the nodes it depends on must have become."
    )
    description: str = Field(default="", description="For people.")


class PipelineFile(FileModel):
    """A pipeline: nodes, their order, and when they run."""

    version: Literal[1] = Field(description="The version of this format; always 1.")
    name: Name = Field(description="Unique in the project.")
    description: str = Field(default="", description="For people.")
    owner: str = Field(default="", description="Who answers for it.")
    tags: list[str] = Field(default=[], description="For people and filters.")
    schedule: Schedule | None = Field(
        default=None, description="When it runs by the clock; by hand only when left out."
    )
    timezone: str = Field(default="UTC", description="IANA name of the zone of the schedule and of `run.date`.")
    params: dict[ParamName, Param] = Field(default={}, description="Values that a run is given.")
    defaults: Defaults = Field(default=Defaults(), description="What every node has unless it says otherwise.")
    concurrency: Concurrency | None = Field(default=None, description="How many runs may be active at once.")
    run_timeout: PositiveDuration | None = Field(default=None, description="Limit for a whole run.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Of its runs, when slots are short.")
    nodes: dict[Name, NodeFile] = Field(min_length=1, description="The steps, by id.")
