"""What is written is what is read back: every field, every instant, every text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import String, Table, update

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.run import Attempt, NodeRun, Run, Subject, Transition, Trigger
from conductor.core.states import AttemptState, CancelCause, Cause, NodeState, Outcome, RunState
from conductor.core.vendor import Baseline, ExternalRef, ExternalState
from conductor.store import Store, schema
from conductor.store.codec import attempt_from_row, attempt_row, instant, micros, node_from_row, node_row
from tests.contract.store.made import (
    NOW,
    PLAN,
    attempt,
    bare_run,
    filled,
    id_of,
    plan_of,
    whole,
    with_ref,
)

# Each example writes rows of its own, so the examples of one test may share its database.
_shared = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = itertools.count(1)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
_numerals = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numerals | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(_texts, _json, max_size=3)
_counts = st.integers(0, 2**31 - 1)
_refs = st.fixed_dictionaries({"id": _texts, "data": _objects, "link": st.none() | _texts})
_errors = st.fixed_dictionaries(
    {
        "error_class": st.sampled_from(ErrorClass),
        "message": _texts,
        "code": st.none() | _texts,
        "link": st.none() | _texts,
        "detail": st.none() | _texts,
    }
)
_baselines = st.fixed_dictionaries(
    {
        "data": _objects,
        "is_busy": st.booleans(),
        "running": st.none() | st.builds(lambda ref: ExternalRef(**ref), _refs),
    }
)
_attempts = st.fixed_dictionaries(
    {
        "no": st.integers(1, 99),
        "key": st.just(""),
        "state": st.sampled_from(AttemptState),
        "settings": _objects,
        "scope": _texts,
        "intended_at": _instants,
        "outcome": st.none() | st.sampled_from(Outcome),
        "resume": st.none() | st.builds(lambda ref: ExternalRef(**ref), _refs),
        "baseline": st.none() | st.builds(lambda baseline: Baseline(**baseline), _baselines),
        "send_no": _counts,
        "first_sent_at": st.none() | _instants,
        "permit_at": st.none() | _instants,
        "not_before": st.none() | _instants,
        "refusals": _counts,
        "settle_until": st.none() | _instants,
        "find_no": _counts,
        "find_at": st.none() | _instants,
        "ref": st.none() | st.builds(lambda ref: ExternalRef(**ref), _refs),
        "adopted": _texts,
        "running_at": st.none() | _instants,
        "seen_state": st.none() | st.sampled_from(ExternalState),
        "seen_word": _texts,
        "seen_message": st.none() | _texts,
        "seen_at": st.none() | _instants,
        "progress": st.none() | st.floats(0, 1),
        "marker": _texts,
        "marker_at": st.none() | _instants,
        "vendor_started_at": st.none() | _instants,
        "cancel_cause": st.none() | st.sampled_from(CancelCause),
        "cancel_asked_at": st.none() | _instants,
        "cancel_at": st.none() | _instants,
        "cancel_no": _counts,
        "ended_at": st.none() | _instants,
        "error": st.none() | st.builds(lambda error: ErrorInfo(**error), _errors),
        "outputs": _objects,
    }
)
_nodes = st.fixed_dictionaries(
    {
        "id": st.just("a"),
        "state": st.sampled_from(NodeState),
        "attempt": st.none() | st.builds(lambda attempt: Attempt(**attempt), _attempts),
        "attempts": st.just(0),
        "budget_from": _counts,
        "retry_at": st.none() | _instants,
        "reason": _texts,
        "outputs": _objects,
        "error": st.none() | st.builds(lambda error: ErrorInfo(**error), _errors),
        "ready_at": st.none() | _instants,
        "started_at": st.none() | _instants,
        "ended_at": st.none() | _instants,
    }
)
_runs = st.fixed_dictionaries(
    {
        "id": st.just(""),
        "plan": st.just(PLAN),
        "trigger": st.sampled_from(Trigger),
        # A running run's next wake is worked out from its nodes, which are arbitrary here.
        "state": st.sampled_from([state for state in RunState if state is not RunState.RUNNING]),
        "created_at": _instants,
        "logical_at": _instants,
        "nodes": st.builds(lambda node: {"a": NodeRun(**node)}, _nodes),
        "slot": st.none(),
        "params": _objects,
        "started_at": st.none() | _instants,
        "ended_at": st.none() | _instants,
        "is_paused": st.booleans(),
        "cancel_cause": st.none() | st.sampled_from(CancelCause),
        "reason": _texts,
        "actor": _texts,
        "priority": st.integers(-(2**31), 2**31 - 1),
        "revision": st.integers(1, 2**62),
        "epoch": st.integers(0, 2**62),
        "seq": st.integers(0, 2**62),
    }
)
_transitions = st.fixed_dictionaries(
    {
        "at": _instants,
        "seq": st.integers(1, 2**62),
        "subject": st.sampled_from(Subject),
        "node": st.sampled_from(["", "a", "b"]),
        "attempt_no": _counts,
        "before": st.sampled_from(["", *AttemptState]).map(str),
        "after": st.sampled_from(NodeState).map(lambda state: state.value),
        "cause": st.sampled_from(Cause),
        "detail": _objects,
    }
)


def _own(run: Run) -> Run:
    """The run under an id of its own, so that keys and external ids are its own too."""
    run_id = id_of(f"value {next(_numbers)}")
    nodes = {**bare_run(0).nodes, **run.nodes}
    made = nodes["a"].attempt
    if made is not None:
        ref = replace(made.ref, id=f"{made.ref.id}{run_id}") if made.ref else None
        made = replace(made, key=f"{run_id}-{made.no}", ref=ref)
        nodes = {**nodes, "a": replace(nodes["a"], attempt=made, attempts=made.no)}
    return replace(run, id=run_id, nodes=nodes)


def _stored(store: Store, run: Run) -> Run:
    store.commit(whole(run))
    loaded = store.load(run.id, plan_of)
    assert loaded is not None
    return loaded


@pytest.mark.parametrize(
    ("kind", "given_fields"),
    [
        (Attempt, _attempts),
        (NodeRun, _nodes),
        (Run, _runs),
        (Transition, _transitions),
        (ExternalRef, _refs),
        (ErrorInfo, _errors),
        (Baseline, _baselines),
    ],
)
def test_the_round_trip_below_leaves_no_field_out(kind: type[Any], given_fields: st.SearchStrategy[Any]) -> None:
    @settings(max_examples=1)
    @given(given_fields)
    def check(values: dict[str, object]) -> None:
        assert list(values) == [field.name for field in fields(kind)]

    check()


@_shared
@given(_runs)
def test_every_field_of_a_run_its_nodes_and_attempts_comes_back(store: Store, values: dict[str, Any]) -> None:
    run = _own(Run(**values))
    assert _stored(store, run) == run


@_shared
@given(_attempts, _attempts)
def test_every_field_of_an_attempt_can_be_changed(store: Store, one: dict[str, Any], two: dict[str, Any]) -> None:
    first = _own(bare_run(0, a=NodeRun(id="a", attempts=1, attempt=Attempt(**one | {"no": 1}))))
    store.commit(whole(first))
    before = first.nodes["a"].attempt
    assert before is not None
    made = replace(Attempt(**two), no=1, key=before.key, settings=before.settings)
    if made.ref is not None:
        made = replace(made, ref=replace(made.ref, id=f"{made.ref.id}{first.id}"))
    after = replace(first, revision=2, nodes={**first.nodes, "a": replace(first.nodes["a"], attempt=made)})
    batch = whole(after)
    batch.runs[after.id].before = first
    store.commit(batch)
    assert store.load(first.id, plan_of) == after
    assert store.attempts(first.id) == {"a": [made]}


@_shared
@given(_transitions)
def test_every_field_of_a_transition_comes_back(store: Store, values: dict[str, Any]) -> None:
    run = _own(bare_run(0))
    written = Transition(**values)
    store.commit(whole(run, transitions=(written,)))
    assert [row.transition for row in store.journal(run_id=run.id)] == [written]


def test_fields_that_a_newer_version_added_are_ignored() -> None:
    run = with_ref("newer", "x")
    made = run.nodes["a"].attempt
    assert made is not None
    row = _with_more(attempt_row(run, "a", replace(made, error=ErrorInfo(error_class=ErrorClass.DATA, message="m"))))
    assert attempt_from_row(row) == replace(made, error=ErrorInfo(error_class=ErrorClass.DATA, message="m"))
    node = node_from_row(_with_more(node_row(run.id, run.nodes["a"])), made)
    assert node == run.nodes["a"]


def _with_more(row: dict[str, Any]) -> dict[str, Any]:
    body = json.loads(row["body"]) | {"from_the_future": {"x": [1]}}
    for nested in ("ref", "error"):
        if nested in body:
            body[nested] |= {"from_the_future": 1}
    return row | {"body": json.dumps(body)}


def test_bodies_without_the_fields_that_came_later_load_with_their_defaults(store: Store) -> None:
    run = with_ref("older", "older-1")
    store.commit(whole(run))
    body = {"settings": {"a": 1}, "intended_at": micros(NOW)}
    with store._engine.begin() as connection:
        connection.execute(update(schema.attempts).values(body=json.dumps(body)))
        connection.execute(update(schema.nodes).values(body="{}"))
    loaded = store.load(run.id, plan_of)
    assert loaded is not None
    made = loaded.nodes["a"].attempt
    assert made is not None
    assert made == Attempt(no=1, key=made.key, state=AttemptState.RUNNING, settings={"a": 1}, scope="", intended_at=NOW)


def test_every_word_fits_its_column() -> None:
    words: Iterable[tuple[Table, str, type[StrEnum]]] = (
        (schema.runs, "state", RunState),
        (schema.runs, "trigger", Trigger),
        (schema.runs, "cancel_cause", CancelCause),
        (schema.nodes, "state", NodeState),
        (schema.attempts, "state", AttemptState),
        (schema.attempts, "outcome", Outcome),
        (schema.journal, "subject", Subject),
        (schema.journal, "cause", Cause),
        (schema.journal, "before", NodeState),
        (schema.journal, "after", NodeState),
        (schema.journal, "after", AttemptState),
        (schema.journal, "after", RunState),
    )
    for table, column, kind in words:
        shape = table.c[column].type
        assert isinstance(shape, String)
        assert max(len(word.value) for word in kind) <= (shape.length or 0), f"{table.name}.{column}"


def test_instants_survive_to_the_microsecond_in_utc(store: Store) -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    at = datetime(2038, 1, 19, 8, 59, 7, 999_999, tzinfo=kathmandu)
    run = replace(bare_run("zone"), started_at=at, logical_at=datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC))
    loaded = _stored(store, run)
    assert loaded.started_at == at
    assert loaded.started_at.tzinfo is UTC
    assert loaded.logical_at == run.logical_at
    for moment in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert instant(micros(moment)) == moment


def test_big_texts_and_every_script_survive(store: Store) -> None:
    big = "Größe 漢字 🚚 \u2028 ' \" \\ %s :name ?\n" * 40_000
    node = NodeRun(
        id="a", reason=big, error=ErrorInfo(error_class=ErrorClass.DATA, message=big), outputs={big[:50]: big}
    )
    run = replace(bare_run("big", a=node), reason=big, actor=big[:100], params={"text": big})
    assert _stored(store, run) == run


def test_what_a_database_cannot_hold_is_replaced_and_does_not_stop_the_commit(store: Store) -> None:
    bad, good = "a\x00b\ud83dc", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    made = replace(
        attempt("bad", ref=ExternalRef(id=bad, data={bad: [bad]}, link=bad)),
        settings={"literal": "\\u0000", "nested": {"x": bad}},
        seen_message=bad,
        outputs={
            "nan": float("nan"),
            "infinite": [float("-inf"), 1.5],
            "odd": {"proxy": MappingProxyType({"k": (1, 2)}), "set": {"z", "y"}, "at": NOW.date()},
        },
    )
    run = replace(bare_run("bad", a=NodeRun(id="a", attempt=made, attempts=1, reason=bad)), reason=bad, actor=bad)
    detail = Transition(
        at=NOW,
        seq=1,
        subject=Subject.RUN,
        node="",
        attempt_no=0,
        before="",
        after="queued",
        cause=Cause.CREATED,
        detail={"reason": bad},
    )
    batch = whole(run, transitions=(detail,))
    batch.drops.append(("daily", NOW, 1, bad))
    store.commit(batch)
    loaded = store.load(run.id, plan_of)
    assert loaded is not None
    assert (loaded.reason, loaded.actor, loaded.nodes["a"].reason) == (good, good, good)
    read = loaded.nodes["a"].attempt
    assert read is not None
    assert read.ref == ExternalRef(id=good, data={good: [good]}, link=good)
    assert read.settings == {"literal": "\\u0000", "nested": {"x": good}}
    assert read.seen_message == good
    assert read.outputs == {
        "nan": None,
        "infinite": [None, 1.5],
        "odd": {"proxy": {"k": [1, 2]}, "set": ["y", "z"], "at": "2026-03-01"},
    }
    assert store.journal(run_id=run.id)[0].transition.detail == {"reason": good}
    assert store.drops("daily") == [(NOW, 1, good)]
    assert store.taken([("warehouse", bad)]) == {("warehouse", bad): (run.id, "a", 1)}
    assert store.find_runs(bad) == []
    assert store.load(bad, plan_of) is None


def test_an_external_id_of_any_length_is_kept_whole_and_stays_unique(store: Store) -> None:
    # Not compressible: PostgreSQL limits the rows of its indexes, after compression.
    long = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(20_000))
    run = _stored(store, with_ref("long", long))
    made = run.nodes["a"].attempt
    assert made is not None
    assert made.ref == ExternalRef(id=long)
    store.commit(whole(with_ref("longer", long + "x")))
    assert store.taken([("warehouse", long), ("warehouse", long + "y")]) == {("warehouse", long): (run.id, "a", 1)}


def test_a_definition_comes_back_as_it_was_registered(store: Store) -> None:
    odd = replace(PLAN, name="odd", version="aaaaaaaaaaaa", definition={"böse": [1, None, {"a\ud800": "x\x00"}]})
    filled(store, odd)
    assert store.definition("odd", "aaaaaaaaaaaa") == {
        "böse": [1, None, {"a\N{REPLACEMENT CHARACTER}": "x\N{REPLACEMENT CHARACTER}"}]
    }
    assert store.definition("odd", "bbbbbbbbbbbb") is None
