"""The hand on a served sandbox: its ledger to read, its faults to set, its runs to drive, under `/-/` on its own port.

For tests and trials on this machine. A vendor has no such paths, so nothing that talks to the vendor meets them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from conductor.core.vendor import ExternalState
from conductor.sdk.sandbox import AsgiApp, Effect, Fault, Sandbox

__all__ = ["PREFIX", "controlled"]

PREFIX = "/-/"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _FaultBody(_Strict):
    effect: Effect
    method: str = ""
    path: str = ""
    times: int = Field(default=1, ge=-1)
    status: int = Field(default=503, ge=200, le=599)
    headers: dict[str, str] = {}
    body: str = '{"message": "injected"}'
    delay_s: float = Field(default=0.0, ge=0, le=3600)

    def fault(self) -> Fault:
        values = self.model_dump() | {"body": self.body.encode()}
        return Fault(**values)


class _AdvanceBody(_Strict):
    scope: str
    state: ExternalState
    word: str = ""


def controlled(sandbox: Sandbox) -> AsgiApp:
    """The sandbox's app with these paths before it; their requests are in no ledger and meet no fault.

    * `GET /-/ledger`: every accepted start. `GET /-/requests`: how many requests arrived, by path.
    * `POST /-/faults`: plays a `Fault` on the next requests that match it. `DELETE /-/faults`: plays nothing more.
    * `POST /-/advance` with `{scope, state, word}`: drives the newest run of a scope.
    """
    app = sandbox.app
    control = _routes(sandbox)

    async def choose(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        is_ours = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (control if is_ours else app)(scope, receive, send)

    return choose


def _routes(sandbox: Sandbox) -> Starlette:
    async def ledger(_request: Request) -> Response:
        rows = [
            {"at": entry.at.isoformat(), "scope": entry.scope, "run": entry.run, "key": entry.key}
            for entry in sandbox.ledger
        ]
        return JSONResponse({"ledger": rows})

    async def requests(_request: Request) -> Response:
        return JSONResponse({"requests": sandbox.requests})

    async def add_fault(request: Request) -> Response:
        try:
            sandbox.faults.add(_FaultBody.model_validate_json(await request.body()).fault())
        except ValidationError as error:
            return _refused(error)
        return JSONResponse({"added": True}, status_code=201)

    async def clear_faults(_request: Request) -> Response:
        sandbox.faults.clear()
        return JSONResponse({"cleared": True})

    async def advance(request: Request) -> Response:
        try:
            asked = _AdvanceBody.model_validate_json(await request.body())
            sandbox.advance(asked.scope, asked.state, word=asked.word)
        except ValidationError as error:
            return _refused(error)
        except (KeyError, ValueError) as error:
            return JSONResponse({"error": f"that run cannot be driven so: {error}"}, status_code=409)
        return JSONResponse({"scope": asked.scope, "state": asked.state.value})

    return Starlette(
        routes=[
            Route(f"{PREFIX}ledger", ledger),
            Route(f"{PREFIX}requests", requests),
            Route(f"{PREFIX}faults", add_fault, methods=["POST"]),
            Route(f"{PREFIX}faults", clear_faults, methods=["DELETE"]),
            Route(f"{PREFIX}advance", advance, methods=["POST"]),
        ]
    )


def _refused(error: ValidationError) -> Response:
    problems = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors(include_url=False)]
    return JSONResponse({"error": "; ".join(problems)}, status_code=422)
