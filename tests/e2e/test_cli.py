"""The command line as people and scripts meet it: real processes, exit codes, JSON, pipes, signals, a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_COMMAND = (sys.executable, "-c", "from conductor.cli.main import main; main()")
_CANARY = "canary-5f1c77aa0b"
_TIMEOUT_S = 60

_PIPELINES: Mapping[str, str] = {
    "good": """\
version: 1
name: good
params:
  who: {type: string, default: world}
nodes:
  hello:
    uses: command.run
    with: {argv: [echo, "hello ${{ params.who }}"]}
  again:
    uses: command.run
    with: {argv: [echo, again]}
    depends_on: [hello]
""",
    "bad": """\
version: 1
name: bad
nodes:
  boom:
    uses: command.run
    connection: shell
    with: {argv: [sh, -c, "echo token $TOKEN >&2; echo no space left >&2; exit 3"]}
  after:
    uses: command.run
    with: {argv: [echo, x]}
    depends_on: [boom]
""",
    "slow": """\
version: 1
name: slow
nodes:
  nap:
    uses: command.run
    with: {argv: [sleep, "120"], interrupt_grace_s: 1}
""",
}
_CONNECTIONS = """\
shell:
  type: command
  secret_env: {TOKEN: "${{ secret('CANARY') }}"}
"""


def _environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CONDUCTOR_")}
    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        ours.pop(name, None)
    return {**ours, "CANARY": _CANARY, "CONDUCTOR_ACTOR": "ana"}


class Project:
    """A project in a folder, and the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "pipelines").mkdir()
        (root / "conductor.yml").write_text("version: 1\nname: shop\n", encoding="utf-8")
        (root / "connections.yml").write_text(_CONNECTIONS, encoding="utf-8")
        for name, text in _PIPELINES.items():
            (root / "pipelines" / f"{name}.yml").write_text(text, encoding="utf-8")

    def __call__(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*_COMMAND, *words],
            cwd=self.root,
            env=_environment() | dict(env or {}),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert _CANARY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def json(self, *words: str) -> dict[str, Any]:
        done = self(*words, "--json")
        told: dict[str, Any] = json.loads(done.stdout)
        assert told["version"] == 1
        return told

    @contextmanager
    def begin(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that stays, at most until the end of the block."""
        with subprocess.Popen(
            [*_COMMAND, *words],
            cwd=self.root,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def service(self) -> Iterator[subprocess.Popen[str]]:
        with self.begin("serve") as process:
            _read_until(process, "serving")
            yield process
            process.terminate()
            process.communicate(timeout=_TIMEOUT_S)


def _read_until(process: subprocess.Popen[str], words: str) -> Sequence[str]:
    """The lines up to the one that holds `words`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} never came: {lines} {process.stderr.read() if process.stderr else ''}")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_new_project_validates_and_runs(tmp_path: Path) -> None:
    made = subprocess.run(
        [*_COMMAND, "init", str(tmp_path / "new")], env=_environment(), capture_output=True, text=True, check=False
    )
    assert made.returncode == 0
    assert (tmp_path / "new" / ".conductor" / "pipeline.schema.json").exists()
    for words in (["validate", "--strict"], ["run", "hello"]):
        done = subprocess.run(
            [*_COMMAND, *words], cwd=tmp_path / "new", env=_environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_run_in_a_pipe_is_told_in_plain_lines_and_ends_with_its_verdict(project: Project) -> None:
    done = project("run", "good", "-p", "who=ana")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("✓ good ")
    assert any("hello  running -> succeeded" in line for line in done.stdout.splitlines())
    logs = project("logs", "good", "hello")
    assert (logs.returncode, logs.stdout) == (0, "hello ana\n")


def test_a_failed_run_says_why_and_what_to_do(project: Project) -> None:
    assert project("run", "bad").returncode == 1
    assert project("status", "bad").returncode == 1
    why = project.json("why", "bad")
    assert (why["kind"], why["node"], why["held_by"], why["blocks"]) == ("why", "boom", "failure", ["after"])
    assert why["error"]["code"] == "exit 3"
    assert "no space left" in project("why", "bad").stdout
    assert "token •••" in project("logs", "bad").stdout
    node = project.json("runs", "show", "bad", "boom")
    assert [attempt["outcome"] for attempt in node["attempts"]] == ["failed"]
    skipped = project("runs", "skip", "bad", "boom", "--reason", "not today")
    assert skipped.returncode == 0
    assert project.json("runs", "show", "bad", "--journal")["items"][-1]["after"] == "succeeded"


def test_reads_are_stable_objects_without_prose(project: Project) -> None:
    assert project("run", "good").returncode == 0
    kinds = {
        ("runs", "list"): "runs",
        ("runs", "show", "good"): "run",
        ("status",): "pipelines",
        ("status", "last"): "run",
        ("pipelines", "list"): "pipelines",
        ("connections", "list"): "connections",
        ("connections", "test"): "health",
        ("integrations", "list"): "integrations",
        ("graph", "good"): "graph",
        ("validate",): "diagnostics",
        ("explain", "CND020"): "code",
        ("config", "show"): "settings",
        ("config", "path"): "paths",
        ("doctor", "--offline"): "checks",
        ("db", "check"): "checks",
        ("why",): "why",
    }
    assert {words: project.json(*words)["kind"] for words in kinds} == kinds
    run = project.json("runs", "show", "good")
    assert (run["run"]["state"], run["run"]["actor"]) == ("succeeded", "ana")
    assert [node["id"] for node in run["nodes"]] == ["hello", "again"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nope",), 2, "no such command"),
        (("run",), 2, "name a pipeline"),
        (("run", "goo"), 2, "did you mean good"),
        (("run", "good", "-p", "x"), 2, "NAME=VALUE"),
        (("run", "good", "-p", "where=x"), 2, "where"),
        (("trigger", "good", "--wait"), 2, "no service runs"),
        (("trigger", "good", "--date", "soon"), 2, "2026-01-05"),
        (("why", "zzz"), 2, "runs list"),
        (("runs", "skip", "last", "n"), 2, "--reason"),
        (("explain", "CND999"), 2, "CND999"),
        (("status", "--color", "red"), 2, "--color"),
        (("connections", "test", "crm"), 2, "crm"),
        (("validate", "elsewhere.yml"), 2, "elsewhere.yml"),
        (("status", "--project", "nowhere"), 2, "conductor init"),
        (("status", "--store", "mysql://x"), 2, "mysql"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_stderr(
    project: Project, words: Sequence[str], code: int, says: str
) -> None:
    done = project(*words)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_mistakes_in_files_are_all_named_at_once(project: Project) -> None:
    text = _PIPELINES["good"].replace("depends_on: [hello]", "depends_on: [helo]\n    nope: 1")
    (project.root / "pipelines" / "good.yml").write_text(text, encoding="utf-8")
    done = project("validate")
    assert done.returncode == 1
    assert "did you mean `hello`?" in done.stdout
    assert done.stdout.count("error[") == 2
    assert project("validate", "pipelines/slow.yml").returncode == 0
    assert project("run", "good").returncode == 2
    assert project("run", "bad").returncode == 1


def test_a_run_recorded_without_a_service_says_that_one_must_run_it(project: Project) -> None:
    done = project("trigger", "good", "--key", "build-1")
    assert done.returncode == 0
    assert "no service runs" in done.stderr
    again = project.json("trigger", "good", "--key", "build-1")
    assert again["is_new"] is False
    assert again["run_id"] in done.stdout
    assert project.json("why", "good")["held_by"] == "service"
    assert project("run", "--resume", "good").returncode == 0
    assert project("run", "--resume", "good").returncode == 2
    assert len(project.json("runs", "list")["items"]) == 1


def test_a_service_carries_out_what_other_processes_ask(project: Project) -> None:
    with project.service():
        second = project("serve")
        assert (second.returncode, second.stderr.count("\n")) == (2, 1)
        assert "in use by another Conductor" in second.stderr
        assert "trigger good --wait" in project("run", "good").stderr
        waited = project("trigger", "good", "--wait", "--key", "k")
        assert waited.returncode == 0
        assert project.json("trigger", "good", "--key", "k")["state"] == "succeeded"
        assert project("trigger", "bad", "--wait").returncode == 1
        assert project("trigger", "slow", "--wait", "--timeout", "1s").returncode == 3
        assert project.json("why", "slow")["held_by"] == "vendor"
        assert project("pipelines", "pause", "slow").returncode == 0
        assert project.json("pipelines", "list")["items"][2]["is_paused"] is True
        assert project("pipelines", "resume", "slow").returncode == 0
        with project.begin("trigger", "slow", "--wait") as waiting:
            _read_until(waiting, "nap attempt 1  sending -> running")
            for run in project.json("runs", "list", "slow", "--state", "running")["items"]:
                assert project("runs", "cancel", run["id"], "--reason", "enough").returncode == 0
            waiting.communicate(timeout=_TIMEOUT_S)
            assert waiting.returncode == 6
    assert not (project.root / ".conductor" / "control.sock").exists()


def test_a_service_in_a_pipe_logs_json_reloads_and_stops_gracefully(project: Project) -> None:
    with project.begin("serve") as process:
        assert process.stderr is not None
        first = json.loads(_read_until(process, "serving")[-1])
        assert first["pipelines"] == 3
        text = _PIPELINES["good"].replace("name: good", "name: fresh")
        (project.root / "pipelines" / "fresh.yml").write_text(text, encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert "fresh" in json.loads(_read_until(process, "loaded anew")[-1])["pipelines"]
        assert project("trigger", "fresh", "--wait").returncode == 0
        (project.root / "pipelines" / "fresh.yml").write_text("version: 1\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        assert "fresh.yml" in json.loads(_read_until(process, "stay as they were")[-1])["error"]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=_TIMEOUT_S)
        assert all(json.loads(line)["timestamp"] for line in rest.splitlines())
        assert (process.returncode, errors) == (0, "")


def test_control_c_leaves_the_run_to_be_resumed(project: Project) -> None:
    with project.begin("run", "slow") as process:
        _read_until(process, "nap attempt 1  sending -> running")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode == 130
        assert "conductor run --resume" in errors
    assert project.json("status", "slow")["run"]["state"] == "running"
    with project.begin("run", "--resume", "slow") as process:
        # No line tells when it has begun to follow, but it answers on its control channel.
        _read_until(process, "nap")
        assert project("runs", "cancel", "slow").returncode == 0
        process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode == 6


def test_sandboxes_answer_on_loopback(project: Project) -> None:
    with project.begin("sandbox", "serve", "hightouch") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["sandboxes"]["hightouch"]["base_url"].startswith("http://127.0.0.1:")
        connection = told["sandboxes"]["hightouch"]["connection"]
        text = (
            "hightouch:\n  type: hightouch\n  api_key: ${{ secret('KEY') }}\n"
            f"  base_url: {connection['base_url']}\n"
        )
        (project.root / "connections.yml").write_text(text, encoding="utf-8")
        right = {"KEY": connection["api_key"]}
        assert project("connections", "test", "hightouch", env=right).returncode == 0
        assert project("connections", "test", "hightouch", env={"KEY": "wrong-one"}).returncode == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode in {0, 130}


def test_a_backup_is_a_database(project: Project) -> None:
    assert project("run", "good").returncode == 0
    assert project("db", "backup", "copy.db").returncode == 0
    assert project("db", "backup", "copy.db").returncode == 2
    copied = project.json("runs", "list", "--store", f"sqlite:///{project.root / 'copy.db'}")
    assert [run["pipeline"] for run in copied["items"]] == ["good"]


def test_settings_say_where_they_come_from(project: Project) -> None:
    (project.root / "conductor.yml").write_text("version: 1\nname: shop\nstate_dir: .state\n", encoding="utf-8")
    done = project("config", "show", "--origin", "--json", env={"CONDUCTOR_LOG_LEVEL": "debug"})
    found = {item["name"]: (item["value"], item["origin"], item["place"]) for item in json.loads(done.stdout)["items"]}
    assert found["state_dir"] == (".state", "file", "conductor.yml")
    assert found["log.level"] == ("debug", "env", "CONDUCTOR_LOG_LEVEL")
    assert found["actor"] == ("ana", "env", "CONDUCTOR_ACTOR")
    assert found["log.format"][1] == "default"
