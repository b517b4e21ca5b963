"""What an ended dbt command means, when a retry may be `dbt retry`, and what the command lines are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from conductor.core.errors import ErrorClass, UnreadableError
from conductor.core.vendor import ExternalState, Json, Observation
from conductor.sdk.child_view import ChildExit, ChildPhase, ChildView
from integrations.dbt import events
from integrations.dbt.artifacts import Results, node_name, parse_results
from integrations.dbt.classify import class_of_node, worst
from integrations.dbt.commandline import Places, arguments, identity, retry_arguments
from integrations.dbt.config import BuildSettings, FreshnessSettings, Outputs
from integrations.dbt.mapping import STATUSES, Ended, Kind, judge, retryable
from integrations.dbt.resume import decide

AT = datetime(2026, 1, 5, 6, 0, tzinfo=UTC)
KEY = "cnd-marts-1"


def child(code: int | None = 0, *, outcome: str = "exited", phase: ChildPhase = ChildPhase.ENDED) -> ChildView:
    record = ChildExit(outcome=outcome, code=code, signal=None, error=None, stopped_by_host=False, ended_at=AT)
    return ChildView(key=KEY, phase=phase, exit=record if phase is ChildPhase.ENDED else None, started_at=AT)


def results(*rows: Mapping[str, Json], key: str = KEY) -> Results:
    metadata = {"invocation_id": "i-1", "dbt_version": "1.11.16", "env": {"CONDUCTOR_KEY": key}}
    return parse_results(json.dumps({"metadata": metadata, "elapsed_time": 1.5, "results": rows}).encode())


def row(unique_id: str, status: str, message: str | None = None, **more: Json) -> dict[str, Json]:
    return {"unique_id": unique_id, "status": status, "message": message, **more}


def seen(code: int, *rows: Mapping[str, Json], **more: object) -> Observation:
    return judge(Ended(view=child(code), results=results(*rows), **more))  # type: ignore[arg-type]


ORDERS = row("model.shop.orders", "success", "OK", execution_time=3.14159, adapter_response={"rows_affected": 120})
GOT_3 = "Got 3 results, configured to fail if != 0"
DUPLICATE = row("test.shop.unique_orders_id.1360ecc70e", "fail", GOT_3, failures=3)


def test_green_needs_exit_0_and_good_words_only() -> None:
    done = seen(0, ORDERS)
    assert done.state is ExternalState.SUCCEEDED
    outputs = Outputs.model_validate(dict(done.outputs))
    assert (outputs.total, outputs.succeeded, outputs.invocation_id, outputs.elapsed_s) == (1, 1, "i-1", 1.5)
    assert (outputs.nodes[0].rows_affected, outputs.nodes[0].execution_s) == (120, 3.142)


def test_a_failed_test_is_data_with_its_name_its_rows_and_its_sql() -> None:
    sql = {DUPLICATE["unique_id"]: ("compiled/shop/unique_orders_id.sql", "select id from orders")}
    done = seen(1, ORDERS, DUPLICATE, row("model.shop.totals", "skipped"), sql=sql)
    assert done.state is ExternalState.FAILED
    assert done.error is not None
    assert done.error.error_class is ErrorClass.DATA
    assert done.error.message == "1 of 3 failed: unique_orders_id: Got 3 results, configured to fail if != 0"
    assert done.error.detail is not None
    assert "select id from orders" in done.error.detail
    outputs = Outputs.model_validate(dict(done.outputs))
    assert (outputs.failed, outputs.skipped, outputs.counts["fail"]) == (1, 1, 1)
    assert outputs.failures[0].compiled_path == "compiled/shop/unique_orders_id.sql"
    assert outputs.failures[0].failures == 3


def test_warnings_of_tests_are_counted_and_named_and_do_not_spoil_the_success() -> None:
    done = seen(0, ORDERS, row("test.shop.fresh_enough.1", "warn", "Got 1 result", failures=1))
    assert done.state is ExternalState.SUCCEEDED
    assert done.message == "1 of 2 fine, 1 warned: fresh_enough"
    assert done.outputs["warned"] == 1


@pytest.mark.parametrize("code", [0, 1])
def test_a_word_that_nobody_knows_is_never_silently_green(code: int) -> None:
    done = seen(code, ORDERS, row("model.shop.odd", "transmuted"))
    assert done.state is (ExternalState.WARNED if code == 0 else ExternalState.FAILED)
    assert done.error is not None
    assert done.outputs["failed"] == 1
    if code == 0:
        assert "'transmuted'" in done.error.message


@pytest.mark.parametrize("word", [word for word, kind in STATUSES.items() if kind is Kind.FAILED])
def test_a_failure_in_the_results_outweighs_exit_0(word: str) -> None:
    assert seen(0, row("model.shop.orders", word, "Database Error")).state is ExternalState.FAILED


def test_an_empty_selection_is_a_warning_that_says_what_to_do() -> None:
    done = seen(0)
    assert done.state is ExternalState.WARNED
    assert done.error is not None
    assert "mend `select`" in done.error.message


def test_exit_0_without_results_of_this_attempt_is_not_green() -> None:
    done = judge(Ended(view=child(0), results=None, trouble="its run_results.json is of another run (cnd-other-1)"))
    assert done.state is ExternalState.WARNED
    assert "another run" in (done.message or "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Compilation Error in model bad\n  unexpected '}'", ErrorClass.CONFIG),
        ("Error: No such option '--nosuch'.", ErrorClass.CONFIG),
        ("something new", ErrorClass.CONFIG),
        ('Database Error\n  connection to server at "db" failed: Connection refused', ErrorClass.TRANSIENT),
        ('Database Error\n  FATAL: password authentication failed for user "x"', ErrorClass.AUTH),
    ],
)
def test_exit_2_is_a_matter_of_configuration_unless_the_words_say_otherwise(words: str, expected: ErrorClass) -> None:
    done = judge(Ended(view=child(2), trouble="it left no run_results.json", words=(words,)))
    assert done.state is ExternalState.FAILED
    assert done.error is not None
    assert done.error.error_class is expected
    assert done.error.message.startswith("dbt ended with exit code 2: ")


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        ("fail", "Got 1 result", ErrorClass.DATA),
        ("error", 'IO Error: Could not set lock on file "shop.duckdb"', ErrorClass.TRANSIENT),
        ("error", "Compilation Error in model timeouts", ErrorClass.CONFIG),
        ("error", "Database Error in model timeouts\n  column x does not exist", ErrorClass.UNKNOWN),
        ("error", "Database Error\n  permission denied for schema core", ErrorClass.AUTH),
        ("error", "Quota exceeded: too many bytes", ErrorClass.QUOTA),
    ],
)
def test_a_node_is_classed_by_its_own_words(status: str, message: str, expected: ErrorClass) -> None:
    assert class_of_node("model.shop.x", status, message) is expected


def test_one_cause_that_a_retry_cannot_heal_outweighs_those_that_it_can() -> None:
    assert worst([ErrorClass.TRANSIENT, ErrorClass.DATA]) is ErrorClass.DATA
    assert worst([ErrorClass.TRANSIENT, ErrorClass.UNKNOWN]) is ErrorClass.UNKNOWN
    assert worst([ErrorClass.TRANSIENT]) is ErrorClass.TRANSIENT
    assert worst([]) is ErrorClass.UNKNOWN


def test_a_source_whose_query_crashed_is_told_though_sources_json_lacks_it() -> None:
    stale = row("source.shop.raw.orders", "error", max_loaded_at_time_ago_in_s=172_800.0)
    logged = {
        "source.shop.raw.orders": ("error", ""),
        "source.shop.raw.nowhere": ("runtime error", "Runtime Error in source nowhere\n  no such table"),
        "source.shop.raw.cut_off": ("", ""),
    }
    done = seen(1, stale, logged=logged)
    assert done.state is ExternalState.FAILED
    assert done.outputs["counts"] == {"error": 1, "runtime error": 2}
    assert done.error is not None
    assert "raw.orders: the newest row is 2.0 days old" in done.error.message
    assert done.error.error_class is ErrorClass.DATA


def test_a_crashed_source_spoils_even_exit_0() -> None:
    assert seen(0, logged={"source.shop.raw.x": ("runtime error", "")}).state is ExternalState.FAILED


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"results": null}', b"[" * 100_000])
def test_a_damaged_results_file_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_results(body)


def test_odd_fields_of_results_are_read_leniently() -> None:
    read = parse_results(b'{"results": [null, {"unique_id": 3, "failures": true, "execution_time": "x"}], "new": 1}')
    assert [node.status for node in read.nodes] == ["(no status)", "(no status)"]
    assert read.key == ""
    assert node_name("source.shop.raw.orders") == "raw.orders"
    assert node_name("odd") == "odd"


def decision(
    *,
    view: ChildView | None = None,
    found: Results | None = None,
    settings: Mapping[str, Json] | None = None,
    operation: str = "core_build",
    meta: Mapping[str, Json] | None = None,
    has_results: bool = True,
) -> tuple[bool, tuple[str, ...]]:
    made = decide(
        operation=operation,
        settings=settings or {"resume": "auto"},
        view=view or child(1),
        meta=meta or {"identity": "same"},
        results=(found or results(ORDERS, DUPLICATE)) if has_results else None,
        identity="same",
    )
    assert made.why
    return made.is_retry, made.nodes


def test_a_finished_failure_of_the_same_work_is_resumed() -> None:
    assert decision() == (True, ("test.shop.unique_orders_id.1360ecc70e",))


def test_everything_else_runs_in_full() -> None:
    hook = row("operation.shop.shop-on-run-end-0", "error", "Database Error")
    assert decision(settings={"resume": "never"}) == (False, ())
    assert decision(operation="core_source_freshness") == (False, ())
    assert decision(meta={"identity": "other"}) == (False, ())
    assert decision(has_results=False) == (False, ())
    assert decision(found=results(DUPLICATE, key="cnd-other-1")) == (False, ())
    assert decision(found=results(ORDERS)) == (False, ())
    assert decision(found=results(ORDERS, hook)) == (False, ()), "dbt retry ignores hooks and would call it a success"


@pytest.mark.parametrize(
    "view",
    [
        child(2),
        child(0),
        child(None, outcome="signalled"),
        child(1, outcome="cancelled"),
        child(phase=ChildPhase.VANISHED),
        child(phase=ChildPhase.ORPHANED),
    ],
)
def test_an_unfinished_attempt_is_never_resumed_because_it_lists_only_what_it_reached(view: ChildView) -> None:
    assert decision(view=view) == (False, ())


def test_a_resume_that_did_not_run_what_had_failed_is_no_success() -> None:
    done = seen(0, expected=("model.shop.gone",), resumed_from="cnd-marts-1")
    assert done.state is ExternalState.FAILED
    assert done.error is not None
    assert "run it in full" in done.error.message


def test_warnings_count_as_retryable_only_where_they_are_errors() -> None:
    warned = results(row("test.shop.w.1", "warn"))
    assert retryable(warned, warn_error=False) == ()
    assert retryable(warned, warn_error=True) == ("test.shop.w.1",)


PLACES = Places(
    project=Path("/p"), profiles=Path("/prof"), target="prod", target_path=Path("/a/target"), log_path=Path("/a/logs")
)


def test_the_command_line_says_what_the_settings_say() -> None:
    settings = BuildSettings.model_validate(
        {
            "select": ["tag:daily", "orders+"],
            "exclude": "stg_x",
            "full_refresh": True,
            "fail_fast": True,
            "vars": {"day": "2026-01-05"},
            "threads": 8,
            "warn_error": True,
        }
    ).model_dump(mode="json")
    text = " ".join(arguments("core_build", settings, PLACES))
    assert text.startswith("build --select tag:daily orders+ --exclude stg_x --full-refresh --fail-fast --project-dir")
    assert '--vars {"day": "2026-01-05"} --threads 8 --warn-error' in text
    assert text.endswith("--target-path /a/target --log-path /a/logs --log-format json --no-use-colors --write-json")
    freshness = FreshnessSettings(select=["source:raw"]).model_dump(mode="json")
    words = arguments("core_source_freshness", freshness, PLACES)
    assert words[:4] == ("source", "freshness", "--select", "source:raw")


def test_a_retry_takes_its_selection_from_the_failed_run_alone() -> None:
    settings = BuildSettings(select=["tag:daily"], full_refresh=True).model_dump(mode="json")
    words = retry_arguments(settings, PLACES, state=Path("/a/resume"))
    assert words[:3] == ("retry", "--state", "/a/resume")
    assert not {"--select", "--full-refresh"} & {*words}


def test_identity_ignores_threads_and_nothing_that_changes_the_work() -> None:
    def of(**settings: Json) -> str:
        return identity("core_build", BuildSettings.model_validate(settings).model_dump(mode="json"), PLACES)

    assert of(threads=2) == of(threads=8)
    assert len({of(), of(select="a"), of(full_refresh=True), of(vars={"day": "x"}), of(target="dev")}) == 5


@pytest.mark.parametrize("field", ["select", "exclude", "selector", "target", "profile"])
def test_a_value_that_dbt_would_read_as_an_option_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        BuildSettings.model_validate({field: "--full-refresh"})


def event(name: str, *, level: str = "info", message: str = "x", **data: Json) -> str:
    info = {"name": name, "level": level, "msg": message, "ts": "2026-01-05T06:00:01Z"}
    return json.dumps({"info": info, "data": data})


def test_progress_counts_ended_nodes_and_goes_on_from_what_a_ref_remembers() -> None:
    first = "\n".join([event("LogStartLine", index=1, total=3, description="model a"), "no event", "{broken"])
    now = events.advance(events.Progress(), first, 100)
    assert (now.offset, now.done, now.total, now.words) == (100, 0, 3, "0 of 3: model a")
    more = "\n".join([event("LogModelResult", index=1, total=3), event("SkippingDetails", index=2, total=3)])
    now = events.advance(now, more, 200)
    assert now.done == 2
    assert now.fraction == pytest.approx(2 / 3)


def test_hooks_do_not_spoil_the_total() -> None:
    assert events.advance(events.Progress(), event("LogHookStartLine", index=1, total=9), 1).total == 0


def test_errors_are_dbts_own_and_else_the_last_raw_lines() -> None:
    lines = [event("MainReportVersion"), event("MainEncounteredError", level="error", message="Compilation Error")]
    assert events.error_words(lines) == ("Compilation Error",)
    assert events.error_words(["Usage: dbt build", "", "Error: No such option"]) == (
        "Usage: dbt build",
        "Error: No such option",
    )


def test_a_log_line_is_told_for_people() -> None:
    assert events.readable(event("LogTestResult", level="error", message="FAIL 1 a")) == "06:00:01 error FAIL 1 a"
    assert events.readable(event("Formatting", message="")) == ""
    assert events.readable("Traceback") == "Traceback"
