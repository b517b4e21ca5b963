"""`command.run`: builds the child's spec, reads its files, lets `mapping` judge. No sleep, no retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from conductor.sdk import (
    Baseline,
    CancelSupport,
    Capabilities,
    Context,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    FindAnswer,
    Health,
    LogExcerpt,
    Observation,
    Operation,
    Plugin,
    Request,
    UnreadableError,
)
from conductor.sdk.child import Children, ChildSpec
from conductor.sdk.child_view import observe_child
from integrations.command import mapping
from integrations.command.config import Connection, Outputs, RunSettings

__all__ = ["CAPABILITIES", "Commands", "build", "plugin"]

CAPABILITIES = Capabilities(
    correlation=Correlation.KEY,
    delivery=Delivery.EFFECTIVELY_ONCE,
    cancel=CancelSupport.CONFIRMED,
    batch_size=1000,
    poll_floor_s=0.1,
    settle_window_s=5.0,
    key_ttl_s=7 * 86_400.0,
    not_found_grace_s=0.0,
    maturity="real server",
)
_OUTPUT = "output.json"


class Commands:
    """The commands of one connection. Keeps nothing: every answer is read from the children's directories."""

    def __init__(self, context: Context, connection: Connection, children: Children) -> None:
        self._context = context
        self._connection = connection
        self._children = children

    async def prepare(self, request: Request) -> Baseline:  # noqa: ARG002 - the protocol's
        """Nothing to read: the key alone tells attempts apart."""
        return Baseline()

    async def start(self, request: Request) -> ExternalRef:
        """Launch the command; with the same key, at most once ever."""
        settings = RunSettings.model_validate(dict(request.settings))
        directory = self._children.directory(request.key)
        own = {
            "CONDUCTOR_KEY": request.key,
            "CONDUCTOR_PIPELINE": request.pipeline,
            "CONDUCTOR_NODE": request.node,
            "CONDUCTOR_RUN_ID": request.run_id,
            "CONDUCTOR_ATTEMPT": str(request.attempt_no),
            "CONDUCTOR_OUTPUT": str(directory / _OUTPUT),
        }
        spec = ChildSpec(
            key=request.key,
            argv=settings.words,
            cwd=self._folder(settings.cwd),
            env={**settings.env, **own},
            pass_env=tuple(settings.pass_env),
            secret_env={name: value.get_secret_value() for name, value in self._connection.secret_env.items()},
            int_grace_s=settings.interrupt_grace_s,
            term_grace_s=settings.terminate_grace_s,
            log_cap_bytes=self._connection.log_cap_mib * 1024 * 1024,
            meta={"exit_codes": settings.model_dump(mode="json")["exit_codes"]},
        )
        await self._children.start(spec)
        return ExternalRef(id=request.key)

    async def poll(self, refs: Sequence[ExternalRef]) -> Mapping[str, Observation]:
        """Look at each child's files. A child that cannot be read is left out; if none can be, that is raised."""
        seen: dict[str, Observation] = {}
        trouble: UnreadableError | None = None
        for ref in refs:
            try:
                seen[ref.id] = self._observe(ref.id)
            except UnreadableError as error:
                trouble = error
        if trouble is not None and not seen:
            raise trouble
        return seen

    async def find(self, request: Request, baseline: Baseline | None) -> FindAnswer:  # noqa: ARG002 - the protocol's
        """The claim tells: with it the command was launched, without it nothing was."""
        return self._children.find(request.key)

    async def cancel(self, ref: ExternalRef) -> None:
        """SIGINT, then SIGTERM, then SIGKILL to the command's whole process group."""
        self._children.cancel(ref.id)

    async def logs(self, ref: ExternalRef) -> LogExcerpt:
        """The last lines of its output."""
        return self._children.tail(ref.id)

    async def check(self) -> Health:
        """Tell whether the folder of the children can be used."""
        return self._children.check()

    def _folder(self, path: str) -> Path:
        return (self._context.project_dir / Path(path).expanduser()).resolve()

    def _observe(self, key: str) -> Observation:
        view = self._children.look(key)
        judged = observe_child(view)
        if judged is None:
            rules = self._children.meta(key).get("exit_codes")
            return mapping.observe_exit(
                view,
                rules=rules if isinstance(rules, dict) else {},
                output=self._children.artifact(key, _OUTPUT, max_bytes=mapping.OUTPUT_CAP_BYTES + 1),
                lines=self._children.tail(key).lines,
            )
        if judged.state is ExternalState.FAILED:
            return self._children.with_log(key, judged)
        return judged


def build(context: Context, connection: BaseModel) -> Commands:
    """The integration of one connection. No I/O."""
    assert isinstance(connection, Connection)
    children = Children(
        context.state_dir / "children",
        redact=context.redact,
        clock=context.clock,
        keep_days=connection.keep_days,
    )
    for secret in connection.secret_env.values():
        context.redact.add(secret.get_secret_value())
    return Commands(context, connection, children)


plugin = Plugin(
    kind="command",
    title="Commands",
    summary="Programs and scripts on the host of Conductor, as supervised processes that outlive it.",
    connection=Connection,
    operations={
        "run": Operation(
            name="run",
            summary="Run a program and judge it by its exit code.",
            settings=RunSettings,
            outputs=Outputs,
            capabilities=lambda _settings: CAPABILITIES,
            guarantee=(
                "Effectively once: the command is launched at most once per attempt, whatever crashes and however "
                "often the start is repeated, while its state folder is kept on a local disk; an end that was not "
                "recorded is vanished, never a success. It does not survive its host."
            ),
        )
    },
    build=build,
)
