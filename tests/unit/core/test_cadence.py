"""How often to ask: sparse while nothing is expected, dense near the end, never below the vendor's floor."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.cadence import Expected, poll_in_s

_SECONDS = st.floats(0, 10**6)
_EXPECTED = st.none() | st.tuples(_SECONDS, _SECONDS).map(lambda two: Expected(low_s=min(two), high_s=max(two)))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    elapsed_s=st.floats(-10, 10**7),
    floor_s=st.floats(0.1, 600),
    in_flight=st.integers(1, 50_000),
    most_per_s=st.floats(0.1, 1000),
    expected=_EXPECTED,
)
def test_the_interval_respects_the_floor_and_the_crowd_and_is_never_longer_than_they_ask(
    elapsed_s: float, floor_s: float, in_flight: int, most_per_s: float, expected: Expected | None
) -> None:
    interval = poll_in_s(
        elapsed_s=elapsed_s, floor_s=floor_s, in_flight=in_flight, most_per_s=most_per_s, expected=expected
    )
    assert interval >= floor_s
    assert in_flight / interval <= most_per_s * 1.000001
    assert interval <= max(60.0, floor_s, in_flight / most_per_s)


def test_without_history_the_end_is_noticed_late_by_a_twentieth_at_most() -> None:
    elapsed = 0.0
    looks = 0
    while elapsed < 3600:
        interval = poll_in_s(elapsed_s=elapsed, floor_s=1.0)
        assert interval <= max(1.0, elapsed * 0.05, 0.0) + 1e-9
        elapsed += interval
        looks += 1
    assert looks < 160


@pytest.mark.parametrize(("low_s", "high_s"), [(100.0, 120.0), (600.0, 900.0), (20.0, 30.0)])
def test_with_history_looks_grow_denser_towards_the_expected_end(low_s: float, high_s: float) -> None:
    expected = Expected(low_s=low_s, high_s=high_s)
    intervals = [poll_in_s(elapsed_s=n * high_s / 50, floor_s=0.5, expected=expected) for n in range(50)]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == max(high_s * 0.02, 0.5)


def test_history_saves_most_of_the_early_looks() -> None:
    def looks(expected: Expected | None) -> int:
        elapsed = 0.0
        found = 0
        while elapsed < 600:
            elapsed += poll_in_s(elapsed_s=elapsed, floor_s=1.0, expected=expected)
            found += 1
        return found

    assert looks(Expected(low_s=590.0, high_s=620.0)) * 3 < looks(None)


def test_an_overdue_run_is_asked_about_less_and_less() -> None:
    expected = Expected(low_s=90.0, high_s=100.0)
    intervals = [poll_in_s(elapsed_s=seconds, floor_s=1.0, expected=expected) for seconds in (100.0, 200.0, 400.0, 4e4)]
    assert intervals == [5.0, 10.0, 20.0, 60.0]
