"""`conductor serve` as a process: it stops when asked, owns its database alone, and finds its children again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conductor.core.states import AttemptState
from conductor.store import Store

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
CLI = (sys.executable, "-c", "from conductor.cli.main import main; main()")


def _write(project: Path, pipeline: str, connections: str = "{}\n") -> None:
    (project / "pipelines").mkdir(parents=True)
    (project / "conductor.yml").write_text('version: 1\nname: lives\npipelines: ["pipelines/*.yml"]\n')
    (project / "connections.yml").write_text(connections)
    (project / "pipelines" / "p.yml").write_text(pipeline)


def _variables(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextmanager
def _serving(project: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The service, from when it serves."""
    process = subprocess.Popen(
        [*CLI, "serve", "--project", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_variables(CONDUCTOR_LOG_FORMAT="json", **variables),
        text=True,
    )
    try:
        assert process.stdout is not None
        while "serving" not in (line := process.stdout.readline()):
            assert line, f"it ended: {process.wait()}"
        yield process
    finally:
        process.kill()
        process.communicate()


def _say(project: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *words, "--project", str(project)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=_variables(**variables),
        check=False,
    )


def _wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Look again and again, at the pace of the process's own ends and lines, until so."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, "not so in time"
        assert process.poll() is None, "the service has ended"
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue


def _attempts(project: Path) -> list[AttemptState]:
    database = project / ".conductor" / "conductor.db"
    store = Store.open(f"sqlite:///{database}", is_read_only=True)
    try:
        found = [attempts for row in store.runs() for attempts in store.attempts(row.id).values()]
        return [attempt.state for one in found for attempt in one]
    finally:
        store.close()


_COMMAND = """
version: 1
name: p
nodes:
  work:
    uses: command.run
    with:
      argv: [sh, -c, "echo began >> {log}; while [ ! -e {gate} ]; do sleep 0.1; done; echo done >> {log}"]
  after:
    uses: command.run
    depends_on: [work]
    with:
      argv: [sh, -c, "echo after >> {log}"]
"""


def test_a_child_survives_the_kill_of_the_service_and_is_followed_by_the_next(tmp_path: Path) -> None:
    project, log, gate = tmp_path / "project", tmp_path / "log", tmp_path / "gate"
    _write(project, _COMMAND.format(log=log, gate=gate))
    try:
        with _serving(project) as service:
            asked = _say(project, "trigger", "p")
            assert asked.returncode == 0, asked.stderr
            _wait_for(service, log.exists)
            service.send_signal(signal.SIGKILL)
            service.wait()
        with _serving(project) as service:
            _wait_for(service, lambda: _attempts(project) == [AttemptState.RUNNING])
            assert log.read_text().split() == ["began"]
            gate.touch()
            _wait_for(service, lambda: _attempts(project) == [AttemptState.ENDED] * 2)
        assert log.read_text().split() == ["began", "done", "after"]
        assert _state(project) == "succeeded"
    finally:
        gate.touch()


def _state(project: Path) -> str:
    store = Store.open(f"sqlite:///{project}/.conductor/conductor.db", is_read_only=True)
    try:
        return store.runs()[0].state.value
    finally:
        store.close()


_JOBS = """
version: 1
name: p
nodes:
""" + "\n".join(
    f"""
  n{i}:
    uses: http.job
    connection: jobs
    with:
      start: {{path: /jobs, json: {{name: n{i}, duration_s: 60, tag: "{{key}}"}}, id: id}}
      poll: {{path: "/jobs/{{id}}", state: state}}
      states: {{running: running, done: succeeded, error: failed}}
      find: {{path: /jobs, items: jobs, id: id, key: tag, created: created_at}}
"""
    for i in range(8)
)


def test_a_service_that_is_asked_to_stop_waits_for_its_starts_and_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    project = tmp_path / "project"
    with _vendor(answer_delay_s=1.0) as vendor:
        connections = f"jobs:\n  type: http\n  base_url: {vendor['url']}\n  bearer: ${{{{ secret('JOBS_TOKEN') }}}}\n"
        _write(project, _JOBS, connections)
        with _serving(project, JOBS_TOKEN=vendor["token"]) as service:
            asked = _say(project, "trigger", "p", JOBS_TOKEN=vendor["token"])
            assert asked.returncode == 0, asked.stderr
            _wait_for(service, lambda: AttemptState.SENDING in _attempts(project))
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=PATIENCE_S) == 0
        assert _attempts(project) == [AttemptState.RUNNING] * 8


@contextmanager
def _vendor(*, answer_delay_s: float) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "kill_vendor.py"), str(answer_delay_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env=_variables(),
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_a_second_service_on_the_same_database_is_refused_and_says_why(tmp_path: Path) -> None:
    project = tmp_path / "project"
    _write(project, _COMMAND.format(log=tmp_path / "log", gate=tmp_path))
    with _serving(project) as first:
        second = _say(project, "serve")
        assert second.returncode != 0
        assert f"in use by another Conductor (process {first.pid})" in " ".join((second.stdout + second.stderr).split())
        assert first.poll() is None
