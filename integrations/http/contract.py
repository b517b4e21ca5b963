"""Five ways of declaring the same job service, each wired to a fresh sandbox for the SDK's contract checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from conductor.core.vendor import ExternalState, Json
from conductor.sdk.contract import Harness
from conductor.sdk.testing import FakeClock, context_for
from integrations.http import plugin
from integrations.http.config import Connection, JobSettings
from integrations.http.sandbox import make_sandbox

__all__ = ["HARNESSES", "base_settings"]

_BASE_URL = "http://jobs.test"
_SCOPE = "contract"
_WORDS: Mapping[str, ExternalState] = {
    "pending": ExternalState.QUEUED,
    "running": ExternalState.RUNNING,
    "stopping": ExternalState.RUNNING,
    "done": ExternalState.SUCCEEDED,
    "done_with_warnings": ExternalState.WARNED,
    "error": ExternalState.FAILED,
    "stopped": ExternalState.CANCELLED,
}


def base_settings() -> dict[str, Json]:
    """A node of the sandbox's job service that declares neither key nor find."""
    return {
        "start": {"path": "/jobs", "json": {"name": _SCOPE, "duration_s": 900}, "id": "id", "link": "url"},
        "poll": {
            "path": "/jobs/{id}",
            "state": "state",
            "message": "message",
            "link": "url",
            "progress": "progress",
            "outputs": {"rows": "result.rows"},
        },
        "states": {word: state.value for word, state in _WORDS.items()},
        "cancel": {"path": "/jobs/{id}/cancel"},
        "logs": {"path": "/jobs/{id}/log", "text": "lines"},
    }


def _batch() -> dict[str, Json]:
    return {
        "path": "/jobs",
        "params": {"ids": "{ids}"},
        "items": "jobs",
        "id": "id",
        "state": "state",
        "message": "message",
        "progress": "progress",
        "outputs": {"rows": "result.rows"},
    }


def _find(**more: Json) -> dict[str, Json]:
    paging: dict[str, Json] = {"next": "next", "next_param": "cursor", "since": {"param": "since"}}
    return {"path": "/jobs", "items": "jobs", "id": "id", "created": "created_at", "link": "url", **paging, **more}


def _tagged() -> dict[str, Json]:
    return {
        "path": "/jobs",
        "json": {"name": _SCOPE, "duration_s": 900, "tag": "{key}"},
        "id": "id",
        "link": "url",
    }


def _harness(name: str, folder: Path, *, has_conflicts: bool = False, **more: Json) -> Harness:
    clock = FakeClock()
    sandbox = make_sandbox(clock)
    sandbox.list_lag_s, sandbox.page_size, sandbox.has_conflicts = 4.0, 2, has_conflicts
    context = context_for(sandbox.app, clock=clock, state_dir=folder)
    settings = JobSettings.model_validate({**base_settings(), **more})
    return Harness(
        name=f"http.job ({name})",
        operation=plugin.operations["job"],
        integration=plugin.build(context, Connection.model_validate(sandbox.connection(_BASE_URL))),
        settings=settings.model_dump(mode="json"),
        sandbox=sandbox,
        scope=_SCOPE,
        start_path="^/jobs$",
        read_path="^/jobs",
        words=_WORDS,
        secret=sandbox.token,
        pass_time=clock.advance,
    )


HARNESSES: dict[str, Callable[[Path], Harness]] = {
    "job-with-key": lambda folder: _harness(
        "job-with-key", folder, key={"header": "Idempotency-Key", "ttl_s": 86_400}, batch=_batch()
    ),
    "job-with-conflict": lambda folder: _harness(
        "job-with-conflict",
        folder,
        has_conflicts=True,
        key={"json": "idempotency_key"},
        already_exists={"status": 409, "id": "existing.id", "key": "existing.key"},
    ),
    "job-with-find-tag": lambda folder: _harness(
        "job-with-find-tag", folder, start=_tagged(), find=_find(key="tag"), batch=_batch()
    ),
    "job-with-window": lambda folder: _harness("job-with-window", folder, find=_find()),
    "job-with-neither": lambda folder: _harness("job-with-neither", folder),
}
