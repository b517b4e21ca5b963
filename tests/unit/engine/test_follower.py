"""The follower alone, with ten thousand runs: how many requests a round takes, what blindness is, who meets whom."""

from __future__ import annotations

from conductor.core.vendor import ExternalRef
from conductor.engine.follow import Follower

MANY = 10_000


def _follow(follower: Follower, count: int, *, since_s: float = 600.0, connection: str = "c") -> None:
    for i in range(count):
        follower.follow(
            (f"{connection}-{i}", "n"),
            uses="v.job",
            connection=connection,
            batch_size=100,
            floor_s=1.0,
            attempt_no=1,
            ref=ExternalRef(id=f"{connection}-{i}"),
            # They were started over a minute, not at once.
            elapsed_s=since_s + i * 60.0 / count,
            expected=None,
            now_s=0.0,
        )


def _look(follower: Follower, for_s: float, *, error: str | None = None, from_s: float = 0.0) -> list[int]:
    """Take every look that is due; how many runs each request was about."""
    sizes: list[int] = []
    now_s = from_s
    while (due_s := follower.next_due_s()) is not None and due_s <= from_s + for_s:
        now_s = max(due_s, now_s)
        for group, batch in follower.due(now_s):
            sizes.append(len(batch))
            follower.answered(group, batch, now_s, error=error, retry_after_s=None)
    return sizes


def test_ten_thousand_runs_take_a_hundred_requests_a_round() -> None:
    follower = Follower()
    _follow(follower, MANY)
    sizes = _look(follower, 600)
    rounds = sum(sizes) / MANY
    assert rounds > 5
    assert len(sizes) <= rounds * MANY / 100 * 1.1
    assert len(sizes) / 600 < 5


def test_few_runs_that_began_at_different_times_meet() -> None:
    follower = Follower()
    _follow(follower, 50)
    sizes = _look(follower, 600)
    assert sum(sizes) / len(sizes) > 5


def test_blindness_begins_with_the_first_look_that_fails_and_ends_with_the_first_that_does_not() -> None:
    follower = Follower()
    _follow(follower, 10)
    _look(follower, 300, error="HTTP 502")
    (group,) = follower.groups()
    assert group.error == "HTTP 502"
    assert group.blind_since is not None
    assert group.blind_since < 120
    assert len(_look(follower, 3600, error="HTTP 502", from_s=300)) < 3600 / 60 * 10 + 10
    _look(follower, 120, from_s=3900)
    (seeing,) = follower.groups()
    assert seeing.error is None
    assert seeing.blind_since is None
    assert seeing.failures == 0


def test_what_is_forgotten_is_looked_at_no_more() -> None:
    follower = Follower()
    _follow(follower, 10)
    for i in range(10):
        follower.forget((f"c-{i}", "n"))
    assert _look(follower, 600) == []
    assert list(follower.groups()) == []


def test_a_nudge_looks_at_once_and_only_once() -> None:
    follower = Follower()
    _follow(follower, 1)
    follower.nudge(("c-0", "n"), 0.0)
    follower.nudge(("c-0", "n"), 0.0)
    assert [len(batch) for _, batch in follower.due(0.0)] == [1]
    assert follower.due(0.0) == []
