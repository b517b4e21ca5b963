"""The sandbox is no kinder than Hightouch: auth, ids, paging, limits, queueing, time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from conductor.sdk import ExternalState, Sandbox
from conductor.sdk.testing import FakeClock
from integrations.hightouch import plugin
from integrations.hightouch.sandbox import API_KEY, ErrorShape, HightouchSandbox


def call(
    sandbox: HightouchSandbox, method: str, path: str, *, json: object = None, key: str = API_KEY
) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=sandbox.app)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://x/api/v1", headers=headers) as client:
            return await client.request(method, path, json=json)

    return asyncio.run(once())


def words(sandbox: HightouchSandbox, sync_id: int = 1001) -> list[str]:
    rows = call(sandbox, "GET", f"/syncs/{sync_id}/runs?limit=100").json()["data"]
    return [row["status"] for row in rows]


def test_the_plugin_makes_a_sandbox_of_a_clock_alone() -> None:
    assert plugin.sandbox is not None
    made: Sandbox = plugin.sandbox(FakeClock())
    assert made.ledger == []


def test_the_trigger_answers_text_and_the_run_object_a_number() -> None:
    sandbox = HightouchSandbox(FakeClock())
    made = call(sandbox, "POST", "/syncs/1001/trigger", json={"fullResync": False}).json()["id"]
    assert isinstance(made, str)
    assert call(sandbox, "GET", "/syncs/1001/runs").json()["data"][0]["id"] == int(made)


def test_a_wrong_key_is_answered_with_text() -> None:
    answer = call(HightouchSandbox(FakeClock()), "GET", "/syncs", key="nope")
    assert (answer.status_code, answer.text) == (401, "Unauthorized")


def test_runs_queue_behind_each_other_and_end_by_themselves() -> None:
    clock = FakeClock()
    sandbox = HightouchSandbox(clock, run_s=20.0)
    for _ in range(2):
        assert call(sandbox, "POST", "/syncs/1001/trigger").status_code == 200
    clock.advance(10)
    assert words(sandbox) == ["queued", "processing"]
    clock.advance(9)
    assert words(sandbox) == ["queued", "reporting"]
    clock.advance(3)
    assert words(sandbox) == ["querying", "success"]
    clock.advance(60)
    assert words(sandbox) == ["success", "success"]
    first, second = reversed(call(sandbox, "GET", "/syncs/1001/runs").json()["data"])
    assert second["startedAt"] == first["finishedAt"]
    assert second["createdAt"] < second["startedAt"]


def test_the_callback_is_called_once_a_run_and_its_rows_are_pushed() -> None:
    clock = FakeClock()
    called: list[str] = []

    def on_sync(sync_id: str) -> int:
        called.append(sync_id)
        return 42

    sandbox = HightouchSandbox(clock, run_s=20.0, on_sync=on_sync)
    call(sandbox, "POST", "/syncs/1002/trigger")
    assert called == []
    for _ in range(5):
        clock.advance(10)
        words(sandbox, 1002)
    assert called == ["1002"]
    row = call(sandbox, "GET", "/syncs/1002/runs").json()["data"][0]
    assert (row["status"], row["querySize"], row["successfulRows"]["addedCount"]) == ("success", 42, 42)


def test_a_callback_that_raises_makes_the_run_fail_in_its_words() -> None:
    clock = FakeClock()

    def on_sync(sync_id: str) -> int:
        raise LookupError("no such table: mart")

    sandbox = HightouchSandbox(clock, run_s=20.0, on_sync=on_sync)
    call(sandbox, "POST", "/syncs/1001/trigger")
    clock.advance(25)
    row = call(sandbox, "GET", "/syncs/1001/runs").json()["data"][0]
    assert (row["status"], row["error"]) == ("failed", "The query failed: no such table: mart")


def test_a_driven_run_calls_nothing_and_stays_where_it_was_put() -> None:
    clock = FakeClock()
    sandbox = HightouchSandbox(clock, run_s=20.0, on_sync=lambda sync_id: pytest.fail(f"{sync_id} was processed"))
    call(sandbox, "POST", "/syncs/1001/trigger")
    sandbox.advance("1001", ExternalState.RUNNING)
    clock.advance(3600)
    assert words(sandbox) == ["processing"]


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "limit=x", "offset=-1", "orderBy=created_at"])
def test_bad_paging_is_refused(query: str) -> None:
    assert call(HightouchSandbox(FakeClock()), "GET", f"/syncs/1001/runs?{query}").status_code == 422


def test_lists_are_paged_with_the_vendors_small_defaults() -> None:
    sandbox = HightouchSandbox(FakeClock())
    for number in range(2001, 2031):
        sandbox.add_sync(number, f"s-{number}")
    for _ in range(7):
        sandbox.inject("1001", state=ExternalState.SUCCEEDED)
    runs = call(sandbox, "GET", "/syncs/1001/runs").json()
    assert (len(runs["data"]), runs["hasMore"]) == (5, True)
    assert len(call(sandbox, "GET", "/syncs").json()["data"]) == 20
    rest = call(sandbox, "GET", "/syncs/1001/runs?offset=5").json()
    assert (len(rest["data"]), rest["hasMore"]) == (2, False)


def test_time_filters_leave_out_runs_whose_work_has_not_begun() -> None:
    sandbox = HightouchSandbox(FakeClock(), run_s=None)
    call(sandbox, "POST", "/syncs/1001/trigger")
    assert call(sandbox, "GET", "/syncs/1001/runs?within=60").json()["data"] == []
    assert len(words(sandbox)) == 1


def test_the_two_hundred_and_first_request_in_ten_seconds_is_refused_without_a_header() -> None:
    clock = FakeClock()
    sandbox = HightouchSandbox(clock)
    for _ in range(200):
        assert call(sandbox, "GET", "/syncs?limit=1").status_code == 200
    answer = call(sandbox, "POST", "/syncs/1001/trigger")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert sandbox.ledger == []
    clock.advance(10.1)
    assert call(sandbox, "GET", "/syncs?limit=1").status_code == 200


def test_foreign_runs_are_in_the_list_and_not_in_the_ledger() -> None:
    sandbox = HightouchSandbox(FakeClock())
    foreign = sandbox.inject("1001")
    assert [str(row["id"]) for row in call(sandbox, "GET", "/syncs/1001/runs").json()["data"]] == [foreign]
    assert sandbox.ledger == []


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        (ErrorShape.DETAILS, lambda answer: answer.json()["details"]["sync"]),
        (ErrorShape.ERROR, lambda answer: answer.json()["error"]),
        (ErrorShape.TEXT, lambda answer: answer.text),
    ],
)
def test_a_disabled_sync_is_refused_in_three_shapes(shape: ErrorShape, read: Callable[[httpx.Response], str]) -> None:
    sandbox = HightouchSandbox(FakeClock())
    sandbox.error_shape = shape
    sandbox.disable("1001")
    answer = call(sandbox, "POST", "/syncs/1001/trigger")
    assert (answer.status_code, read(answer)) == (422, "sync is disabled")
    assert sandbox.ledger == []


@pytest.mark.parametrize("body", [{"syncId": 1001, "syncSlug": "contacts-to-crm"}, {"fullResync": True}, {}])
def test_a_trigger_by_name_names_exactly_one_sync(body: dict[str, object]) -> None:
    assert call(HightouchSandbox(FakeClock()), "POST", "/syncs/trigger", json=body).status_code == 422


def test_the_overview_shows_words_and_no_run_ids() -> None:
    sandbox = HightouchSandbox(FakeClock(), run_s=None)
    sandbox.inject("1001", state=ExternalState.RUNNING)
    sandbox.disable("1002")
    rows = {row["id"]: row for row in call(sandbox, "GET", "/syncs").json()["data"]}
    assert (rows[1001]["status"], rows[1002]["status"]) == ("processing", "disabled")
    assert "runId" not in rows[1001]
