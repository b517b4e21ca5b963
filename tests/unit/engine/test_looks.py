"""How often vendors are asked: few requests, dense when an end is near; a look that fails moves no node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from conductor.core.vendor import ExternalState
from tests.simulation.clock import SimClock
from tests.simulation.vendors import KEYED, FakeVendor, Sin
from tests.simulation.world import World, node, pipeline

MakeWorld = Callable[..., World]
MANY = 2000


def test_runs_on_one_connection_share_their_requests(make_world: MakeWorld) -> None:
    world = make_world(pipeline(*(node(f"n{i}", KEYED) for i in range(MANY))))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 3000.0
    world.trigger()
    world.until(lambda: len(vendor.ledger) == MANY)
    world.pass_time(600)
    vendor.batches.clear()
    world.pass_time(120)
    rounds = sum(vendor.batches) / MANY
    assert rounds >= 2
    assert len(vendor.batches) <= rounds * MANY / 100 + 1
    assert max(vendor.batches) <= 100


def test_looks_grow_rarer_with_the_time_a_run_takes(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 20_000.0
    world.trigger()
    counts = []
    for _ in range(4):
        before = vendor.calls["poll"]
        world.pass_time(600)
        counts.append(vendor.calls["poll"] - before)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] <= 12


def test_with_history_looks_are_sparse_early_and_dense_near_the_end(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 1000.0
    for _ in range(6):
        world.trigger()
        world.until_done()
    world.crash().boot()
    vendor.calls.clear()
    world.trigger()
    world.pass_time(900)
    early = vendor.calls["poll"]
    started = world.clock.monotonic()
    world.until_done()
    assert early <= 16
    assert vendor.calls["poll"] - early >= 3
    assert world.clock.monotonic() - started <= 130


def test_each_node_keeps_its_own_floor_and_batch_on_a_shared_connection(make_world: MakeWorld) -> None:
    slow = replace(KEYED, poll_floor_s=60.0, batch_size=1)
    fast = replace(KEYED, poll_floor_s=1.0)
    world = make_world(pipeline(node("fast", fast), *(node(f"slow{i}", slow) for i in range(3))))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 10_000.0
    world.trigger()
    world.pass_time(300)
    looks = {job.node: vendor.looked[job.id] for job in vendor.ledger}
    assert looks.pop("fast") > 20
    assert max(looks.values()) <= 5
    assert max(vendor.batches) == 1


@pytest.mark.parametrize("sin", [Sin.FAIL, Sin.RAISE, Sin.CANCELLED, Sin.AUTH, Sin.REFUSE])
def test_looks_that_fail_move_no_node_and_come_ever_rarer(make_world: MakeWorld, sin: Sin) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.plan.sin = lambda call: sin if call == "poll" else Sin.NONE
    run_id = world.trigger()
    journal = world.journal()
    world.pass_time(7200)
    assert world.states(run_id) == {"a": "running"}
    assert world.journal() == journal
    before = vendor.calls["poll"]
    world.pass_time(3600)
    assert vendor.calls["poll"] - before <= 3600 / 7 + 1
    vendor.plan.sin = lambda _: Sin.NONE
    world.until_done(within_s=130)
    assert world.states(run_id) == {"a": "succeeded"}


def test_a_run_that_the_vendor_forgets_has_vanished_after_a_grace_and_is_no_success(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.plan.duration_s = lambda _: 1000.0
    run_id = world.trigger()
    world.pass_time(20)
    vendor.job("a").is_forgotten = True
    world.pass_time(30)
    assert world.states(run_id) == {"a": "running"}
    world.until_done()
    assert world.states(run_id) == {"a": "failed"}
    assert world.attempt(run_id, "a").outcome == "vanished"


def test_a_list_that_lags_hides_nothing_for_good(make_world: MakeWorld) -> None:
    world = make_world(pipeline(node("a", KEYED)))
    vendor = world.vendors["vendor"]
    vendor.lag_s = 100.0
    vendor.plan.duration_s = lambda _: 300.0
    run_id = world.trigger()
    world.until_done()
    assert world.attempt(run_id, "a").seen_state is ExternalState.SUCCEEDED


def test_a_restart_asks_nothing_and_goes_on_where_it_was(make_world: MakeWorld) -> None:
    vendor = FakeVendor("vendor", KEYED, SimClock())
    world = make_world(pipeline(*(node(f"n{i}", KEYED) for i in range(500))), vendors=(vendor,))
    vendor.plan.duration_s = lambda _: 600.0
    world.trigger()
    world.until(lambda: len(vendor.ledger) == 500)
    world.pass_time(60)
    world.crash()
    vendor.calls.clear()
    world.boot()
    assert not vendor.calls
    world.rest()
    assert not vendor.calls
    world.until_done()
    assert vendor.calls["start"] == 0
