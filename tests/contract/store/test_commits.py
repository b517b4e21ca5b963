"""What a commit promises: all or nothing, never over another writer, once however often it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from conductor.core.errors import StaleVersionError
from conductor.core.events import Begin, CancelRun, NotSeen, Observed, Pause, Permitted, Resume, RetryFailed, Wake
from conductor.core.run import Subject, Transition
from conductor.core.states import AttemptState, NodeState, Outcome, RunState
from conductor.core.step import step
from conductor.core.vendor import ExternalState, Observation
from conductor.store import Batch, Store, schema
from conductor.store.store import JournalRow
from tests.contract.store.made import (
    NOW,
    advance,
    committed,
    content,
    create,
    filled,
    held,
    id_of,
    plan_of,
    sent,
    stepped,
    walk,
    whole,
    with_ref,
)


def _refused(store: Store, batch: Batch, error: type[Exception] = StaleVersionError) -> str:
    """Commit a batch that must be refused, check that nothing of it was written, and return what was said."""
    before = content(store)
    with pytest.raises(error) as told:
        store.commit(batch)
    assert content(store) == before
    return str(told.value)


def test_a_run_is_followed_from_its_creation_to_its_end(store: Store) -> None:
    run = committed(store, 0, *sent("ext-1"))
    done = Observation(state=ExternalState.SUCCEEDED, word="ok", outputs={"rows": 3})
    run = advance(store, run, Observed(node="a", attempt_no=1, observation=done))
    assert store.load(run.id, plan_of) == run
    assert run.revision == 6
    assert [node.state for node in run.nodes.values()] == [
        NodeState.SUCCEEDED,
        NodeState.QUEUED,
        NodeState.QUEUED,
        NodeState.WAITING,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_after_every_commit_the_database_holds_exactly_what_is_in_memory(store: Store, seed: int) -> None:
    for walked in walk(seed, batches=60):
        store.commit(walked.batch)
        for run in walked.runs.values():
            assert store.load(run.id, plan_of) == run
    for run_id, made in ((run.id, store.attempts(run.id)) for run in walked.runs.values()):
        for node, attempts in made.items():
            assert [attempt.no for attempt in attempts] == list(range(1, walked.runs[run_id].nodes[node].attempts + 1))
            assert all(attempt.state is AttemptState.ENDED for attempt in attempts[:-1]), (run_id, node)


def test_several_steps_of_one_run_are_one_revision(store: Store) -> None:
    run = committed(store)
    after = advance(store, run, Begin(), Pause(), Resume())
    assert after.revision == run.revision + 1
    assert store.load(run.id, plan_of) == after


def test_a_step_that_changes_nothing_is_not_written(store: Store) -> None:
    run = committed(store, 0, *sent("ext-1"))
    batch, after = stepped(run, Wake(), NotSeen(node="a", attempt_no=1))
    assert not batch
    assert after is run
    before = content(store)
    store.commit(batch)
    assert content(store) == before


def test_an_attempt_that_was_ended_and_replaced_in_one_step_is_kept_as_ended(store: Store) -> None:
    run = committed(store, 0, *held())
    late = NOW + timedelta(days=2)
    run = advance(store, run, NotSeen(node="a", attempt_no=1), now=late)
    assert run.nodes["a"].state is NodeState.HELD
    run = advance(store, run, RetryFailed(actor="ann", reason="it did not start"), now=late)
    first, second = store.attempts(run.id)["a"]
    assert (first.state, first.outcome, first.ended_at) == (AttemptState.ENDED, Outcome.UNRESOLVED, late)
    assert (second.no, second.state) == (2, AttemptState.INTENDED)
    assert store.load(run.id, plan_of) == run


def test_a_refused_part_refuses_the_whole_batch(store: Store) -> None:
    good, bad = committed(store, "good"), committed(store, "bad")
    advance(store, bad, Begin())
    batch = Batch()
    create(batch, "new")
    batch.add(good, step(good, Begin(), NOW))
    batch.add(bad, step(bad, Begin(), NOW))
    batch.cursors["daily"] = NOW + timedelta(hours=1)
    batch.paused["daily"] = True
    batch.drops.append(("daily", NOW, 1, "x"))
    batch.durations.append(("daily", "a", 1.0))
    assert "another writer" in _refused(store, batch)


def test_a_write_on_an_old_revision_is_refused(store: Store) -> None:
    run = committed(store)
    advance(store, run, Begin())
    batch, _ = stepped(run, CancelRun())
    _refused(store, batch)


def test_a_write_of_an_attempt_that_has_moved_on_is_refused(store: Store) -> None:
    run = committed(store, 0, *sent("ext-1")[:2])
    with store._engine.begin() as connection:
        connection.execute(update(schema.attempts).values(state=AttemptState.SENDING.value))
    batch, _ = stepped(run, Permitted(node="a", attempt_no=1))
    _refused(store, batch)


def test_after_a_take_over_the_older_owner_writes_nothing(url: str) -> None:
    with Store.open(url) as older:
        run = committed(filled(older), 0, *sent("ext-1"))
    with Store.open(url) as newer:
        assert newer.epoch > older.epoch
        newer.take_over()
        [taken] = newer.load_active(plan_of)
        assert taken == replace(run, epoch=newer.epoch)
        batch, _ = stepped(run, CancelRun())
        _refused(newer, batch)
        assert advance(newer, taken, CancelRun()).revision == run.revision + 1


def test_an_ended_run_is_written_again_once_it_is_adopted(url: str) -> None:
    with Store.open(url) as older:
        run = committed(filled(older), 0, CancelRun())
    with Store.open(url) as newer:
        newer.take_over()
        assert newer.load_active(plan_of) == []
        newer.adopt(run.id)
        loaded = newer.load(run.id, plan_of)
        assert loaded == replace(run, epoch=newer.epoch)
        again = advance(newer, loaded, RetryFailed())
        assert [one.id for one in newer.load_active(plan_of)] == [again.id]
        batch, _ = stepped(run, RetryFailed())
        _refused(newer, batch)


def test_a_slot_has_one_run(store: Store) -> None:
    committed(store, "first", slot=NOW)
    batch = Batch()
    create(batch, "second", slot=NOW)
    assert "load and look again" in _refused(store, batch)
    committed(store, "next", slot=NOW + timedelta(microseconds=1))
    committed(store, "manual")
    committed(store, "manual too")


def test_an_id_has_one_run(store: Store) -> None:
    committed(store, "same")
    batch = Batch()
    create(batch, "same")
    _refused(store, batch)


def test_an_external_run_belongs_to_one_attempt(store: Store) -> None:
    store.commit(whole(with_ref("one", "ext-1")))
    # Whatever the words of the driver are, waiting does not help here.
    assert "not available" not in _refused(store, whole(with_ref("two", "ext-1")))
    store.commit(whole(with_ref("two", "ext-2")))


def test_a_key_belongs_to_one_attempt(store: Store) -> None:
    one, two = with_ref("one", "ext-1"), with_ref("two", "ext-2")
    made, copied = one.nodes["a"].attempt, two.nodes["a"].attempt
    assert made is not None
    assert copied is not None
    store.commit(whole(one))
    stolen = replace(two.nodes["a"], attempt=replace(copied, key=made.key))
    _refused(store, whole(replace(two, nodes={**two.nodes, "a": stolen})))


def test_a_pipeline_that_was_never_registered_is_not_written_to(store: Store) -> None:
    _refused(store, Batch(cursors={"nobody": NOW}))
    _refused(store, Batch(paused={"nobody": True}))


def _new(store: Store) -> Batch:
    batch = Batch()
    create(batch, "new", epoch=store.epoch)
    return batch


def _changed(store: Store) -> Batch:
    return stepped(committed(store, "changed"), Begin())[0]


def _nothing_but_drops(store: Store) -> Batch:
    return Batch(paused={"daily": False}, cursors={"daily": NOW})


@pytest.mark.parametrize("make", [_new, _changed, _nothing_but_drops])
@pytest.mark.parametrize("was_written", [True, False])
def test_a_commit_without_an_answer_is_written_once_when_tried_again(
    store: Store, make: Callable[[Store], Batch], was_written: bool
) -> None:
    batch = make(store)
    batch.durations.append(("daily", "a", 1.5))
    batch.drops.append(("daily", NOW, 2, "late"))
    if was_written:
        store.commit(batch)
    store.commit(batch, is_retry=True)
    once = content(store)
    assert store.durations("daily") == {"a": [1.5]}
    assert store.drops("daily") == [(NOW, 2, "late")]
    store.commit(batch, is_retry=True)
    assert content(store) == once


def test_a_commit_tried_again_after_another_owner_wrote_is_refused(url: str) -> None:
    with Store.open(url) as older:
        run = committed(filled(older))
        lost, _ = stepped(run, Begin())
    with Store.open(url) as newer:
        newer.take_over()
        [taken] = newer.load_active(plan_of)
        advance(newer, taken, Begin())
        before = content(newer)
        with pytest.raises(StaleVersionError):
            newer.commit(lost, is_retry=True)
        assert content(newer) == before


def test_an_empty_batch_is_no_commit(store: Store) -> None:
    before = content(store)
    store.commit(Batch())
    store.commit(Batch(), is_retry=True)
    assert content(store) == before


def test_a_pause_and_a_cursor_are_kept(store: Store) -> None:
    later = NOW + timedelta(hours=5, microseconds=1)
    store.commit(Batch(cursors={"daily": later}, paused={"daily": True}))
    row = store.pipelines()["daily"]
    assert (row.cursor_at, row.is_paused) == (later, True)
    store.commit(Batch(paused={"daily": False}))
    assert store.pipelines()["daily"].is_paused is False


def test_the_journal_has_every_transition_once_in_order_and_without_gaps(store: Store) -> None:
    written: list[tuple[str, Transition]] = []
    for walked in walk(7, batches=40):
        store.commit(walked.batch)
        for run_id, change in walked.batch.runs.items():
            written.extend((run_id, transition) for transition in change.transitions)
    rows = store.journal(limit=10_000)
    assert [(row.run_id, row.transition) for row in rows] == written
    assert [row.id for row in rows] == sorted({row.id for row in rows})
    for run_id in {row.run_id for row in rows}:
        own = store.journal(run_id=run_id, limit=10_000)
        assert [row.transition.seq for row in own] == list(range(1, len(own) + 1))
        assert own[0].transition.subject is Subject.RUN
    pages: list[JournalRow] = []
    while page := store.journal(after=pages[-1].id if pages else 0, limit=7):
        pages.extend(page)
    assert pages == rows


def test_a_refused_batch_leaves_no_gap_in_a_runs_journal(store: Store) -> None:
    run = committed(store)
    after = advance(store, run, Begin())
    _refused(store, stepped(run, Begin())[0])
    advance(store, after, CancelRun())
    numbers = [row.transition.seq for row in store.journal(run_id=id_of(0))]
    assert numbers == list(range(1, len(numbers) + 1))
    loaded = store.load(run.id, plan_of)
    assert loaded is not None
    assert loaded.state is RunState.CANCELLED
    assert loaded.seq == len(numbers)
