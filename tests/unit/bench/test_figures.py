"""The benchmark's arithmetic: what counts as a duplicate, a loss, a round, a kept promise."""

from __future__ import annotations

from bench.figures import Sample, Target, count_starts, per_hundred_looks, summary, verdicts
from bench.targets import PEERS, TARGETS
from bench.workloads import ENGINE, WORKLOADS, Workload, quick


def _sample(elapsed_s: float, **more: float) -> Sample:
    values: dict[str, object] = {"elapsed_s": elapsed_s, "cpu_s": 1.0, "rss_mb": 50.0, **more}
    return Sample(**values)  # type: ignore[arg-type]


def test_every_surplus_start_is_a_duplicate_and_every_missing_one_a_loss() -> None:
    assert count_starts(["a", "b", "c"], ["a", "a", "a", "b"]) == (2, 1)
    assert count_starts(["a"], ["a"]) == (0, 0)


def test_one_request_for_a_hundred_runs_in_each_round_is_one() -> None:
    assert per_hundred_looks(20, 2000) == 1.0
    assert per_hundred_looks(3, 0) is None


def test_the_median_counts_but_the_worst_of_what_must_never_happen() -> None:
    shape = Workload(name="x", title="", layers=2, width=5, duration_s=1.0)
    samples = [_sample(3.0), _sample(9.0, duplicates=1, reattach_s=4.0), _sample(2.5, reattach_s=1.0)]
    figures = summary(samples, shape)
    assert figures["elapsed_s"] == 3.0
    assert figures["duplicates"] == 1
    assert figures["reattach_s"] == 4.0
    assert figures["over_ideal_s"] == 1.0
    assert figures["hand_off_s"] == 0.5
    assert figures["per_second"] == 10 / 3
    assert figures["waiting_share"] is None


def test_a_ratio_is_judged_against_the_floor_of_the_same_run() -> None:
    target = Target(figure="elapsed_s", words="", at_most=1.5, is_ratio=True)
    assert verdicts([target], {"elapsed_s": 3.0}, {"elapsed_s": 2.0})[0].holds
    assert not verdicts([target], {"elapsed_s": 3.1}, {"elapsed_s": 2.0})[0].holds


def test_what_was_not_measured_does_not_hold() -> None:
    low = Target(figure="lost", words="", at_most=0)
    ratio = Target(figure="elapsed_s", words="", at_most=1.5, is_ratio=True)
    assert not any(verdict.holds for verdict in verdicts([low, ratio], summary([], ENGINE), None))


def test_a_lower_bound_is_a_bound_from_below() -> None:
    target = Target(figure="per_second", words="", at_least=2000)
    assert verdicts([target], {"per_second": 2000.0}, None)[0].holds
    assert not verdicts([target], {"per_second": 1999.0}, None)[0].holds


def test_every_workload_has_targets_and_travels_as_json() -> None:
    for workload in (*WORKLOADS.values(), ENGINE):
        assert TARGETS[workload.name]
        assert Workload.from_json(workload.to_json()) == workload
        assert len(set(workload.job_names())) == workload.runs


def test_a_quick_run_keeps_the_kind_of_work() -> None:
    for workload in WORKLOADS.values():
        small = quick(workload)
        assert small.runs <= 120
        assert (small.kill_at_s is None) == (workload.kill_at_s is None)
        assert small.is_kill_in_transit == workload.is_kill_in_transit


def test_what_is_known_of_others_names_who_where_and_what() -> None:
    assert all(all(peer) for peer in PEERS)
