"""Real supervisors and real processes: launched once, adopted after a kill, cancelled for good, never a false success.

Nothing here sleeps: a test waits for a process by the lock that it holds.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from conductor.core.errors import AmbiguousError, ErrorClass, RejectedError, UnreadableError
from conductor.core.vendor import ExternalState
from conductor.sdk.child import Children, ChildSpec, spawn_supervisor
from conductor.sdk.child_view import ChildPhase, ChildView, observe_child
from conductor.sdk.redact import Redactor
from conductor.sdk.testing import FakeClock

KEY = "cnd-node-1"
SECRET = "hunter2-is-long"


def children_in(folder: Path, **more: object) -> Children:
    return Children(folder / "children", redact=Redactor(), clock=FakeClock(), **more)  # type: ignore[arg-type]


def script(folder: Path, text: str, **more: object) -> ChildSpec:
    return ChildSpec(key=KEY, argv=("sh", "-c", text), cwd=folder, **more)  # type: ignore[arg-type]


def run(children: Children, spec: ChildSpec) -> ChildView:
    asyncio.run(children.start(spec))
    return end_of(children, spec.key)


def end_of(children: Children, key: str = KEY) -> ChildView:
    wait_for(children.directory(key) / "alive")
    return children.look(key)


def wait_for(lock: Path) -> None:
    """Return when nobody holds the lock any more."""
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def tell(fifo: Path, word: str = "go") -> None:
    """Let a script that reads the FIFO go on; returns when it has opened it."""
    fifo.write_text(f"{word}\n")


def pids(children: Children) -> tuple[int, int]:
    started = children._record(children.directory(KEY) / "started.json") or {}
    pid, child = started["pid"], started["child_pid"]
    assert isinstance(pid, int)
    assert isinstance(child, int)
    return pid, child


def test_an_exit_code_its_times_and_its_output_are_recorded(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    seen = run(children, script(tmp_path, "echo out; echo err >&2; exit 4"))
    assert seen.phase is ChildPhase.ENDED
    assert seen.exit is not None
    assert (seen.exit.outcome, seen.exit.code, seen.exit.signal) == ("exited", 4, None)
    assert seen.started_at is not None
    assert seen.started_at <= seen.exit.ended_at
    assert children.tail(KEY).lines == ("out", "err")
    assert observe_child(seen) is None


def test_many_supervisors_of_one_key_launch_the_command_once(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    os.mkfifo(tmp_path / "gate")
    spec = script(tmp_path, "echo launched >> launches; read word < gate")
    directory = children.directory(KEY)
    children._write_spec(directory, spec)
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: spawn_supervisor(directory, {"PATH": os.environ["PATH"]}), range(8)))
    assert sorted(codes) == [0] + [3] * 7
    tell(tmp_path / "gate")
    assert end_of(children).exit is not None
    asyncio.run(children.start(spec))
    assert (tmp_path / "launches").read_text() == "launched\n"


def test_a_second_start_keeps_the_first_spec(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    run(children, script(tmp_path, "echo first"))
    asyncio.run(children.start(script(tmp_path, "echo second")))
    assert children.tail(KEY).lines == ("first",)


def test_kill_9_of_conductor_leaves_the_child_and_another_conductor_adopts_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    program = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(Path.cwd())!r})
from pathlib import Path
from conductor.sdk.child import Children, ChildSpec
from conductor.sdk.redact import Redactor
from conductor.sdk.testing import FakeClock
here = Path({str(tmp_path)!r})
children = Children(here / "children", redact=Redactor(), clock=FakeClock())
spec = ChildSpec(key={KEY!r}, argv=("sh", "-c", "read word < gate; exit 7"), cwd=here)
asyncio.run(children.start(spec))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == -signal.SIGKILL, "the supervisor was still a child of Conductor"
    children = children_in(tmp_path)
    assert children.is_claimed(KEY)
    assert children.look(KEY).phase is ChildPhase.RUNNING
    tell(tmp_path / "gate")
    seen = end_of(children)
    assert seen.exit is not None
    assert seen.exit.code == 7


def test_a_child_whose_supervisor_was_killed_vanishes_when_the_command_is_gone(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    os.mkfifo(tmp_path / "gate")
    asyncio.run(children.start(script(tmp_path, "read word < gate; exit 0")))
    supervisor, _ = pids(children)
    os.kill(supervisor, signal.SIGKILL)
    wait_for(children.directory(KEY) / "alive")
    orphan = observe_child(children.look(KEY))
    assert orphan is not None
    assert (orphan.state, orphan.word) == (ExternalState.RUNNING, "orphaned")
    tell(tmp_path / "gate")
    wait_for(children.directory(KEY) / "busy")
    seen = observe_child(children.look(KEY))
    assert seen is not None
    assert seen.state is ExternalState.VANISHED
    assert seen.error is not None
    asyncio.run(children.start(script(tmp_path, "echo again > again")))
    assert not (tmp_path / "again").exists(), "a vanished command was launched again under its key"


def test_cancelling_an_orphan_kills_its_group(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    asyncio.run(children.start(script(tmp_path, "trap '' INT TERM; sleep 60")))
    supervisor, _ = pids(children)
    os.kill(supervisor, signal.SIGKILL)
    wait_for(children.directory(KEY) / "alive")
    children.cancel(KEY)
    wait_for(children.directory(KEY) / "busy")
    seen = observe_child(children.look(KEY))
    assert seen is not None
    assert seen.state is ExternalState.CANCELLED


@pytest.mark.parametrize(
    ("deaf_to", "int_grace_s", "term_grace_s", "signal_no"),
    [
        ((), 30, 30, signal.SIGINT),
        (("SIGINT",), 0.05, 30, signal.SIGTERM),
        (("SIGINT", "SIGTERM"), 0.05, 0.05, signal.SIGKILL),
    ],
    ids=["int", "term", "kill"],
)
def test_a_cancel_is_firm_and_recorded_as_one(
    tmp_path: Path, deaf_to: tuple[str, ...], int_grace_s: float, term_grace_s: float, signal_no: int
) -> None:
    # Not a shell: one that is about to begin its next command may swallow a signal.
    children = children_in(tmp_path)
    os.mkfifo(tmp_path / "ready")
    lines = ["import signal", "signal.signal(signal.SIGINT, signal.SIG_DFL)"]
    lines += [f"signal.signal(signal.{name}, signal.SIG_IGN)" for name in deaf_to]
    lines += ["open('ready', 'w').close()", "signal.pause()"]
    spec = ChildSpec(
        key=KEY,
        argv=(sys.executable, "-c", "\n".join(lines)),
        cwd=tmp_path,
        int_grace_s=int_grace_s,
        term_grace_s=term_grace_s,
    )
    asyncio.run(children.start(spec))
    (tmp_path / "ready").read_text()
    children.cancel(KEY)
    children.cancel(KEY)
    seen = end_of(children)
    assert seen.exit is not None
    assert (seen.exit.outcome, seen.exit.signal) == ("cancelled", signal_no)
    children.cancel(KEY)
    assert children.look(KEY) == seen


def test_a_command_may_clean_up_on_a_cancel_and_is_cancelled_though_it_exits_0(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    os.mkfifo(tmp_path / "ready")
    asyncio.run(children.start(script(tmp_path, "trap 'echo clean; exit 0' INT; echo > ready; sleep 60 & wait")))
    (tmp_path / "ready").read_text()
    children.cancel(KEY)
    seen = end_of(children)
    assert seen.exit is not None
    assert (seen.exit.outcome, seen.exit.code) == ("cancelled", 0)
    assert children.tail(KEY).lines == ("clean",)


def test_a_child_cancelled_before_it_began_never_begins(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    children.cancel(KEY)
    seen = run(children, script(tmp_path, "echo launched > launches"))
    assert seen.exit is not None
    assert seen.exit.outcome == "cancelled"
    assert not (tmp_path / "launches").exists()


def test_a_command_started_while_interrupts_are_ignored_can_still_be_interrupted(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    try:
        children = children_in(tmp_path)
        asyncio.run(children.start(script(tmp_path, "sleep 60", int_grace_s=30)))
        children.cancel(KEY)
        seen = end_of(children)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen.exit is not None
    assert seen.exit.signal == signal.SIGINT


def test_a_shutdown_of_the_host_is_no_cancel_and_worth_another_attempt(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    asyncio.run(children.start(script(tmp_path, "sleep 60")))
    supervisor, _ = pids(children)
    os.kill(supervisor, signal.SIGTERM)
    seen = observe_child(end_of(children))
    assert seen is not None
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.TRANSIENT


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    seen = run(children, script(tmp_path, "sleep 60 & exit 0"))
    assert seen.exit is not None
    assert seen.exit.code == 0
    wait_for(children.directory(KEY) / "busy")


def test_a_program_that_is_not_there_fails_with_words(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    seen = observe_child(run(children, ChildSpec(key=KEY, argv=("no-such-program",), cwd=tmp_path)))
    assert seen is not None
    assert seen.state is ExternalState.FAILED
    assert seen.error is not None
    assert seen.error.error_class is ErrorClass.CONFIG
    assert "no-such-program" in seen.error.message


def test_secrets_reach_the_command_and_no_file_but_its_own_output(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    run(children, script(tmp_path, 'test -n "$PASSWORD" && echo "it is $PASSWORD"', secret_env={"PASSWORD": SECRET}))
    assert children.tail(KEY).lines == ("it is •••",)
    for path in children.directory(KEY).iterdir():
        if not path.name.startswith("log."):
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_passed_variable_with_a_secret_name_is_masked_after_a_restart_too(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "API_TOKEN": SECRET, "REGION": "north"}
    spec = script(tmp_path, "echo $API_TOKEN $REGION", pass_env=("API_TOKEN", "REGION"))
    run(children_in(tmp_path, environ=environ), spec)
    assert children_in(tmp_path, environ=environ).tail(KEY).lines == ("••• north",)


def test_only_harmless_and_named_variables_reach_the_command(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/h", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "x" * 9, "GIVEN": "g"}
    children = children_in(tmp_path, environ=environ)
    run(children, ChildSpec(key=KEY, argv=("env",), cwd=tmp_path, env={"MORE": "m"}, pass_env=("GIVEN", "UNSET")))
    names = {line.partition("=")[0] for line in children.tail(KEY).lines}
    assert names == {"PATH", "HOME", "LC_ALL", "GIVEN", "MORE"}


def test_a_chatty_command_ends_well_and_keeps_its_newest_output_within_the_cap(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    cap = 256 * 1024
    chatter = f"{sys.executable} -c \"for n in range(60000): print('line', n)\"; echo the end"
    seen = run(children, script(tmp_path, chatter, log_cap_bytes=cap))
    assert seen.exit is not None
    assert seen.exit.code == 0
    assert sum(path.stat().st_size for path in children.directory(KEY).glob("log.*")) <= cap
    assert seen.log_bytes > 2 * cap
    tail = children.tail(KEY, max_lines=3)
    assert tail.lines[-1] == "the end"
    assert tail.is_truncated
    first = children.read_log(KEY, 0)
    assert first.is_gap
    assert "older output was dropped" in first.text


def test_a_log_is_read_on_from_an_offset_by_whole_lines(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    run(children, script(tmp_path, "printf 'one\\ntwo\\nthr'"))
    first = children.read_log(KEY, 0, max_bytes=5)
    assert (first.text, first.next_offset) == ("one\n", 4)
    second = children.read_log(KEY, 4)
    assert (second.text, second.next_offset) == ("two\n", 8)
    assert children.read_log(KEY, 8).text == ""


def test_nothing_is_known_while_a_record_is_damaged(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    run(children, script(tmp_path, "exit 0"))
    for body in (b"", b"{}", b"[]", b'{"outcome": "exited", "ended_at": "2026-01-01T00:00:00+00:00"}'):
        (children.directory(KEY) / "exit.json").write_bytes(body)
        with pytest.raises(UnreadableError):
            children.look(KEY)


def test_a_restored_folder_without_the_claim_is_vanished(tmp_path: Path) -> None:
    seen = observe_child(children_in(tmp_path).look(KEY))
    assert seen is not None
    assert (seen.state, seen.word) == (ExternalState.VANISHED, "absent")


def test_a_supervisor_that_says_nothing_makes_the_start_ambiguous(tmp_path: Path) -> None:
    def dies(_directory: Path, _env: Mapping[str, str]) -> int:
        return -signal.SIGKILL

    with pytest.raises(AmbiguousError):
        asyncio.run(children_in(tmp_path, spawn=dies).start(script(tmp_path, "exit 0")))


def test_wrong_specs_are_rejected_before_anything_happens(tmp_path: Path) -> None:
    children = children_in(tmp_path)
    good = script(tmp_path, "exit 0")
    for spec in (
        replace(good, key="../etc"),
        replace(good, cwd=tmp_path / "nowhere"),
        replace(good, env={"A=B": "x"}),
        replace(good, argv=("sh", "a\0b")),
        replace(good, env={"PASSWORD": "x"}, secret_env={"PASSWORD": SECRET}),
    ):
        with pytest.raises(RejectedError):
            asyncio.run(children.start(spec))
    assert not (tmp_path / "children").exists()


def test_children_that_ended_long_ago_are_removed_and_living_ones_stay(tmp_path: Path) -> None:
    clock = FakeClock()
    children = Children(tmp_path / "children", redact=Redactor(), clock=clock, keep_days=14)
    run(children, replace(script(tmp_path, "exit 0"), key="old"))
    os.mkfifo(tmp_path / "gate")
    asyncio.run(children.start(replace(script(tmp_path, "read word < gate"), key="alive")))
    long_ago = (clock.now() - timedelta(days=15)).timestamp()
    for key in ("old", "alive"):
        os.utime(children.directory(key), (long_ago, long_ago))
    clock.advance(3601)
    run(children, replace(script(tmp_path, "exit 0"), key="new"))
    assert sorted(path.name for path in (tmp_path / "children").iterdir()) == ["alive", "new"]
    tell(tmp_path / "gate")
    end_of(children, "alive")
