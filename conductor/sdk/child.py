"""Work on this host as detached, supervised children: each has a directory, and files alone tell how it is doing.

`kill -9` of Conductor leaves children running; a restarted Conductor reads the same files. This module starts
supervisors (`supervisor.py`, a program of its own) and reads what they leave. It must hold nothing of a child in
memory, write no secret to a file, and never wait for a child. Children live as long as their host, container or
service group.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from conductor.core.errors import AmbiguousError, RefusedError, RejectedError, UnreadableError
from conductor.core.vendor import Absent, ExternalRef, Found, Health, Json, LogExcerpt, Observation
from conductor.sdk import supervisor
from conductor.sdk.child_log import LogChunk, log_end, read_chunk, read_tail
from conductor.sdk.child_view import ChildExit, ChildPhase, ChildView
from conductor.sdk.clock import Clock
from conductor.sdk.redact import Redactor

__all__ = ["HARMLESS_ENV", "ChildSpec", "Children", "Read", "Spawn", "read_file", "spawn_supervisor"]

Spawn = Callable[[Path, Mapping[str, str]], int]
"""Starts a supervisor for a directory, with an environment; answers the code of its first process."""

Read = Callable[[Path], bytes]
"""Reads a record file; raises OSError."""


HARMLESS_ENV = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
    }
)
"""The variables that every child inherits, besides those that begin with `LC_`. Nothing else passes by itself."""

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET_NAME = re.compile(r"secret|token|passw|credential|private|api_?key|access_?key|auth", re.IGNORECASE)
_START_DEADLINE_S = 30.0
_PRUNE_EVERY = timedelta(hours=1)
_MAX_RECORD_BYTES = 1024 * 1024
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One command, frozen before its start.

    Attributes:
        key: The attempt's key; names the directory. The command is launched at most once per key, ever.
        argv: The program and its arguments; no shell reads them. Visible to every user of the host: no secrets.
        cwd: Where it runs; must exist.
        env: Variables as plain text.
        pass_env: Names of Conductor's own variables that it gets too; those that are not set are left out.
        secret_env: Variables that are secret: they reach the command through its environment and no file.
        int_grace_s: After a cancel: how long SIGINT may take, in seconds, before SIGTERM.
        term_grace_s: How long SIGTERM may take, in seconds, before SIGKILL.
        log_cap_bytes: No more output than this is kept; the newest is.
        meta: What the integration needs to judge the end, as small JSON; kept in the spec file.
        files: Files that the directory shall hold before the command begins, by name.
    """

    key: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    int_grace_s: float = 15.0
    term_grace_s: float = 15.0
    log_cap_bytes: int = 64 * 1024 * 1024
    meta: Mapping[str, Json] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def spawn_supervisor(directory: Path, env: Mapping[str, str]) -> int:
    """Start a supervisor for `directory`; answers when it has claimed it, by the code of its first process.

    Raises:
        OSError: It was not started.
        subprocess.TimeoutExpired: It did not say in time how it began.
    """
    # -I: no PYTHON* variables, no user site, and this folder (whose names shadow the library's) is not importable.
    done = subprocess.run(
        [sys.executable, "-I", "-S", supervisor.__file__, str(directory)],
        env=dict(env),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=True,
        start_new_session=True,
        check=False,
        timeout=_START_DEADLINE_S,
    )
    return done.returncode


def read_file(path: Path) -> bytes:
    """The first MiB of a file: records are small. Raises OSError."""
    with path.open("rb") as file:
        return file.read(_MAX_RECORD_BYTES)


class Children:
    """The children of one connection. Everything it knows is read from `root` at each call."""

    def __init__(
        self,
        root: Path,
        *,
        redact: Redactor,
        clock: Clock,
        environ: Mapping[str, str] | None = None,
        keep_days: float = 14.0,
        spawn: Spawn = spawn_supervisor,
        read: Read = read_file,
    ) -> None:
        """Makes nothing and reads nothing yet.

        Args:
            root: The folder of the children's directories, on a local disk (locks must work).
            redact: Masks secrets in what is read from logs.
            clock: Tells the age of ended children.
            environ: Conductor's own environment; the process's when None.
            keep_days: Directories of children that ended longer ago are removed when others start.
            spawn: Starts a supervisor; tests replace it.
            read: Reads a record file; tests replace it.
        """
        self._root = root
        self._redact = redact
        self._clock = clock
        self._environ: Mapping[str, str] = os.environ if environ is None else environ
        self._keep = timedelta(days=keep_days)
        self._spawn = spawn
        self._read = read
        self._prune_at = datetime.min.replace(tzinfo=UTC)

    def directory(self, key: str) -> Path:
        """Where the child's files are. Raises RejectedError when `key` is not fit to be a name."""
        if not _KEY.match(key):
            raise RejectedError(f"child {key[:60]!r} has no directory: a key has only a-z, 0-9 and -; start it anew")
        return self._root / key

    async def start(self, spec: ChildSpec) -> None:
        """Write the spec and start its command. Any number of times: the command is launched at most once per key.

        The first spec of a key stays. A child that was cancelled before it began never begins.

        Raises:
            RejectedError: The spec is wrong; nothing happened.
            RefusedError: The host could not take it (disk full, no process to be had); nothing happened.
            AmbiguousError: The supervisor did not say whether the command began; starting again is safe.
        """
        env = self._environment(spec)
        directory = self.directory(spec.key)
        if not spec.cwd.is_dir():
            raise RejectedError(f"{spec.key} was not started: there is no folder {spec.cwd}; mend its path")
        await asyncio.to_thread(self._prune)
        try:
            await asyncio.to_thread(self._write_spec, directory, spec)
        except OSError as error:
            why = f"{error.strerror} in {directory}; make room there"
            raise RefusedError(f"{spec.key} was not started: {why}") from error
        try:
            code = await asyncio.to_thread(self._spawn, directory, env)
        except subprocess.TimeoutExpired as error:
            raise AmbiguousError(f"{spec.key}: its supervisor did not answer in {_START_DEADLINE_S:.0f} s") from error
        except OSError as error:
            why = f"{error.strerror}; is the host out of processes or memory?"
            raise RefusedError(f"{spec.key} was not started: {why}") from error
        if code == supervisor.NOT_CLAIMED:
            raise RefusedError(f"{spec.key} was not started: {directory} cannot be written; is the disk full?")
        if code not in _BEGAN:
            raise AmbiguousError(f"{spec.key}: its supervisor ended with {code} before it said how the command began")

    def is_claimed(self, key: str) -> bool:
        """True when the command was launched, or never will be. Raises UnreadableError."""
        return self._exists(self.directory(key) / "claim")

    def find(self, key: str) -> Found | Absent:
        """Whether a start of `key` that may have been lost took effect: the claim tells, and it is durable.

        Raises:
            UnreadableError: The directory cannot be read.
        """
        if self.is_claimed(key):
            return Found(ref=ExternalRef(id=key))
        return Absent(reason=f"no supervisor has claimed {self.directory(key)}")

    def look(self, key: str) -> ChildView:
        """How the child is doing: reads a few small files, changes nothing.

        Raises:
            UnreadableError: A record cannot be read or understood; nothing is known.
        """
        directory = self.directory(key)
        ended = self._exit(directory)
        phase = ChildPhase.ENDED
        if ended is None:
            phase = self._phase(directory)
            ended = self._exit(directory)  # it may have been written between the two looks
            phase = phase if ended is None else ChildPhase.ENDED
        if phase is ChildPhase.VANISHED and not self._exists(directory / "claim"):
            phase = ChildPhase.ABSENT
        started = self._record(directory / "started.json") or {}
        return ChildView(
            key=key,
            phase=phase,
            exit=ended,
            is_cancelled=self._exists(directory / "cancel"),
            started_at=_instant(started.get("started_at")),
            log_bytes=log_end(directory),
        )

    def meta(self, key: str) -> Mapping[str, Json]:
        """`ChildSpec.meta` of the child. Raises UnreadableError when there is no readable spec."""
        spec = self._record(self.directory(key) / "spec.json")
        meta = spec.get("meta") if spec else None
        if not isinstance(meta, dict):
            raise UnreadableError(f"child {key} has no readable spec.json; its directory was damaged")
        return meta

    def cancel(self, key: str) -> None:
        """Ask the child to stop, or never to begin. Idempotent; an ended or unknown child is no error.

        SIGINT, then SIGTERM, then SIGKILL go to its whole process group, from its supervisor. Where the supervisor is
        dead, nobody is left to wait: SIGKILL at once.

        Raises:
            RefusedError: The marker could not be written; ask again.
        """
        directory = self.directory(key)
        if self._exit(directory) is not None:
            return
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(directory / "cancel", os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            raise RefusedError(f"child {key} cannot be cancelled: {error.strerror} in {directory}") from error
        phase = self._phase(directory)
        started = self._record(directory / "started.json") or {}
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if phase is ChildPhase.RUNNING and (pid := _pid(started, "pid")):
                os.kill(pid, signal.SIGTERM)
            elif phase is ChildPhase.ORPHANED and (pid := _pid(started, "child_pid")):
                os.killpg(pid, signal.SIGKILL)

    def read_log(self, key: str, offset: int, *, max_bytes: int = 1024 * 1024) -> LogChunk:
        """Whole lines of output from `offset` on, at most `max_bytes`; secrets are not masked: for parsing only.

        Raises:
            UnreadableError: The log cannot be read.
        """
        return read_chunk(self.directory(key), offset, max_bytes)

    def tail(self, key: str, *, max_lines: int = 200, max_bytes: int = 65_536) -> LogExcerpt:
        """The last lines of output, secrets removed. Raises UnreadableError."""
        data, is_cut = read_tail(self.directory(key), max_bytes)
        lines = self.redacted(key, data.decode("utf-8", errors="replace")).splitlines()
        # A first line that was cut may begin with half a secret, which no mask would know.
        kept = lines[1:] if is_cut else lines
        return LogExcerpt(lines=tuple(kept[-max_lines:]), is_truncated=is_cut or len(kept) > max_lines)

    def artifact(self, key: str, name: str, *, max_bytes: int, is_masked: bool = True) -> bytes | None:
        """The first `max_bytes` of a file that the child left in its directory; None without one.

        Secrets are removed unless `is_masked` is False: then it is for the child of a later attempt only.

        Raises:
            UnreadableError: It is there and cannot be read.
        """
        try:
            with (self.directory(key) / name).open("rb") as file:
                data = file.read(max_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnreadableError(f"{name} of child {key} cannot be read: {error.strerror}") from error
        return self.redacted(key, data.decode("utf-8", errors="replace")).encode() if is_masked else data

    def which(self, program: str) -> str:
        """Where `program` is on the PATH that children get; its bare name when it is nowhere."""
        return shutil.which(program, path=self._environ.get("PATH")) or program

    def with_log(self, key: str, seen: Observation) -> Observation:
        """`seen` with the end of the child's output as its error's detail. Raises UnreadableError."""
        if seen.error is None:
            return seen
        lines = [line for line in self.tail(key).lines if line.strip()]
        return replace(seen, error=replace(seen.error, detail="\n".join(lines[-50:])[-16_000:] or None))

    def check(self) -> Health:
        """Whether children can be started here: the folder can be written and its file system has locks."""
        probe = self._root / ".check"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with probe.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(b"x")
            probe.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # another check holds it this moment: it works
        except OSError as error:
            return Health(is_ok=False, message=f"{self._root}: {error.strerror}; give it room on a local disk")
        return Health(is_ok=True, message=f"children run on this host, their files are in {self._root}")

    def redacted(self, key: str, text: str) -> str:
        """`text` without the secrets of the installation and of the child's passed variables."""
        self._mask(key)
        return self._redact(text)

    def _environment(self, spec: ChildSpec) -> dict[str, str]:
        named = (*spec.env, *spec.pass_env, *spec.secret_env)
        for name in named:
            if not _NAME.match(name):
                raise RejectedError(f"{spec.key} was not started: {name!r} is no name of a variable; rename it")
        for name in {*spec.env, *spec.pass_env} & {*spec.secret_env}:
            raise RejectedError(f"{spec.key} was not started: {name} is the connection's secret; do not set it twice")
        if any("\0" in part for part in (*spec.argv, *spec.env.values(), *spec.secret_env.values())):
            raise RejectedError(f"{spec.key} was not started: an argument or variable holds a NUL; take it out")
        for value in spec.secret_env.values():
            self._redact.add(value)
        inherited = HARMLESS_ENV | {name for name in self._environ if name.startswith("LC_")} | {*spec.pass_env}
        kept = {name: self._environ[name] for name in inherited if name in self._environ}
        return {**kept, **spec.env, **spec.secret_env}

    def _write_spec(self, directory: Path, spec: ChildSpec) -> None:
        """Atomically, and only if there is none: a second start of the same key changes nothing."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        target = directory / "spec.json"
        if target.exists():
            return
        for name, content in spec.files.items():
            (directory / name).parent.mkdir(mode=0o700, exist_ok=True)
            (directory / name).write_bytes(content)
        body = {
            "version": _VERSION,
            "key": spec.key,
            "argv": list(spec.argv),
            "cwd": str(spec.cwd),
            "env_names": sorted({*spec.env, *spec.secret_env}),
            "pass_env": list(spec.pass_env),
            "int_grace_s": spec.int_grace_s,
            "term_grace_s": spec.term_grace_s,
            "log_cap_bytes": spec.log_cap_bytes,
            "meta": dict(spec.meta),
        }
        fd, part = tempfile.mkstemp(prefix="spec.", suffix=".part", dir=directory)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(body, file)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(part, target)
        finally:
            Path(part).unlink()
        supervisor.sync_directory(directory)
        supervisor.sync_directory(self._root)

    def _phase(self, directory: Path) -> ChildPhase:
        if self._is_locked(directory / "alive"):
            return ChildPhase.RUNNING
        return ChildPhase.ORPHANED if self._is_locked(directory / "busy") else ChildPhase.VANISHED

    def _is_locked(self, path: Path) -> bool:
        """True when somebody holds the file's lock: that somebody lives, whatever became of its pid."""
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise UnreadableError(f"{path} cannot be locked: {error.strerror}; is it on a local disk?") from error
        else:
            return False
        finally:
            os.close(fd)

    def _exit(self, directory: Path) -> ChildExit | None:
        value = self._record(directory / "exit.json")
        if value is None:
            return None
        outcome, ended_at = value.get("outcome"), _instant(value.get("ended_at"))
        code, number, error = value.get("code"), value.get("signal"), value.get("error")
        if not isinstance(outcome, str) or not outcome or ended_at is None:
            raise UnreadableError(f"{directory / 'exit.json'} is not an exit record", raw=repr(value))
        if outcome == "exited" and (not isinstance(code, int) or isinstance(code, bool)):
            raise UnreadableError(f"{directory / 'exit.json'} has no exit code", raw=repr(value))
        return ChildExit(
            outcome=outcome,
            code=code if isinstance(code, int) else None,
            signal=number if isinstance(number, int) else None,
            error=self._redact(error) if isinstance(error, str) else None,
            stopped_by_host=value.get("stopped_by_host") is True,
            ended_at=ended_at,
        )

    def _record(self, path: Path) -> Mapping[str, Json] | None:
        """A record file's object; None when there is no such file."""
        try:
            value = json.loads(self._read(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"{path} is not readable JSON: {type(error).__name__}") from error
        if not isinstance(value, dict):
            raise UnreadableError(f"{path} is not a JSON object")
        return value

    def _exists(self, path: Path) -> bool:
        try:
            self._read(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error
        return True

    def _mask(self, key: str) -> None:
        """Teach the redactor what the child got by `pass_env` under a name that sounds secret."""
        spec = self._record(self.directory(key) / "spec.json") or {}
        names = spec.get("pass_env")
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str) and _SECRET_NAME.search(name) and name in self._environ:
                self._redact.add(self._environ[name])

    def _prune(self) -> None:
        """Remove directories that nothing has changed or held for long; looks once an hour, never fails a start."""
        now = self._clock.now()
        if now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_EVERY
        limit_s = (now - self._keep).timestamp()
        with contextlib.suppress(OSError, UnreadableError):
            for path in self._root.iterdir():
                is_old = path.is_dir() and path.stat().st_mtime < limit_s
                if is_old and _KEY.match(path.name) and self._phase(path) is ChildPhase.VANISHED:
                    shutil.rmtree(path, ignore_errors=True)


_BEGAN = frozenset({supervisor.RUNNING, supervisor.ALREADY_CLAIMED, supervisor.CANCELLED, supervisor.NOT_STARTED})


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else None


def _pid(record: Mapping[str, Json], name: str) -> int | None:
    value = record.get(name)
    return value if isinstance(value, int) and value > 1 else None
