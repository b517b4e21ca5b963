"""Runs one command for Conductor and outlives it: a program of its own, started as `python -I -S supervisor.py <dir>`.

It imports the standard library only and nothing of Conductor, so that it starts fast and a newer Conductor can follow
an older supervisor. It must never launch the command of one directory twice, and never end without an exit record
unless it is killed. The directory is the whole interface; `conductor/sdk/child.py` is its other side:

    spec.json     read: argv, cwd, graces and the log's cap; holds no values of the environment
    claim         made once by O_EXCL: only its maker may launch the command, and only one ever does
    alive         locked for the supervisor's life; the lock dies with the process, so no pid is ever trusted alone
    busy          locked through a descriptor that the command inherits: held while any process of it lives
    started.json  pid of the supervisor, pid of the command, when
    log.<offset>  what the command wrote, in segments named by the offset of their first byte; old ones are dropped
    cancel        written by Conductor: stop, or never begin
    exit.json     written last, atomically and durably

Its environment is the command's environment. Linux and macOS.
"""

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["main"]

# How the first process ends, read by `Children.start`.
RUNNING = 0
ALREADY_CLAIMED = 3
CANCELLED = 4
NOT_STARTED = 5
NOT_CLAIMED = 6
UNCERTAIN = 7

_VERSION = 1
_LOCK_WAIT_S = 10.0
_LINGER_S = 0.5
_RECORD_WAIT_S = 3600.0
_RECORD_RESERVE = 4096
_CHUNK = 65536
_DRAIN_CHUNKS = 256
_NEVER = float("inf")


class Log:
    """The command's output in two kept segments of half the cap each: the newest output is always there.

    A write that fails (a full disk) drops the output and is counted; the command neither blocks nor dies of it.
    """

    def __init__(self, directory: Path, cap_bytes: int) -> None:
        self._directory = directory
        self._half = max(cap_bytes // 2, 1024)
        self._segments: list[int] = []
        self._fd = -1
        self._offset = 0
        self._lost = 0
        self._open()

    def write(self, data: bytes) -> None:
        """Append `data`; begins a new segment and drops the oldest when the current one is full."""
        if self._fd < 0 or self._offset - self._segments[-1] + len(data) > self._half:
            self._open()
        view = memoryview(data)
        try:
            while view:
                done = os.write(self._fd, view)
                self._offset += done
                view = view[done:]
        except OSError:
            self._lost += len(view)

    def close(self) -> None:
        """Say what was lost, if anything, and close."""
        if self._lost:
            lost, self._lost = self._lost, 0
            self.write(b"\n[conductor: %d bytes of output could not be written]\n" % lost)
        if self._fd >= 0:
            os.close(self._fd)

    def _open(self) -> None:
        try:
            fd = os.open(self._path(self._offset), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError:
            return  # the current segment goes on, past its half rather than losing output
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._segments.append(self._offset)
        if len(self._segments) > 2:
            with contextlib.suppress(OSError):
                self._path(self._segments.pop(0)).unlink()
            self.write(b"[conductor: older output was dropped, the log is capped]\n")

    def _path(self, start: int) -> Path:
        return self._directory / f"log.{start}"


class Stopper:
    """Asks the command's process group to end, ever more firmly: SIGINT, SIGTERM, SIGKILL."""

    def __init__(self, pgid: int, int_grace_s: float, term_grace_s: float) -> None:
        self._pgid = pgid
        self._steps: list[tuple[int, float]] = [
            (signal.SIGINT, int_grace_s),
            (signal.SIGTERM, term_grace_s),
            (signal.SIGKILL, _NEVER),
        ]
        self._due = _NEVER
        self.is_asked = False

    def ask(self) -> None:
        """Begin. The second time does nothing."""
        if not self.is_asked:
            self.is_asked = True
            self._due = time.monotonic()

    def hurry(self) -> None:
        """The command itself has ended: what it left gets no more than a moment before the next step."""
        if self.is_asked:
            self._due = min(self._due, time.monotonic() + _LINGER_S)

    @property
    def is_spent(self) -> bool:
        """True when SIGKILL was sent: what is still listed is dead and waits for its parent."""
        return not self._steps

    def step(self) -> float:
        """Send what is due; answers the seconds until the next step."""
        while self._steps and time.monotonic() >= self._due:
            number, grace_s = self._steps.pop(0)
            signal_group(self._pgid, number)
            self._due = time.monotonic() + grace_s
        return max(self._due - time.monotonic(), 0.0)


def main(directory: Path) -> int:
    """Become a daemon, claim `directory`, run its command; answers (in the first process) how that began."""
    report_in, report_out = os.pipe()
    pid = os.fork()
    if pid:
        os.close(report_out)
        report = os.read(report_in, 1)
        return report[0] if report else UNCERTAIN
    os.close(report_in)
    quiet()
    try:
        supervise(directory, report_out)
    finally:
        os._exit(0)


def supervise(directory: Path, report_out: int) -> None:
    """Hold the lock, claim, launch, follow, record."""
    try:
        spec = json.loads((directory / "spec.json").read_bytes())
        alive = lock_alive(directory)
        reason = ALREADY_CLAIMED if alive < 0 else claim(directory)
    except (OSError, ValueError):
        spec, reason = {}, NOT_CLAIMED
    if reason != RUNNING:
        tell(report_out, reason)
        return
    if (directory / "cancel").exists():
        record(directory, outcome="cancelled", error="cancelled before it began")
        tell(report_out, CANCELLED)
        return
    wake = watch_signals()
    started_at = stamp()
    log = Log(directory, int(spec["log_cap_bytes"]))
    try:
        child = launch(directory, spec)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        record(directory, outcome="not_started", error=words(error, spec), started_at=started_at)
        tell(report_out, NOT_STARTED)
        return
    started = {"version": _VERSION, "pid": os.getpid(), "child_pid": child.pid, "started_at": started_at}
    with contextlib.suppress(OSError):
        write_json(directory, "started.json", started)
    tell(report_out, RUNNING)
    stopper = Stopper(child.pid, float(spec["int_grace_s"]), float(spec["term_grace_s"]))
    code = follow(directory, child, log, stopper, wake)
    log.close()
    is_cancelled = stopper.is_asked and (directory / "cancel").exists()
    record(
        directory,
        outcome="cancelled" if is_cancelled else "signalled" if code < 0 else "exited",
        code=code if code >= 0 else None,
        number=-code if code < 0 else None,
        stopped_by_host=stopper.is_asked and not is_cancelled,
        started_at=started_at,
    )


def lock_alive(directory: Path) -> int:
    """The descriptor whose lock says that this supervisor lives; -1 when another one claimed the directory.

    The lock comes before the claim, so that "claimed and not locked" always means dead. Another supervisor that is
    about to claim, or a look from Conductor, may hold it for a moment.
    """
    fd = os.open(directory / "alive", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        if (directory / "claim").exists():
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return fd


def claim(directory: Path) -> int:
    """RUNNING when this process, and no other ever, may launch the command. Durable before it answers.

    The exit record's bytes are reserved now, so that a disk that fills up meanwhile cannot swallow it.
    """
    reserve = os.open(directory / "exit.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(reserve, b" " * _RECORD_RESERVE)
    os.fsync(reserve)
    os.close(reserve)
    try:
        fd = os.open(directory / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return ALREADY_CLAIMED
    os.close(fd)
    sync_directory(directory)
    return RUNNING


def launch(directory: Path, spec: dict[str, object]) -> subprocess.Popen[bytes]:
    """Start the command in its own session and group, its output in one pipe, `busy` locked for as long as it lives."""
    busy = os.open(directory / "busy", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        argv = spec["argv"]
        if not isinstance(argv, list) or not argv:
            raise ValueError("argv is empty")
        return subprocess.Popen(
            [str(part) for part in argv],
            cwd=str(spec["cwd"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            pass_fds=(busy,),
        )
    finally:
        os.close(busy)


def follow(directory: Path, child: subprocess.Popen[bytes], log: Log, stopper: Stopper, wake: int) -> int:
    """Carry output to the log until the command and its group have ended; answers its code, negative for a signal.

    What the command leaves running in its group is killed when the command has ended, after a short while to flush:
    "ended" is then true.
    """
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    os.set_blocking(pipe, False)
    is_open = True
    ended_at = _NEVER
    check_cancel(directory, stopper)
    while True:
        if child.returncode is None and child.poll() is not None:
            ended_at = time.monotonic()
            stopper.hurry()
        if child.returncode is not None and is_over(child.pid, stopper, ended_at=ended_at, is_open=is_open):
            signal_group(child.pid, signal.SIGKILL)
            drain(pipe, log)
            return child.returncode
        wait_s = min(stopper.step(), 0.05 if child.returncode is not None else 30.0)
        ready, _, _ = select.select([wake, pipe] if is_open else [wake], [], [], wait_s)
        if wake in ready and is_asked_to_stop(wake):
            stopper.ask()
        check_cancel(directory, stopper)
        if pipe in ready:
            is_open = pump(pipe, log)


def is_over(pgid: int, stopper: Stopper, *, ended_at: float, is_open: bool) -> bool:
    """True when nothing of an ended command is worth waiting for."""
    if not has_group(pgid) and not is_open:
        return True
    if stopper.is_asked and not stopper.is_spent and has_group(pgid):
        return False  # the escalation goes on until the whole group is gone
    return time.monotonic() - ended_at > _LINGER_S


def check_cancel(directory: Path, stopper: Stopper) -> None:
    """Begin to stop when Conductor wrote its marker; the signal that follows it only makes this happen sooner."""
    if not stopper.is_asked and (directory / "cancel").exists():
        stopper.ask()


def pump(pipe: int, log: Log) -> bool:
    """Move one chunk to the log; False at the end of the output."""
    try:
        data = os.read(pipe, _CHUNK)
    except BlockingIOError:
        return True
    if data:
        log.write(data)
    return bool(data)


def drain(pipe: int, log: Log) -> None:
    """Move what is left, without waiting for more; bounded, for a process outside the group may still be writing."""
    for _ in range(_DRAIN_CHUNKS):
        try:
            data = os.read(pipe, _CHUNK)
        except OSError:
            return
        if not data:
            return
        log.write(data)


def record(
    directory: Path,
    *,
    outcome: str,
    code: int | None = None,
    number: int | None = None,
    error: str | None = None,
    started_at: str | None = None,
    stopped_by_host: bool = False,
) -> None:
    """Write `exit.json`, trying for an hour when the disk refuses: until then the run is seen as running."""
    value = {
        "version": _VERSION,
        "outcome": outcome,
        "code": code,
        "signal": number,
        "error": error,
        "stopped_by_host": stopped_by_host,
        "started_at": started_at,
        "ended_at": stamp(),
    }
    deadline = time.monotonic() + _RECORD_WAIT_S
    while True:
        try:
            write_json(directory, "exit.json", value)
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(1.0)
        else:
            return


def write_json(directory: Path, name: str, value: object) -> None:
    """Replace `name` atomically and durably; reuses the bytes reserved for it where there are any."""
    part = directory / f"{name.removesuffix('.json')}.part"
    body = json.dumps(value).encode()
    fd = os.open(part, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(fd, body)
        os.ftruncate(fd, len(body))
        os.fsync(fd)
    finally:
        os.close(fd)
    part.replace(directory / name)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def watch_signals() -> int:
    """A descriptor that becomes readable on SIGCHLD, SIGTERM, SIGINT and SIGHUP.

    Handlers, not "ignore": what is ignored stays ignored in the command, and dbt could then not be interrupted.
    """
    wake_in, wake_out = os.pipe()
    os.set_blocking(wake_in, False)
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda _number, _frame: None)
    for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return wake_in


def is_asked_to_stop(wake: int) -> bool:
    """Empty the wake-up pipe; True when a signal that means "stop" was in it."""
    try:
        numbers = os.read(wake, 4096)
    except BlockingIOError:
        return False
    return bool({signal.SIGTERM, signal.SIGINT} & set(numbers))


def signal_group(pgid: int, number: int) -> None:
    """Signal every process of the group; a group that is gone (macOS says "not permitted") is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def has_group(pgid: int) -> bool:
    """True while a process of the group exists."""
    try:
        os.killpg(pgid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def words(error: BaseException, spec: dict[str, object]) -> str:
    """Why the command could not be started, for people."""
    argv = spec.get("argv")
    name = argv[0] if isinstance(argv, list) and argv else "the command"
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename in (None, name) else f" ({error.filename})"
        return f"{name} could not be started: {error.strerror}{where}"
    return f"{name} could not be started: {error}"


def stamp() -> str:
    """Now, UTC, in ISO form."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}+00:00"


def tell(report_out: int, reason: int) -> None:
    """Let the first process end with `reason`."""
    with contextlib.suppress(OSError):
        os.write(report_out, bytes([reason]))
    os.close(report_out)


def quiet() -> None:
    """Let go of the terminal and of whatever the standard descriptors were."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
