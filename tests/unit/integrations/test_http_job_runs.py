"""Runs over a job service: followed in few requests, adopted when lost, and never green by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from conductor.core.keys import attempt_key, canonical
from conductor.core.vendor import Absent, ExternalRef, ExternalState, FindUnknown, Found, Json, Observation, Request
from conductor.sdk import (
    AmbiguousError,
    BusyError,
    Effect,
    Fault,
    IntegrationError,
    RefusedError,
    RejectedError,
    UnreadableError,
)
from conductor.sdk.testing import FakeClock, context_for
from integrations.http.config import Connection, JobSettings
from integrations.http.contract import base_settings
from integrations.http.integration import HttpIntegration
from integrations.http.sandbox import HttpSandbox, make_sandbox

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_BATCH: Final[dict[str, Json]] = {
    "path": "/jobs",
    "params": {"ids": "{ids}"},
    "items": "jobs",
    "id": "id",
    "state": "state",
    "outputs": {"rows": "result.rows"},
}
_FIND: Final[dict[str, Json]] = {
    "path": "/jobs",
    "items": "jobs",
    "id": "id",
    "created": "created_at",
    "next": "next",
    "next_param": "cursor",
}
_TAGGED: Final[dict[str, Json]] = {"path": "/jobs", "json": {"tag": "nightly ({key})"}, "id": "id"}


class World:
    """One API, one connection to it, one clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.sandbox: HttpSandbox = make_sandbox(self.clock)
        connection = Connection.model_validate(self.sandbox.connection("http://jobs.test"))
        self.http = HttpIntegration(context_for(self.sandbox.app, clock=self.clock, state_dir=folder), connection)

    def request(self, *, no: int = 1, **more: Json) -> Request:
        """A request as the engine freezes it."""
        settings = {name: value for name, value in {**base_settings(), **more}.items() if value is not None}
        return Request(
            key=attempt_key(run=f"run-{no}", node="n", attempt_no=1),
            operation="job",
            settings=JobSettings.model_validate(settings).model_dump(mode="json"),
            permit_at=self.clock.now(),
        )

    def start(self, request: Request) -> ExternalRef:
        """Start one run."""
        return asyncio.run(self.http.start(request))

    def poll(self, *refs: ExternalRef) -> Mapping[str, Observation]:
        """Poll once."""
        return asyncio.run(self.http.poll(refs))

    def lose(self, request: Request) -> None:
        """Start, and lose the answer."""
        self.sandbox.faults.add(Fault(effect=Effect.LOSE_ANSWER, path="^/jobs$", method="POST"))
        with pytest.raises(AmbiguousError):
            self.start(request)

    def find(self, request: Request) -> object:
        """Look once."""
        return asyncio.run(self.http.find(request, request.baseline))

    def prepared(self, request: Request) -> Request:
        """`request` with its baseline."""
        return replace(request, baseline=asyncio.run(self.http.prepare(request)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def _refs_like(ref: ExternalRef, ids: Sequence[str]) -> list[ExternalRef]:
    return [ExternalRef(id=f"jobs/{one}", data={**ref.data, "id": one}) for one in ids]


def test_ten_thousand_runs_are_polled_in_a_hundred_requests(world: World) -> None:
    ref = world.start(world.request(batch=_BATCH))
    accept = {"name": "many", "duration_s": 5}
    for _ in range(9_999):
        world.sandbox._accept(accept, 0.0)
    refs = _refs_like(ref, world.sandbox.job_ids())
    seen = world.poll(*refs)
    assert len(seen) == 10_000
    assert world.sandbox.requests["GET /jobs"] == 100
    assert {seen[one.id].state for one in refs[1:]} == {ExternalState.SUCCEEDED}


def test_a_ref_is_small_json_and_names_its_resource(world: World) -> None:
    ref = world.start(world.request(batch=_BATCH))
    assert ref.id == "jobs/j1"
    assert len(canonical(dict(ref.data))) < 1000
    assert "start" not in canonical(dict(ref.data))


def test_nodes_with_different_settings_share_one_poll_call(world: World) -> None:
    first = world.start(world.request(no=1, batch=_BATCH))
    second = world.start(world.request(no=2, batch={**_BATCH, "outputs": {}}))
    world.clock.advance(901)
    seen = world.poll(first, second)
    assert seen[first.id].outputs == {"id": "j1", "state": "done", "rows": 1001}
    assert seen[second.id].outputs == {"id": "j2", "state": "done"}
    assert world.sandbox.requests["GET /jobs"] == 2


def test_a_failing_group_does_not_hide_the_others(world: World) -> None:
    first = world.start(world.request(no=1, batch=_BATCH))
    second = world.start(world.request(no=2))
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, path="^/jobs/j2$", times=-1, status=500))
    assert set(world.poll(first, second)) == {first.id}
    with pytest.raises(IntegrationError):
        world.poll(second)


def test_a_run_that_is_not_found_is_unseen_at_first_and_vanished_later(world: World) -> None:
    ref = world.start(world.request(not_found_grace_s=60))
    world.sandbox.forget("j1")
    assert world.poll(ref) == {}
    world.clock.advance(61)
    seen = world.poll(ref)[ref.id]
    assert seen.state is ExternalState.VANISHED
    assert seen.error is not None


def test_a_run_missing_from_a_batch_is_asked_for_singly_after_the_grace(world: World) -> None:
    ref = world.start(world.request(batch=_BATCH, not_found_grace_s=60))
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=b'{"jobs": []}', times=-1))
    assert world.poll(ref) == {}
    assert "GET /jobs/{id}" not in world.sandbox.requests
    world.clock.advance(61)
    assert world.poll(ref)[ref.id].state is ExternalState.RUNNING
    world.sandbox.forget("j1")
    assert world.poll(ref)[ref.id].state is ExternalState.VANISHED


def test_without_a_single_poll_a_run_missing_from_the_batch_vanishes_after_the_grace(world: World) -> None:
    ref = world.start(world.request(batch=_BATCH, poll=None))
    world.sandbox.forget("j1")
    assert world.poll(ref) == {}
    world.clock.advance(61)
    assert world.poll(ref)[ref.id].state is ExternalState.VANISHED


@pytest.mark.parametrize(
    "body",
    [
        b'{"jobs": [{"id": "j1"}]}',
        b'{"jobs": [{"state": "done"}]}',
        b'{"jobs": {"j1": "done"}}',
        b'{"jobs": [{"id": "j1", "state": {"word": "done"}}]}',
    ],
)
def test_a_batch_of_another_shape_decides_nothing(world: World, body: bytes) -> None:
    ref = world.start(world.request(batch=_BATCH))
    world.clock.advance(61)
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=body))
    with pytest.raises(UnreadableError):
        world.poll(ref)


@pytest.mark.parametrize("ids", [b'".."', b'"."', b'""', b"null", b"true", b"{}", b'"a\\nb"', b'"' + b"x" * 600 + b'"'])
def test_an_id_that_cannot_be_used_leaves_the_start_ambiguous(world: World, ids: bytes) -> None:
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=b'{"id": ' + ids + b"}"))
    with pytest.raises(AmbiguousError):
        world.start(world.request())


def test_an_id_with_slashes_stays_one_segment(world: World) -> None:
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=b'{"id": "a/../b?x=1"}'))
    ref = world.start(world.request())
    assert ref.id == "jobs/a%2F..%2Fb%3Fx%3D1"
    assert world.poll(ref) == {}


def test_a_lost_start_is_found_by_its_key_as_a_whole_word(world: World) -> None:
    request = world.request(start=_TAGGED, find={**_FIND, "key": "tag"})
    longer = replace(request, key=request.key + "1")
    world.start(longer)
    assert isinstance(world.find(request), Absent)
    world.lose(request)
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.ref.data["id"] == "j2"
    assert not answer.is_inferred
    assert world.poll(answer.ref)[answer.ref.id].state is ExternalState.RUNNING


def test_of_two_runs_with_our_key_the_earlier_is_adopted(world: World) -> None:
    request = world.request(start=_TAGGED, find={**_FIND, "key": "tag"})
    world.lose(request)
    world.clock.advance(1)
    world.start(request)
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.ref.data["id"] == "j1"


def test_the_look_up_reads_past_any_number_of_pages_down_to_the_permit(world: World) -> None:
    world.start(world.request())
    world.clock.advance(3600)
    request = world.request(start=_TAGGED, find={**_FIND, "key": "tag"})
    world.lose(request)
    for no in range(250):
        world.clock.advance(1)
        world.start(world.request(no=no))
    world.sandbox.page_size = 2
    world.sandbox.requests.clear()
    assert isinstance(world.find(request), Found)
    assert world.sandbox.requests["GET /jobs"] == 126


def test_an_earlier_send_of_our_key_is_found_after_a_later_permit(world: World) -> None:
    request = world.request(start=_TAGGED, find={**_FIND, "key": "tag"})
    world.lose(request)
    world.clock.advance(200)
    answer = world.find(replace(request, permit_at=world.clock.now()))
    assert isinstance(answer, Found)


def test_by_time_alone_one_new_run_is_inferred_to_be_ours_and_two_are_nobodys(world: World) -> None:
    world.start(world.request(no=7))
    request = world.prepared(world.request(find=_FIND))
    assert isinstance(world.find(request), Absent)
    world.lose(request)
    answer = world.find(request)
    assert isinstance(answer, Found)
    assert answer.is_inferred
    world.start(world.request(no=8))
    assert isinstance(world.find(request), FindUnknown)


def test_a_run_after_the_settle_window_is_somebody_elses(world: World) -> None:
    request = world.prepared(world.request(find={**_FIND, "lag_s": 60, "skew_s": 10}))
    world.clock.advance(71)
    world.start(world.request(no=8))
    assert isinstance(world.find(request), Absent)


def test_only_runs_that_match_can_be_ours(world: World) -> None:
    request = world.prepared(world.request(find={**_FIND, "match": {"name": "contract"}}))
    world.start(world.request(no=8, start={"path": "/jobs", "json": {"name": "other"}, "id": "id"}))
    assert isinstance(world.find(request), Absent)
    world.lose(request)
    assert isinstance(world.find(request), Found)


def test_without_a_baseline_time_alone_proves_nothing(world: World) -> None:
    request = world.request(find=_FIND)
    world.lose(request)
    assert isinstance(world.find(request), FindUnknown)


@pytest.mark.parametrize(
    ("body", "find"),
    [
        (b'{"jobs": [{"id": "x"}], "next": "1"}', {**_FIND, "created": None, "key": "tag", "since": {"param": "s"}}),
        (b'{"jobs": [{"id": "x"}], "next": "http://b.test/"}', {**_FIND, "next_param": None, "key": "tag"}),
        (b'{"jobs": [{"id": "x"}]}', {**_FIND, "key": "tag", "next": None, "next_param": None, "page_param": "page"}),
        (b'{"jobs": null}', {**_FIND, "key": "tag"}),
    ],
)
def test_a_list_that_cannot_be_read_to_its_end_is_no_proof_of_absence(
    world: World, body: bytes, find: dict[str, Json]
) -> None:
    request = world.request(start=_TAGGED, find=find)
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=body, times=-1))
    with pytest.raises(UnreadableError):
        world.find(request)


def test_an_item_without_an_id_or_a_time_makes_absence_unknown(world: World) -> None:
    request = world.prepared(world.request(find=_FIND))
    body = b'{"jobs": [{"id": "x", "created_at": "soon"}], "next": null}'
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=body))
    assert isinstance(world.find(request), FindUnknown)


def test_a_repeated_key_gives_the_same_run(world: World) -> None:
    request = world.request(key={"header": "Idempotency-Key"})
    world.lose(request)
    assert world.start(request).data["id"] == "j1"
    assert len(world.sandbox.ledger) == 1


def test_a_conflict_about_somebody_elses_run_is_not_adopted(world: World) -> None:
    world.sandbox.has_conflicts = True
    exists: Json = {"id": "existing.id", "key": "existing.key"}
    request = world.request(key={"json": "idempotency_key"}, already_exists=exists)
    world.lose(request)
    assert world.start(request).data["id"] == "j1"
    body = b'{"existing": {"id": "j9", "key": "somebody-else"}}'
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, status=409, path="^/jobs$", body=body))
    with pytest.raises(RejectedError, match="does not carry our key"):
        world.start(request)
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, status=409, path="^/jobs$", body=b"<html>"))
    with pytest.raises(AmbiguousError):
        world.start(request)


def test_a_busy_status_is_busy_and_a_documented_refusal_is_refused(world: World) -> None:
    world.sandbox.max_running = 0
    with pytest.raises(BusyError):
        world.start(world.request(busy_statuses=[409]))
    with pytest.raises(RejectedError):
        world.start(world.request())
    world.sandbox.faults.add(Fault(effect=Effect.ERROR, status=503, path="^/jobs$"))
    with pytest.raises(RefusedError):
        world.start(world.request(start={**_TAGGED, "refused_statuses": [503]}))
    assert not world.sandbox.ledger


def test_a_start_that_answers_the_end_is_not_polled(world: World) -> None:
    start: Json = {**_TAGGED, "state": "state", "outputs": {"tag": "tag"}}
    world.sandbox.duration_s = 0
    ref = world.start(world.request(start=start, poll=None, cancel=None, logs=None))
    seen = world.poll(ref)[ref.id]
    assert seen.state is ExternalState.SUCCEEDED
    assert seen.outputs["tag"] == world.sandbox.ledger[0].key
    assert "GET /jobs/{id}" not in world.sandbox.requests


def test_a_start_that_answers_no_end_and_cannot_be_polled_is_never_green(world: World) -> None:
    start: Json = {**_TAGGED, "state": "state"}
    ref = world.start(world.request(start=start, poll=None, cancel=None, logs=None))
    assert world.poll(ref)[ref.id].state is ExternalState.VANISHED
    unknown = world.start(world.request(start=start, poll=None, cancel=None, logs=None, states={"done": "succeeded"}))
    assert world.poll(unknown)[unknown.id].state is ExternalState.UNRECOGNISED


def test_a_fire_and_forget_start_ends_with_its_answer(world: World) -> None:
    start: Json = {"path": "/jobs", "is_final": True, "outputs": {"job": "id"}}
    request = world.request(start=start, poll=None, cancel=None, logs=None, states=None)
    ref = world.start(request)
    assert world.poll(ref)[ref.id].outputs == {"id": request.key, "state": "answered", "job": "j1"}
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=b""))
    assert world.poll(world.start(request))[ref.id].state is ExternalState.SUCCEEDED


def test_ids_go_into_a_json_body_as_a_list(world: World) -> None:
    batch: Json = {**_BATCH, "method": "POST", "path": "/search", "params": {}, "json": {"filter": {"ids": "{ids}"}}}
    sent: list[bytes] = []
    inner = world.sandbox.app

    async def spy(scope: Message, receive: Receive, send: Send) -> None:
        async def heard() -> Message:
            message = await receive()
            sent.append(message.get("body", b""))
            return message

        await inner(scope, heard, send)

    ref = world.start(world.request(batch=batch))
    connection = Connection.model_validate(world.sandbox.connection("http://jobs.test"))
    spied = HttpIntegration(context_for(spy, clock=world.clock, state_dir=Path()), connection)
    with pytest.raises(RejectedError):
        asyncio.run(spied.poll([ref]))
    assert sent[0] == b'{"filter":{"ids":["j1"]}}'


def test_strange_values_are_text_and_numbers_stay_finite(world: World) -> None:
    ref = world.start(world.request())
    body = (
        b'{"id": "j1", "state": "done", "message": "nul \\u0000 and \\ud800",'
        b' "result": {"rows": 1e999}, "url": "javascript:alert(1)"}'
    )
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs/j1$", body=body))
    seen = world.poll(ref)[ref.id]
    assert seen.message is not None
    assert seen.message.startswith("nul ? and ?")
    assert seen.outputs["rows"] is None
    canonical(dict(seen.outputs))


def test_a_link_is_a_page_on_the_web_or_nothing(world: World) -> None:
    ref = world.start(world.request())
    assert ref.link == "http://jobs.test/ui/jobs/j1"
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs$", body=b'{"id": "a", "url": "javascript:x"}'))
    assert world.start(world.request()).link is None


def test_a_secret_that_the_api_echoes_is_masked_everywhere(world: World) -> None:
    ref = world.start(world.request())
    echo = b'{"id":"j1","state":"error","message":"bad %s","result":{"rows":["%s"]}}'
    secret = world.sandbox.token.encode()
    world.sandbox.faults.add(Fault(effect=Effect.BODY, path="^/jobs/j1$", body=echo.replace(b"%s", secret)))
    assert world.sandbox.token not in repr(world.poll(ref))


def test_the_service_keeps_time_by_itself(world: World) -> None:
    world.sandbox.queue_s = 2
    ref = world.start(
        world.request(start={"path": "/jobs", "json": {"duration_s": 10, "outcome": "failed"}, "id": "id"})
    )
    words = []
    for _ in range(4):
        words.append(world.poll(ref)[ref.id].word)
        world.clock.advance(4)
    assert words == ["pending", "running", "running", "error"]


def test_a_late_answer_is_still_one_run(world: World) -> None:
    world.sandbox.answer_delay_s = 20
    began = world.clock.now()
    world.start(world.request())
    assert world.clock.now() - began == timedelta(seconds=20)
    assert world.sandbox.ledger[0].at == began
