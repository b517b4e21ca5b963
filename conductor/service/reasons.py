"""The words of an explanation: by what something is held back, the facts that decide it, the answer. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from conductor.core.admit import Limits, Usage
from conductor.core.cadence import Expected
from conductor.core.states import RunState
from conductor.core.vendor import Json
from conductor.service.document import document
from conductor.service.views import ErrorView

__all__ = ["Facts", "Held", "Why"]


class Held(StrEnum):
    """By what something is held back."""

    NOTHING = "nothing"
    """By nothing: it is done, or about to go on."""
    UPSTREAM = "upstream"
    """By a node that it depends on."""
    CONCURRENCY = "concurrency"
    """By other runs of its pipeline."""
    PAUSED = "paused"
    """By a pause."""
    SERVICE = "service"
    """Nothing runs that would go on with it."""
    POOL = "pool"
    """By a pool or connection without a free slot, or an object that is busy with another of our starts."""
    CONNECTION = "connection"
    """By a connection that is stopped."""
    REFUSED = "refused"
    """The vendor said not now, or something else runs there."""
    VENDOR = "vendor"
    """The vendor works on it."""
    LOOKUP = "lookup"
    """Whether the start arrived is being looked up."""
    RETRY = "retry"
    """By the delay before the next attempt."""
    PERSON = "person"
    """A person must decide."""
    FAILURE = "failure"
    """It failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The answer.

    Attributes:
        run_id: The run.
        pipeline: Its pipeline.
        node: The node that the answer is about; empty for the run itself.
        state: Its state.
        held_by: By what it is held back.
        summary: One sentence.
        until: When that may change by itself; None when only somebody or something outside can change it.
        until_is_estimate: `until` comes from history, not from a timer.
        root: The node at the bottom of it, when that is another one.
        error: What went wrong, if anything did.
        link: The vendor's page.
        external_id: The vendor's id.
        upstream: Nodes that it depends on → their state.
        blocks: Nodes that wait for it.
        next: Commands that a person may use now.
        note: What else a reader must know.
    """

    kind: ClassVar[str] = "why"
    run_id: str
    pipeline: str
    node: str
    state: str
    held_by: Held
    summary: str
    until: datetime | None = None
    until_is_estimate: bool = False
    root: str = ""
    error: ErrorView | None = None
    link: str | None = None
    external_id: str = ""
    upstream: Mapping[str, str] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the answer needs besides the run.

    Attributes:
        now: The instant.
        is_served: Something runs that follows this database.
        usage: What all active runs occupy, this one included.
        limits: Slots, and the connections that the service has stopped (where it was asked).
        closed: Stopped connection → why.
        active: Active runs of the same pipeline: id → state.
        is_pipeline_paused: The pipeline is paused.
        expected: Node → what history says of its duration.
    """

    now: datetime
    is_served: bool
    usage: Usage = field(default_factory=Usage)
    limits: Limits = field(default_factory=Limits)
    closed: Mapping[str, str] = field(default_factory=dict)
    active: Mapping[str, RunState] = field(default_factory=dict)
    is_pipeline_paused: bool = False
    expected: Mapping[str, Expected] = field(default_factory=dict)
