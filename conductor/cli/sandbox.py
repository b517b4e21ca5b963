"""`conductor sandbox serve`: vendors' sandboxes on loopback ports, for demos and tests of one's own pipelines."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor.cli.session import session_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, MutableMapping

    from conductor.sdk.sandbox import Sandbox

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ["add"]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Vendors played on this machine.", no_args_is_help=True)
    group.callback()(_group)
    group.command("serve")(_serve)
    app.add_typer(group, name="sandbox")


def _group() -> None:
    """Vendors played on this machine."""


def _serve(
    context: typer.Context,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND[:PORT]]...", help="Which, such as fivetran:9001; all without it."),
    ] = None,
) -> None:
    """Serve vendors' sandboxes on this machine until Ctrl-C; prints their addresses as JSON.

    Under /-/ each shows what it accepted (GET /-/ledger), plays faults (POST /-/faults), moves runs (POST /-/advance).
    """
    from conductor.core.errors import ConflictError
    from conductor.engine.clock import SystemClock
    from conductor.loader.plugins import load_plugins

    plugins = load_plugins().by_kind
    offered = {kind: plugin.sandbox for kind, plugin in plugins.items() if plugin.sandbox is not None}
    wanted = [_wanted(text) for text in kinds or sorted(offered)]
    clock = SystemClock()
    sandboxes: dict[str, Sandbox] = {}
    for kind, _ in wanted:
        make = offered.get(kind)
        if make is None or kind in sandboxes:
            why = "it is named twice" if kind in sandboxes else f"those with one are {', '.join(sorted(offered))}"
            raise ConflictError(f"the sandbox of {kind!r} cannot be served: {why}")
        sandboxes[kind] = make(clock)
    sockets = {kind: _bound(kind, port) for kind, port in wanted}
    urls = {kind: f"http://127.0.0.1:{bound.getsockname()[1]}" for kind, bound in sockets.items()}
    told = {kind: {"base_url": url, "connection": sandboxes[kind].connection(url)} for kind, url in urls.items()}
    print(json.dumps({"version": 1, "kind": "sandboxes", "sandboxes": told}, default=str))
    say = session_of(context).say
    say.note(
        "serving until Ctrl-C; `connection` holds the settings for connections.yml: set its secrets as variables and "
        "write ${{ secret('NAME') }} there"
    )
    say.flush()
    by_port = {sockets[kind].getsockname()[1]: sandboxes[kind] for kind in sockets}
    asyncio.run(_until_stopped(by_port, list(sockets.values())))


def _wanted(text: str) -> tuple[str, int]:
    kind, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise typer.BadParameter(f"{text!r}: write KIND or KIND:PORT, such as fivetran:9001")
    return kind, int(port or 0)


def _bound(kind: str, port: int) -> socket.socket:
    import socket

    from conductor.core.errors import ConflictError

    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise ConflictError(
            f"the sandbox of {kind} cannot listen on port {port}: {error.strerror or error}; choose another port"
        ) from error
    return bound


async def _until_stopped(sandboxes: dict[int, Sandbox], sockets: list[socket.socket]) -> None:
    """One server for all of them: the port that a request came in on says which vendor is meant."""
    import uvicorn

    from conductor.sdk.sandbox_control import controlled

    apps = {port: controlled(sandbox) for port, sandbox in sandboxes.items()}

    async def by_port(scope: Message, receive: Receive, send: Send) -> None:
        await apps[scope["server"][1]](scope, receive, send)

    config = uvicorn.Config(
        by_port, log_level="critical", lifespan="off", access_log=False, timeout_graceful_shutdown=1
    )
    await uvicorn.Server(config).serve(sockets=sockets)
