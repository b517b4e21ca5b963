"""What a user writes for an HTTP connection and an `http.job` node, checked before anything is sent. No I/O."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from conductor.core.vendor import ExternalState, Json
from conductor.sdk import Settings
from integrations.http import paths

__all__ = [
    "KEY",
    "AlreadyExists",
    "Batch",
    "Cancel",
    "Connection",
    "Find",
    "Follow",
    "JobSettings",
    "Key",
    "Logs",
    "Outputs",
    "Poll",
    "Rate",
    "Reading",
    "Since",
    "Start",
]


def _sendable(secret: SecretStr) -> SecretStr:
    paths.header_value(secret.get_secret_value())
    return secret


Dotted = Annotated[str, AfterValidator(paths.dotted_path)]
UrlPath = Annotated[str, AfterValidator(paths.url_path)]
HeaderName = Annotated[str, AfterValidator(paths.header_name)]
HeaderValue = Annotated[str, AfterValidator(paths.header_value)]
ParamValue = str | int
HeaderSecret = Annotated[SecretStr, AfterValidator(_sendable)]
Word = Annotated[str, BeforeValidator(lambda value: paths.scalar(value) or value)]
OurState = Literal["queued", "running", "succeeded", "warned", "failed", "cancelled"]
OutputName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Status = Annotated[int, Field(ge=400, le=599)]
KEY = "{key}"


class _ByName(Settings):
    # Fields called `json` in YAML have another name here, because pydantic keeps that one; both are accepted.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)


class Rate(Settings):
    """How many requests the API takes."""

    requests: float = Field(default=10, gt=0, description="How many requests are allowed ...")
    per_s: float = Field(default=1, gt=0, description="... in how many seconds.")
    burst: int = Field(default=20, ge=1, description="How many may go at once.")


class Connection(Settings):
    """One API with its credentials."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(paths.base_url)] = Field(
        description="Where the API lives, such as https://jobs.example.com/api/v1; all paths of nodes are below it."
    )
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], HeaderSecret] = Field(
        default={}, description="Headers sent with every request; kept secret."
    )
    bearer: HeaderSecret | None = Field(default=None, description="A token sent as `Authorization: Bearer`.")
    user: str | None = Field(default=None, description="The user for HTTP Basic.")
    password: SecretStr | None = Field(default=None, description="The password for HTTP Basic.")
    rate: Rate = Field(
        default=Rate(), description="The API's limit on requests, shared by all nodes of the connection."
    )
    deadline_s: float = Field(default=30, gt=0, le=600, description="Limit for one whole request, in seconds.")
    verify_tls: bool = Field(default=True, description="Verify the server's certificate.")
    check_path: UrlPath | None = Field(
        default=None,
        description="A path that GET answers with 2xx when the credentials work; used by connection checks.",
    )

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` go together: give both or neither")
        if self.bearer is not None and self.user is not None:
            raise ValueError("give either `bearer` or `user` and `password`, not both")
        return self


class Reading(_ByName):
    """Where in an answer (or in one item of a list) the parts of a run lie."""

    state: Dotted | None = Field(default=None, description="Path of the vendor's state word.")
    message: Dotted | None = Field(default=None, description="Path of a human text about the run.")
    link: Dotted | None = Field(default=None, description="Path of the run's page, http(s) only.")
    progress: Dotted | None = Field(default=None, description="Path of a number that grows with progress.")
    progress_max: float = Field(default=1.0, gt=0, description="The number that means done, such as 100 for percent.")
    outputs: dict[OutputName, Dotted] = Field(
        default={}, description="Values for downstream nodes: name to path; at most 16,000 characters each."
    )

    @model_validator(mode="after")
    def _own_names_are_kept(self) -> Self:
        if taken := {"id", "state"} & self.outputs.keys():
            raise ValueError(f"outputs: {', '.join(sorted(taken))} always exist; choose another name")
        return self


class Start(Reading):
    """The one request that starts a run. `{key}` in path, params, headers and json becomes the attempt's key."""

    method: Literal["POST", "PUT", "PATCH", "GET"] = Field(default="POST", description="The HTTP method.")
    path: UrlPath = Field(description="The path below base_url.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters.")
    headers: dict[HeaderName, HeaderValue] = Field(default={}, description="Headers of this request; not for secrets.")
    body: Json = Field(default=None, alias="json", description="The JSON body to send; none when left out.")
    id: Dotted | Literal["{key}"] | None = Field(
        default=None, description="Path of the run's id in the answer, or `{key}` where our key is the id."
    )
    is_final: bool = Field(
        default=False, description="A 2xx answer is the end: the work is done, there is nothing to poll."
    )
    refused_statuses: tuple[Status, ...] = Field(
        default=(), description="Statuses documented as 'nothing happened, try later', such as 503."
    )


class Key(_ByName):
    """Where the API takes an idempotency key: it starts one run per key, however often the request is repeated."""

    header: HeaderName | None = Field(default=None, description="The header that carries the key.")
    field: Dotted | None = Field(
        default=None,
        alias="json",
        description="The path in the JSON body that carries the key.",
    )
    in_path: bool = Field(default=False, description="The key is part of start.path as `{key}`, and names the run.")
    ttl_s: float = Field(
        default=3600, ge=60, description="How long the API remembers a key, in seconds; after that nothing is repeated."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.header is not None) + (self.field is not None) + self.in_path != 1:
            raise ValueError("key: give exactly one of `header`, `json` and `in_path`")
        return self


class Poll(Reading):
    """The request that shows one run."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The HTTP method; it must change nothing.")
    path: UrlPath = Field(description="The path below base_url, with `{id}`.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters.")
    body: Json = Field(default=None, alias="json", description="The JSON body to send; none when left out.")
    state: Dotted = Field(description="Path of the vendor's state word.")


class Batch(Reading):
    """The request that shows many runs at once."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The HTTP method; it must change nothing.")
    path: UrlPath = Field(description="The path below base_url.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters; `{ids}` becomes the joined ids.")
    body: Json = Field(
        default=None,
        alias="json",
        description="The JSON body; a text that is exactly `{ids}` becomes a list, in a longer text the joined ids.",
    )
    separator: str = Field(default=",", min_length=1, max_length=3, description="What joins the ids.")
    has_number_ids: bool = Field(
        default=False, description="Send ids that are whole numbers as numbers in a JSON list."
    )
    items: Dotted = Field(description="Path of the list of runs in the answer; `$` when the answer is the list.")
    id: Dotted = Field(description="Path of the id within an item.")
    state: Dotted = Field(description="Path of the vendor's state word within an item.")
    max_ids: int = Field(default=100, ge=1, le=1000, description="How many runs one request may ask for.")


class Cancel(_ByName):
    """The request that stops a run."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"] = Field(default="POST", description="The HTTP method.")
    path: UrlPath = Field(description="The path below base_url, with `{id}`.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters.")
    body: Json = Field(default=None, alias="json", description="The JSON body to send; none when left out.")
    done_statuses: tuple[Status, ...] = Field(
        default=(404, 409, 410), description="Statuses that mean: it has already ended or is unknown."
    )


class Logs(Settings):
    """The request that shows a run's log."""

    path: UrlPath = Field(description="The path below base_url, with `{id}`.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters.")
    text: Dotted | None = Field(
        default=None, description="Path of the text (or list of lines); none for a plain text body."
    )


class Since(Settings):
    """A query parameter that makes a list begin at an instant."""

    param: str = Field(min_length=1, description="The parameter's name.")
    format: Literal["iso", "epoch_s", "epoch_ms"] = Field(
        default="iso", description="How the instant is written, in UTC."
    )


class Find(_ByName):
    """The list in which a start whose answer was lost is looked up."""

    method: Literal["GET", "POST"] = Field(default="GET", description="The HTTP method; it must change nothing.")
    path: UrlPath = Field(description="The path below base_url.")
    params: dict[str, ParamValue] = Field(default={}, description="Query parameters.")
    body: Json = Field(default=None, alias="json", description="The JSON body to send; none when left out.")
    items: Dotted = Field(description="Path of the list of runs in the answer; `$` when the answer is the list.")
    id: Dotted = Field(description="Path of the run's id within an item.")
    link: Dotted | None = Field(default=None, description="Path of the run's page within an item.")
    key: Dotted | None = Field(
        default=None, description="Path within an item where our key comes back, alone or in a text."
    )
    created: Dotted | None = Field(
        default=None,
        description="Path of the creation time within an item: ISO 8601 (UTC when it names no zone) or epoch.",
    )
    match: dict[Dotted, ParamValue | bool] = Field(
        default={}, description="Only items with these values at these paths can be ours."
    )
    since: Since | None = Field(default=None, description="How the list can be asked to begin at an instant.")
    next: Dotted | None = Field(default=None, description="Path of the next page's cursor or address in the answer.")
    next_param: str | None = Field(
        default=None, description="The parameter that takes the cursor; none for an address."
    )
    page_param: str | None = Field(default=None, description="The parameter that takes a page number.")
    page_start: int = Field(default=1, ge=0, description="The first page's number.")
    is_newest_first: bool = Field(default=True, description="The list begins with the newest run; stops reading early.")
    lag_s: float = Field(
        default=120, ge=0, le=86_400, description="How long a new run may stay invisible in the list, in seconds."
    )
    skew_s: float = Field(default=30, ge=0, le=3600, description="How far the API's clock may be off ours, in seconds.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.key is None and self.created is None:
            raise ValueError("find: give `key` (where our key comes back) or `created` (when a run was made), or both")
        if self.next is not None and self.page_param is not None:
            raise ValueError("find: pages are followed by `next` or by `page_param`, not both")
        if self.next_param is not None and self.next is None:
            raise ValueError("find: `next_param` needs `next`, the path of the cursor")
        if (self.next or self.page_param) and self.created is None and self.since is None:
            raise ValueError(
                "find: a list with pages needs `created` or `since`, or the look-up would read all of history"
            )
        return self


class AlreadyExists(Settings):
    """The answer by which an API refuses a second start with the same key: the first run is adopted."""

    status: Status = Field(default=409, description="The HTTP status.")
    id: Dotted | Literal["{key}"] | None = Field(
        default=None, description="Path of the first run's id in that answer, or `{key}`; start.id when left out."
    )
    key: Dotted | None = Field(
        default=None, description="Path in that answer that must hold our key; checked before the run is adopted."
    )


class Follow(Settings):
    """What of a node is kept with each run, so that it can be followed from its reference alone."""

    poll: Poll | None = Field(default=None, description="The request that shows one run.")
    batch: Batch | None = Field(default=None, description="The request that shows many runs at once.")
    states: dict[Word, OurState] = Field(
        default={}, description="The vendor's words to our states; a word that is not here is shown as unrecognised."
    )
    cancel: Cancel | None = Field(
        default=None, description="The request that stops a run; without it none can be stopped."
    )
    logs: Logs | None = Field(default=None, description="The request that shows a run's log.")
    not_found_grace_s: float = Field(
        default=60, ge=0, le=86_400, description="How long after the start a 404 means 'not yet', in seconds."
    )

    def state_of(self, word: str) -> ExternalState:
        """Our state for the vendor's `word`."""
        ours = self.states.get(word)
        return ExternalState.UNRECOGNISED if ours is None else ExternalState(ours)


class JobSettings(Follow):
    """A run in any tool with a REST API."""

    start: Start = Field(description="The one request that starts a run.")
    key: Key | None = Field(default=None, description="Where the API takes an idempotency key.")
    find: Find | None = Field(default=None, description="The list in which a lost start is looked up.")
    already_exists: AlreadyExists | None = Field(
        default=None, description="The answer that refuses a second start with the same key."
    )
    busy_statuses: tuple[Status, ...] = Field(
        default=(), description="Statuses of a start that mean: something is already running there."
    )
    poll_floor_s: float = Field(default=1.0, ge=0.05, le=3600, description="Poll a run at most this often, in seconds.")
    scope: str = Field(
        default="",
        max_length=200,
        description="A name shared by nodes whose runs must not overlap; derived when left out.",
    )

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        start, is_followed = self.start, self.poll is not None or self.batch is not None
        if start.is_final and (is_followed or start.state):
            raise ValueError(
                "start.is_final says that there is nothing to follow: leave out poll, batch and start.state"
            )
        if not (is_followed or start.is_final or start.state):
            raise ValueError("say how the run is followed: `poll`, `batch`, `start.state` or `start.is_final`")
        if is_followed and start.id is None:
            raise ValueError("start.id is missing: the path of the run's id in the answer, or `{key}`")
        if not start.is_final and not {"succeeded", "warned"} & set(self.states.values()):
            raise ValueError("states: no word means succeeded, so the node could never end well")
        return self

    @model_validator(mode="after")
    def _placeholders_are_there(self) -> Self:
        _need("poll", self.poll, "{id}")
        _need("batch", self.batch, "{ids}")
        _need("cancel", self.cancel, "{id}")
        _need("logs", self.logs, "{id}")
        if self.find is not None and paths.tokens_in([self.find.path, self.find.params, self.find.body]) - {KEY}:
            raise ValueError("find: only `{key}` can stand here; the run's id is what is looked for")
        if paths.tokens_in(self.start.path) - {KEY}:
            raise ValueError("start.path: only `{key}` can stand here; there is no id yet")
        return self

    @model_validator(mode="after")
    def _key_reaches_the_api(self) -> Self:
        start = self.start
        is_placed = KEY in paths.tokens_in([start.path, start.params, start.headers, start.body])
        if self.key is not None and self.key.in_path and KEY not in start.path:
            raise ValueError("key.in_path: start.path holds no `{key}`")
        if self.key is not None and self.key.field is not None:
            paths.place(start.body, self.key.field, "")
        if not is_placed and self.key is None and self.find is not None and self.find.key is not None:
            raise ValueError(
                "find.key: our key is nowhere in the start; put `{key}` into start.json, headers or params"
            )
        if not is_placed and self.key is None and start.id == KEY:
            raise ValueError("start.id is our key, but the start does not carry it: put `{key}` into it")
        if self.already_exists is not None and self.key is None:
            raise ValueError("already_exists needs `key`: without it the run that exists may be somebody else's")
        return self


def _need(part: str, call: Poll | Batch | Cancel | Logs | None, token: str) -> None:
    if call is None:
        return
    found = paths.tokens_in([call.path, call.params, None if isinstance(call, Logs) else call.body])
    if found != {token}:
        raise ValueError(f"{part}: `{token}` must stand in path, params or json, and no other placeholder")


class Outputs(Settings):
    """What downstream nodes may use: the id, the vendor's word, and every output that the node names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str = Field(default="", description="The vendor's id of the run.")
    state: str = Field(default="", description="The vendor's last word about the run.")
