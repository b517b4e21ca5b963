"""What people see of runs, nodes, pipelines and connections: values without behaviour besides `to_json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from conductor.core.states import AttemptState, NodeState, Outcome, RunState
from conductor.core.vendor import Json
from conductor.service.document import document, plain

__all__ = [
    "AttemptView",
    "ConnectionView",
    "ErrorView",
    "HealthView",
    "IntegrationView",
    "JournalLine",
    "Listing",
    "LogsView",
    "NodeLine",
    "NodeView",
    "OperationView",
    "PipelineView",
    "RunLine",
    "RunView",
    "View",
]


class View(Protocol):
    """Anything that `--json` can print."""

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Several of one kind.

    Attributes:
        kind: The kind of the list, in the plural.
        items: In the order to show.
    """

    kind: str
    items: Sequence[object]

    def to_json(self) -> dict[str, Json]:
        """The stable form: the items under `items`."""
        return document(self.kind, {"items": [plain(item) for item in self.items]})


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorView:
    """A failure.

    Attributes:
        error_class: What would heal it.
        message: The vendor's words.
        code: The vendor's code.
        link: The vendor's page about it.
        detail: More of its words.
    """

    error_class: str
    message: str
    code: str | None = None
    link: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """One node in the picture of a run.

    Attributes:
        id: The node.
        uses: What it uses.
        connection: Through which connection.
        state: Where it is.
        attempts: Attempts so far.
        most_attempts: How many the retry policy allows.
        started_at: When it was first sent.
        ended_at: When it ended.
        elapsed_s: Since it was sent, until its end or now.
        usual_s: The median of past runs; None for fewer than five.
        progress: 0 to 1, when the vendor says.
        reason: Why it is where it is.
        external_id: The vendor's id of the newest attempt.
        link: The vendor's page of it.
        vendor_word: The vendor's own word for its state.
        depends_on: Upstream nodes.
    """

    id: str
    uses: str
    connection: str
    state: NodeState
    attempts: int
    most_attempts: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    elapsed_s: float | None = None
    usual_s: float | None = None
    progress: float | None = None
    reason: str = ""
    external_id: str = ""
    link: str | None = None
    vendor_word: str = ""
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run in a list.

    Attributes:
        id: The run.
        pipeline: Its pipeline.
        pipeline_version: The version it is pinned to.
        trigger: Why it began.
        state: Where it is.
        created_at: When it was recorded.
        started_at: When it began.
        ended_at: When it ended.
        elapsed_s: From its beginning to its end or now.
        slot: Of scheduled runs.
        actor: Who asked.
        reason: Why it is where it is.
    """

    id: str
    pipeline: str
    pipeline_version: str
    trigger: str
    state: RunState
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    elapsed_s: float | None = None
    slot: datetime | None = None
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run with its nodes.

    Attributes:
        run: As in a list.
        logical_at: The instant that it is about.
        params: Its parameters.
        is_paused: Nothing more is started in it.
        is_cancelling: It is being cancelled.
        nodes: In the plan's order; empty when the run's version no longer loads (`note` says so).
        note: What a reader must know about this view.
    """

    kind: ClassVar[str] = "run"
    run: RunLine
    logical_at: datetime | None = None
    params: Mapping[str, Json] = field(default_factory=dict)
    is_paused: bool = False
    is_cancelling: bool = False
    nodes: tuple[NodeLine, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptView:
    """One try of a node.

    Attributes:
        no: Its number.
        key: The key that the vendor got.
        state: Its phase.
        outcome: How it ended.
        sends: Permits that were not refused.
        intended_at: When it was planned.
        permit_at: The latest permit.
        ended_at: When it ended.
        external_id: The vendor's id.
        link: The vendor's page.
        adopted: How the vendor's run was learnt, when not by the start's answer.
        vendor_word: The vendor's word.
        error: What was wrong.
    """

    no: int
    key: str
    state: AttemptState
    outcome: Outcome | None
    sends: int
    intended_at: datetime
    permit_at: datetime | None = None
    ended_at: datetime | None = None
    external_id: str = ""
    link: str | None = None
    adopted: str = ""
    vendor_word: str = ""
    error: ErrorView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node in a run, in full.

    Attributes:
        run_id: The run.
        pipeline: Its pipeline.
        node: As in the run's picture.
        settings: What the vendor was asked, as frozen in the newest attempt.
        outputs: What downstream nodes may use.
        error: Why it failed.
        attempts: Every try.
    """

    kind: ClassVar[str] = "node"
    run_id: str
    pipeline: str
    node: NodeLine
    settings: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, Json] = field(default_factory=dict)
    error: ErrorView | None = None
    attempts: tuple[AttemptView, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """One row of the journal.

    Attributes:
        id: Its place; grows.
        run_id: The run.
        at: When.
        subject: Run, node or attempt.
        node: The node; empty for the run.
        attempt_no: 0 unless the subject is an attempt.
        before: The state left.
        after: The state entered.
        cause: Why.
        detail: Reason, actor, error, the vendor's word.
    """

    id: int
    run_id: str
    at: datetime
    subject: str
    node: str
    attempt_no: int
    before: str
    after: str
    cause: str
    detail: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineView:
    """A pipeline.

    Attributes:
        name: Its name.
        pipeline_version: The newest version in the project.
        is_paused: Its schedule fires nothing.
        schedule: Its cron, or empty.
        timezone: Of the schedule.
        next_at: The next slot; None when it has none or is paused.
        nodes: How many.
        owner: For people.
        description: For people.
        tags: For people.
        file: Where it is written.
        last_run: Its newest run.
    """

    kind: ClassVar[str] = "pipeline"
    name: str
    pipeline_version: str
    is_paused: bool
    schedule: str
    timezone: str
    next_at: datetime | None
    nodes: int
    owner: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    file: str = ""
    last_run: RunLine | None = None

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionView:
    """A connection, without its secrets.

    Attributes:
        name: Its name.
        type: The integration's kind.
        max_parallel: Runs at once; None for any number.
        used_by: Pipelines that use it.
        missing: Secrets and variables that are not set.
        stopped: Why the running service starts nothing on it; empty when it does, or when no service runs.
    """

    name: str
    type: str
    max_parallel: int | None
    used_by: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    stopped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """What trying a connection found.

    Attributes:
        name: The connection.
        is_ok: Credentials and permissions suffice.
        message: What was seen, or what is wrong and what to do.
        vendor_version: When the vendor says.
    """

    name: str
    is_ok: bool
    message: str
    vendor_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """What a node can use.

    Attributes:
        uses: As written in a pipeline.
        summary: What it does.
        guarantee: What one may rely on.
        correlation: How a lost start is recognised; None when that depends on the settings.
        maturity: What its tests ran against; None as above.
    """

    uses: str
    summary: str
    guarantee: str
    correlation: str | None = None
    maturity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationView:
    """An installed integration.

    Attributes:
        kind: Its name in pipelines.
        title: The vendor.
        summary: What it is.
        has_sandbox: It can be tried without the vendor.
        operations: What nodes can use.
    """

    kind: str
    title: str
    summary: str
    has_sandbox: bool
    operations: tuple[OperationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsView:
    """The vendor's own words about one attempt.

    Attributes:
        run_id: The run.
        node: The node.
        attempt_no: Which try.
        lines: The last lines, oldest first.
        is_truncated: There is more.
        link: Where to read all of it.
    """

    kind: ClassVar[str] = "logs"
    run_id: str
    node: str
    attempt_no: int
    lines: tuple[str, ...]
    is_truncated: bool = False
    link: str | None = None

    def to_json(self) -> dict[str, Json]:
        """The stable form."""
        return document(self.kind, self)
