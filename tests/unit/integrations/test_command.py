"""What a command's exit code and output file mean, and what its settings accept."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from conductor.core.errors import ErrorClass
from conductor.core.vendor import ExternalState, Observation
from conductor.sdk.child_view import ChildExit, ChildPhase, ChildView, observe_child
from integrations.command.config import Connection, Outputs, RunSettings
from integrations.command.mapping import OUTPUT_CAP_BYTES, observe_exit, rule_for

AT = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)


def ended(code: int | None = 0, *, outcome: str = "exited", signal: int | None = None) -> ChildView:
    record = ChildExit(outcome=outcome, code=code, signal=signal, error=None, stopped_by_host=False, ended_at=AT)
    return ChildView(key="cnd-n-1", phase=ChildPhase.ENDED, exit=record, started_at=AT)


def seen(code: int, *, rules: dict[str, object] | None = None, output: bytes | None = None) -> Observation:
    return observe_exit(ended(code), rules=rules or {}, output=output, lines=("one", "", "the last words"))


def test_zero_is_success_and_all_else_is_failure_with_the_last_words() -> None:
    assert seen(0).state is ExternalState.SUCCEEDED
    failed = seen(9)
    assert failed.state is ExternalState.FAILED
    assert failed.error is not None
    assert failed.error.error_class is ErrorClass.UNKNOWN
    assert failed.error.message == "the command ended with exit code 9: one | the last words"
    assert failed.error.code == "exit 9"


@pytest.mark.parametrize("code", [126, 127])
def test_a_program_that_a_shell_cannot_run_is_a_matter_of_configuration(code: int) -> None:
    assert rule_for(code, {}).error_class is ErrorClass.CONFIG


def test_exit_codes_take_short_and_long_rules() -> None:
    settings = RunSettings.model_validate(
        {
            "argv": ["x"],
            "exit_codes": {
                "0": "warned",
                "3": "succeeded",
                "4": "transient",
                "5": {"state": "failed", "error_class": "data"},
            },
        }
    )
    rules = settings.model_dump(mode="json")["exit_codes"]
    assert seen(0, rules=rules).state is ExternalState.WARNED
    assert seen(3, rules=rules).state is ExternalState.SUCCEEDED
    classes = [error.error_class for code in (4, 5) if (error := seen(code, rules=rules).error) is not None]
    assert classes == [ErrorClass.TRANSIENT, ErrorClass.DATA]


def test_outputs_come_from_the_file() -> None:
    done = seen(0, output=json.dumps({"rows": 3, "tables": ["a"]}).encode())
    assert Outputs.model_validate(dict(done.outputs)).values == {"rows": 3, "tables": ["a"]}


@pytest.mark.parametrize(
    "body", [b"[1]", b"rows=3", b'{"a": NaN}', b"[" * 60_000, b'{"a": "' + b"x" * OUTPUT_CAP_BYTES + b'"}']
)
def test_outputs_that_cannot_be_taken_are_a_warning_and_never_silent(body: bytes) -> None:
    done = seen(0, output=body)
    assert done.state is ExternalState.WARNED
    assert done.error is not None
    assert "CONDUCTOR_OUTPUT" in done.error.message
    assert done.outputs == {"exit_code": 0, "values": {}}


def test_no_output_file_is_fine_and_a_failure_stays_one_whatever_it_wrote() -> None:
    assert seen(0, output=None).state is ExternalState.SUCCEEDED
    assert seen(0, output=b"\n").state is ExternalState.SUCCEEDED
    assert seen(1, output=b"{}").state is ExternalState.FAILED


def test_a_killed_command_says_which_signal_and_hints_at_memory() -> None:
    killed = observe_child(ended(None, outcome="signalled", signal=9))
    assert killed is not None
    assert killed.state is ExternalState.FAILED
    assert killed.error is not None
    assert "SIGKILL" in killed.error.message
    assert "memory" in killed.error.message


def test_a_record_of_another_supervisor_version_is_unrecognised() -> None:
    strange = observe_child(ended(0, outcome="hibernated"))
    assert strange is not None
    assert (strange.state, strange.word) == (ExternalState.UNRECOGNISED, "hibernated")


def test_a_command_text_is_split_like_a_shell_does_and_expands_nothing() -> None:
    settings = RunSettings.model_validate({"command": "bin/load --day '2026 01' $HOME *"})
    assert settings.words == ("bin/load", "--day", "2026 01", "$HOME", "*")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"argv": ["x"], "command": "x"},
        {"command": "say 'unclosed"},
        {"command": "  "},
        {"argv": ["x"], "env": {"CONDUCTOR_KEY": "mine"}},
        {"argv": ["x"], "env": {"A B": "c"}},
        {"argv": ["x"], "exit_codes": {"256": "failed"}},
        {"argv": ["x"], "exit_codes": {"1": "skipped"}},
        {"argv": ["x"], "shell": True},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RunSettings.model_validate(wrong)


def test_secrets_of_the_connection_do_not_show() -> None:
    connection = Connection.model_validate({"secret_env": {"PASSWORD": "hunter2"}})
    assert "hunter2" not in repr(connection)
