"""What can be asked, and that the answer is the same from every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from conductor.core.errors import StoreError
from conductor.core.events import Begin, CancelRun
from conductor.core.plan import Plan
from conductor.core.run import Run
from conductor.core.states import RunState
from conductor.store import Batch, Store
from tests.contract.store.made import NOW, PLAN, bare_run, committed, create, filled, id_of, plan, plan_of, walk, whole


def test_active_runs_load_oldest_first_and_equal_after_a_restart(url: str) -> None:
    with Store.open(url) as store:
        filled(store)
        for walked in walk(3, batches=60, runs=9):
            store.commit(walked.batch)
    active = [run for run in walked.runs.values() if not run.state.is_final]
    expected = sorted(active, key=lambda run: (run.created_at, run.id))
    assert len(expected) > 1
    with Store.open(url) as store:
        assert store.load_active(plan_of) == expected
        ended = [run for run in walked.runs.values() if run.state.is_final]
        assert [store.load(run.id, plan_of) for run in ended] == ended


def test_more_runs_than_one_statement_takes_load_whole(store: Store) -> None:
    batch = Batch()
    made = [create(batch, number, now=NOW + timedelta(seconds=number)) for number in range(1_003)]
    store.commit(batch)
    assert store.load_active(plan_of) == made


def test_a_run_whose_version_does_not_load_is_left_out(store: Store) -> None:
    committed(store)

    def nothing(name: str, version: str) -> Plan | None:
        return None

    assert store.load_active(nothing) == []
    assert store.load(id_of(0), nothing) is None


def test_a_plan_may_be_read_from_the_store_while_runs_load(store: Store) -> None:
    run = committed(store)

    def stored(name: str, version: str) -> Plan | None:
        assert store.definition(name, version) == PLAN.definition
        return plan_of(name, version)

    assert store.load_active(stored) == [run]


def test_a_run_that_does_not_exist_is_none(store: Store) -> None:
    assert store.load("0123456789abcdef", plan_of) is None
    assert store.attempts("0123456789abcdef") == {}


def test_registering_keeps_every_version_and_the_cursor(store: Store) -> None:
    later, second = NOW + timedelta(days=1), plan(version="bbbbbbbbbbbb")
    assert store.pipelines()["daily"].cursor_at == NOW
    store.commit(Batch(paused={"daily": True}))
    rows = store.register([second, plan("hourly")], now=later)
    assert (rows["daily"].version, rows["daily"].cursor_at, rows["daily"].is_paused) == ("bbbbbbbbbbbb", NOW, True)
    assert (rows["hourly"].cursor_at, rows["hourly"].is_paused) == (later, False)
    assert list(rows) == ["daily", "hourly"]
    for version in (PLAN.version, second.version):
        assert store.definition("daily", version) == {"name": "daily"}
    back = store.register([PLAN], now=later)
    assert back["daily"].version == PLAN.version
    assert store.register([], now=later) == back
    assert store.counts()["pipeline_versions"] == 3


def test_ids_are_found_by_their_beginning_and_nothing_in_it_is_a_wildcard(store: Store) -> None:
    for run_id in ("abc%000000000000", "abc_000000000000", "abcd000000000000", "ab/c000000000000", "abc\\000000000000"):
        store.commit(whole(replace(bare_run(run_id), id=run_id)))
    found = {prefix: {row.id for row in store.find_runs(prefix)} for prefix in ("abc%", "abc_", "ab/", "abc\\", "ABCD")}
    assert found == {
        "abc%": {"abc%000000000000"},
        "abc_": {"abc_000000000000"},
        "ab/": {"ab/c000000000000"},
        "abc\\": {"abc\\000000000000"},
        "ABCD": {"abcd000000000000"},
    }
    assert len(store.find_runs("", limit=3)) == 3
    assert store.find_runs("' OR 1=1 --") == []


def _made(store: Store) -> list[Run]:
    """Seven runs, newest first; the last five were created at the same instant, as a catch-up does."""
    batch = Batch()
    runs = [create(batch, number, now=NOW + timedelta(seconds=min(number, 2))) for number in range(7)]
    store.commit(batch)
    return sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)


def test_runs_are_listed_newest_first_page_by_page_and_none_is_left_out(store: Store) -> None:
    made = [run.id for run in _made(store)]
    assert [row.id for row in store.runs()] == made
    pages: list[str] = []
    page = store.runs(limit=2)
    while page:
        pages.extend(row.id for row in page)
        page = store.runs(limit=2, before=page[-1].created_at, before_id=page[-1].id)
    assert pages == made
    assert [row.id for row in store.runs(before=NOW + timedelta(seconds=1))] == [id_of(0)]


def test_runs_are_listed_by_pipeline_and_state(store: Store) -> None:
    first, second = committed(store, 1, Begin()), committed(store, 2, CancelRun(reason="enough"))
    assert [row.id for row in store.runs(states=[RunState.CANCELLED])] == [second.id]
    assert [row.id for row in store.runs(states=[RunState.RUNNING, RunState.QUEUED])] == [first.id]
    assert store.runs(pipeline="other") == []
    [row] = store.runs(pipeline="daily", states=[RunState.CANCELLED])
    assert (row.reason, row.ended_at, row.version, row.trigger) == ("enough", NOW, PLAN.version, "manual")


def test_taken_knows_whose_an_external_run_is(store: Store) -> None:
    batch = Batch()
    for walked in walk(11, batches=50):
        store.commit(walked.batch)
    expected = {
        ("warehouse", made.ref.id): (run_id, node, made.no)
        for run_id in walked.runs
        for node, attempts in store.attempts(run_id).items()
        for made in attempts
        if made.ref is not None
    }
    assert expected
    unknown = [("warehouse", f"nobody-{number}") for number in range(1_200)]
    other = [("lake", external_id) for _, external_id in expected]
    assert store.taken([*unknown, *expected, *other]) == expected
    assert store.taken([]) == {}
    assert not batch


def test_durations_are_newest_first_and_limited(store: Store) -> None:
    for seconds in (1.0, 2.5, 0.1 + 0.2):
        store.commit(Batch(durations=[("daily", "a", seconds), ("daily", "b", seconds), ("other", "a", 9.0)]))
    assert store.durations("daily") == {"a": [0.1 + 0.2, 2.5, 1.0], "b": [0.1 + 0.2, 2.5, 1.0]}
    assert store.durations("daily", most=3) == {"a": [0.1 + 0.2, 2.5][:1], "b": [0.1 + 0.2, 2.5]}
    assert store.durations("nobody") == {}


def test_drops_are_oldest_first(store: Store) -> None:
    store.commit(Batch(drops=[("daily", NOW, 3, "too old"), ("other", NOW, 1, "x")]))
    store.commit(Batch(drops=[("daily", NOW + timedelta(hours=1), 1, "paused")]))
    assert store.drops("daily") == [(NOW, 3, "too old"), (NOW + timedelta(hours=1), 1, "paused")]


def test_counts_name_every_table(store: Store) -> None:
    committed(store)
    counts = store.counts()
    assert (counts["runs"], counts["node_runs"], counts["journal"], counts["attempts"]) == (1, 4, 1, 0)


def test_an_epoch_is_larger_at_every_opening_and_the_installation_keeps_its_name(url: str) -> None:
    seen = []
    for _ in range(3):
        with Store.open(url) as store:
            seen.append((store.epoch, store.install))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert len({install for _, install in seen}) == 1
    assert len(seen[0][1]) == 12


def test_a_closed_store_answers_nothing_and_does_not_open_again_by_itself(url: str) -> None:
    store = Store.open(url)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.pipelines()
    with pytest.raises(StoreError, match="closed"):
        store.commit(Batch(paused={"daily": True}))


def test_a_reader_sees_what_is_committed_and_writes_nothing(url: str) -> None:
    with Store.open(url) as writer:
        run = committed(filled(writer))
        with Store.open(url, is_read_only=True) as reader:
            assert (reader.epoch, reader.install) == (writer.epoch, writer.install)
            assert reader.load(run.id, plan_of) == run
            second = committed(writer, 2)
            assert {row.id for row in reader.runs()} == {run.id, second.id}
            with pytest.raises(StoreError):
                reader.commit(Batch(paused={"daily": True}))
            assert writer.pipelines()["daily"].is_paused is False
    with Store.open(url, is_read_only=True) as reader:
        assert reader.load(run.id, plan_of) == run
