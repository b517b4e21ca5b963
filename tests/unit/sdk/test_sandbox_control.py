"""A served sandbox can be read, made to fail and driven from outside, and its vendor's paths know nothing of it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from conductor.core.vendor import ExternalState
from conductor.sdk.sandbox_control import controlled
from conductor.sdk.testing import FakeClock
from integrations.http.sandbox import HttpSandbox, make_sandbox


def call(sandbox: HttpSandbox, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
    async def send() -> tuple[int, dict[str, Any]]:
        transport = httpx.ASGITransport(app=controlled(sandbox))
        async with httpx.AsyncClient(transport=transport, base_url="http://vendor.test") as client:
            answer = await client.request(method, path, json=body, headers={"Authorization": f"Bearer {sandbox.token}"})
        return answer.status_code, answer.json()

    return asyncio.run(send())


def test_the_ledger_shows_what_was_accepted() -> None:
    sandbox = make_sandbox(FakeClock())
    call(sandbox, "POST", "/jobs", {"name": "nightly"})
    _, told = call(sandbox, "GET", "/-/ledger")
    assert [row["scope"] for row in told["ledger"]] == ["nightly"]


def test_a_fault_hits_the_next_request_once_and_never_the_control_paths() -> None:
    sandbox = make_sandbox(FakeClock())
    assert call(sandbox, "POST", "/-/faults", {"effect": "error", "status": 429})[0] == 201
    assert call(sandbox, "GET", "/-/requests")[0] == 200
    assert call(sandbox, "POST", "/jobs", {"name": "nightly"})[0] == 429
    assert call(sandbox, "POST", "/jobs", {"name": "nightly"})[0] in {200, 201}


def test_faults_can_be_taken_back() -> None:
    sandbox = make_sandbox(FakeClock())
    call(sandbox, "POST", "/-/faults", {"effect": "error", "times": -1})
    call(sandbox, "DELETE", "/-/faults")
    assert call(sandbox, "POST", "/jobs", {"name": "nightly"})[0] in {200, 201}


def test_a_run_can_be_driven_to_its_end() -> None:
    sandbox = make_sandbox(FakeClock())
    _, job = call(sandbox, "POST", "/jobs", {"name": "nightly"})
    status, _ = call(sandbox, "POST", "/-/advance", {"scope": "nightly", "state": "failed"})
    assert status == 200
    _, seen = call(sandbox, "GET", f"/jobs/{job['id']}")
    assert seen["state"] == sandbox.words[ExternalState.FAILED]


def test_what_is_not_understood_is_refused_with_the_place() -> None:
    sandbox = make_sandbox(FakeClock())
    status, told = call(sandbox, "POST", "/-/faults", {"effect": "explode", "tims": 1})
    assert status == 422
    assert "effect" in told["error"]
    assert "tims" in told["error"]
    assert call(sandbox, "POST", "/-/advance", {"scope": "nobody", "state": "failed"})[0] == 409
