"""Real processes, killed: a hundred times in the midst of several runs, and everything was started exactly once."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from conductor.core.states import AttemptState, Cause, Outcome, RunState
from conductor.store import Store

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KILLS = 100
AT_ONCE = 12
SEED = 20_261_121

_JOB = """
    with:
      start: {{path: /jobs, json: {body}, id: id}}
      batch: {{path: /jobs, params: {{ids: "{{ids}}"}}, items: jobs, id: id, state: state}}
      states: {{pending: queued, running: running, done: succeeded, error: failed, stopped: cancelled}}
      cancel: {{path: "/jobs/{{id}}/cancel"}}
      poll_floor_s: 0.05
      {more}
"""
_KEYED = _JOB.format(body='{name: "%(name)s", duration_s: 0.15}', more="key: {header: Idempotency-Key, ttl_s: 86400}")
_TAGGED = _JOB.format(
    body='{name: "%(name)s", duration_s: 0.15, tag: "{key}"}',
    more="find: {path: /jobs, items: jobs, id: id, key: tag, created: created_at, next: next, next_param: cursor, "
    "since: {param: since}, lag_s: 1}",
)


def _pipeline(name: str, job: str) -> str:
    """Four nodes: one, then two at once, then one."""
    nodes = {"extract": [], "left": ["extract"], "right": ["extract"], "load": ["left", "right"]}
    text = f"version: 1\nname: {name}\nnodes:\n"
    for node, after in nodes.items():
        text += f"  {node}:\n    uses: http.job\n    connection: jobs\n"
        text += f"    depends_on: [{', '.join(after)}]\n" if after else ""
        text += (job % {"name": f"{name}-{node}"}).lstrip("\n")
    return text


def _project(folder: Path, vendor: dict[str, str]) -> Path:
    project = folder / "project"
    (project / "pipelines").mkdir(parents=True)
    (project / "conductor.yml").write_text('version: 1\nname: kill\npipelines: ["pipelines/*.yml"]\n')
    (project / "connections.yml").write_text(
        f"jobs:\n  type: http\n  base_url: {vendor['url']}\n  bearer: ${{{{ secret('JOBS_TOKEN') }}}}\n"
        "  rate: {requests: 1000, per_s: 1, burst: 1000}\n"
    )
    (project / "pipelines" / "keyed.yml").write_text(_pipeline("keyed", _KEYED))
    (project / "pipelines" / "tagged.yml").write_text(_pipeline("tagged", _TAGGED))
    return project


class _Talk:
    """A process that says lines of JSON. They are read as they come, so that none waits unseen in a buffer."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def say(self, **words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def told(self, within_s: float) -> dict[str, Any] | None:
        """The next line, or None when none comes in time."""
        try:
            told: dict[str, Any] = json.loads(self._lines.get(timeout=within_s))
        except queue.Empty:
            return None
        return told


@contextmanager
def _process(script: str, *args: str, **variables: str) -> Iterator[_Talk]:
    started = subprocess.Popen(
        [sys.executable, str(HERE / script), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, **variables},
        text=True,
        start_new_session=True,
    )
    try:
        yield _Talk(started)
    finally:
        # With all that it forked: a life that a failed test left must not go on.
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        for pipe in (started.stdin, started.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def _begin(lives: _Talk, project: Path, *, runs: int, is_last: bool = False) -> int:
    lives.say(project=str(project), runs=runs, at_once=AT_ONCE, is_last=is_last)
    told = lives.told(20)
    assert told is not None
    return int(told["pid"])


def _end(lives: _Talk) -> int:
    """Wait until the life has ended; how it did."""
    while (told := lives.told(60)) is not None:
        if "code" in told:
            return int(told["code"])
    raise AssertionError("the life does not come to an end")


def _kill_often(lives: _Talk, project: Path, chance: random.Random) -> float:
    """Kill at moments that a seed chooses; returns how long that took."""
    began_s = time.monotonic()
    for _ in range(KILLS):
        pid = _begin(lives, project, runs=10_000)
        if chance.random() < 0.2:
            # Also while it begins: it may have taken over and not yet committed that.
            told = lives.told(chance.uniform(0.0, 0.1))
        else:
            told = lives.told(20)
            assert told == {"lives": pid}
            told = lives.told(chance.uniform(0.02, 0.4))
        assert told in (None, {"lives": pid}), f"it ended by itself: {told}"
        os.kill(pid, signal.SIGKILL)
        assert _end(lives) == -signal.SIGKILL
    return time.monotonic() - began_s


def _finish(lives: _Talk, project: Path, *, runs: int) -> None:
    """One last life, to the end of every run."""
    _begin(lives, project, runs=runs, is_last=True)
    assert _end(lives) == 0


def _ledger(vendor: dict[str, str]) -> Counter[str]:
    answer = httpx.get(f"{vendor['url']}/ledger", trust_env=False)
    return Counter(one["key"] for one in answer.json())


def test_a_hundred_kills_lose_no_start_and_double_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _process("kill_vendor.py", "0.05") as vendor_process:
        vendor = vendor_process.told(20)
        assert vendor is not None
        project = _project(tmp_path, vendor)
        with _process("kill_lives.py", JOBS_TOKEN=vendor["token"]) as lives:
            took_s = _kill_often(lives, project, random.Random(SEED))
            with _opened(project) as store:
                runs = len(store.runs(limit=10_000))
            _finish(lives, project, runs=runs)
        ledger = _ledger(vendor)
        with _opened(project) as store:
            facts = _judge(store, ledger)
    with capsys.disabled():
        sys.stdout.write(f"\n{KILLS} kills in {took_s:.0f} s: {facts}\n")


@contextmanager
def _opened(project: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{project}/.conductor/conductor.db", is_read_only=True)
    try:
        yield store
    finally:
        store.close()


def _judge(store: Store, ledger: Counter[str]) -> dict[str, int]:
    """Every start is in the ledger once, every node of every run was started once, and all of them succeeded."""
    facts: Counter[str] = Counter({"starts": sum(ledger.values()), "doubled": sum(n > 1 for n in ledger.values())})
    mine: set[str] = set()
    for row in store.runs(limit=10_000):
        facts["runs"] += 1
        facts["not succeeded"] += row.state is not RunState.SUCCEEDED
        for attempts in store.attempts(row.id).values():
            mine.update(attempt.key for attempt in attempts)
            facts["adopted"] += sum(attempt.adopted == "found" for attempt in attempts)
            facts["left open"] += sum(attempt.state is not AttemptState.ENDED for attempt in attempts)
            facts["never sent, and so held"] += sum(attempt.outcome is Outcome.UNRESOLVED for attempt in attempts)
            facts["nodes not started once"] += sum(ledger[attempt.key] for attempt in attempts) != 1
        journal = store.journal(run_id=row.id, limit=10_000)
        facts["killed on the wire"] += sum(one.transition.cause is Cause.RECOVERED for one in journal)
        facts["gaps"] += [one.transition.seq for one in journal] != list(range(1, len(journal) + 1))
    facts["of nobody"] = len(set(ledger) - mine)
    for never in ("doubled", "not succeeded", "left open", "nodes not started once", "gaps", "of nobody"):
        assert facts[never] == 0, facts
    assert facts["killed on the wire"] >= 20, f"kills that hit nothing prove nothing: {facts}"
    return dict(facts)
