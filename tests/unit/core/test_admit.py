"""Who may start: best first, never above a limit, and what is blocked does not hold back what is not."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from conductor.core.admit import Limits, Usage, Want, admit


def _want(id: object, **changes: object) -> Want:  # noqa: A002
    given_: dict[str, object] = {"connection": "c"}
    return Want(id=id, **(given_ | changes))  # type: ignore[arg-type]


def _ids(wants: list[Want], limits: Limits, usage: Usage | None = None) -> list[object]:
    return [want.id for want in admit(wants, limits, usage or Usage())]


def test_without_limits_everything_goes_best_first() -> None:
    wants = [
        _want("low", priority=-1),
        _want("late", order=(2,)),
        _want("early", order=(1,)),
        _want("high", priority=9),
    ]
    assert _ids(wants, Limits()) == ["high", "early", "late", "low"]


def test_a_connection_lets_in_as_many_as_it_has_room_for() -> None:
    usage = Usage()
    usage.add("c", "", ())
    wants = [_want(n, order=(n,)) for n in range(4)]
    assert _ids(wants, Limits(connections={"c": 3}), usage) == [0, 1]


def test_a_full_pool_does_not_hold_back_those_who_need_none() -> None:
    wants = [_want("a", pools=("p",), order=(1,)), _want("b", pools=("p",), order=(2,)), _want("c", order=(3,))]
    assert _ids(wants, Limits(pools={"p": 1})) == ["a", "c"]


def test_a_want_needs_a_slot_in_every_one_of_its_pools() -> None:
    usage = Usage()
    usage.add("other", "", ("q",))
    assert _ids([_want("a", pools=("p", "q"))], Limits(pools={"p": 5, "q": 1}), usage) == []


def test_a_pool_named_twice_takes_one_slot() -> None:
    usage = Usage()
    assert _ids([_want("a", pools=("p", "p"))], Limits(pools={"p": 2}), usage) == ["a"]
    assert _ids([_want("b", pools=("p",))], Limits(pools={"p": 2}), usage) == ["b"]


def test_two_starts_on_one_object_never_go_together() -> None:
    wants = [_want("a", scope="s", order=(1,)), _want("b", scope="s", order=(2,)), _want("c", scope="t", order=(3,))]
    assert _ids(wants, Limits()) == ["a", "c"]


def test_the_same_object_name_at_another_connection_is_another_object() -> None:
    assert _ids([_want("a", scope="s"), _want("b", scope="s", connection="d")], Limits()) == ["a", "b"]


def test_who_holds_a_slot_already_goes_and_is_not_counted_again() -> None:
    usage = Usage()
    usage.add("c", "s", ("p",))
    limits = Limits(connections={"c": 1}, pools={"p": 1})
    wants = [_want("mine", scope="s", pools=("p",), has_slot=True), _want("other")]
    assert _ids(wants, limits, usage) == ["mine"]


def test_nothing_starts_on_a_stopped_connection_not_even_with_a_slot() -> None:
    limits = Limits(closed=frozenset({"c"}))
    assert _ids([_want("a"), _want("b", has_slot=True), _want("d", connection="d")], limits) == ["d"]


def test_the_blocker_is_named() -> None:
    usage = Usage()
    usage.add("c", "s", ("p",))
    assert usage.blocker(_want("a"), Limits(connections={"c": 1})) == "connection c is full (1 at once)"
    assert usage.blocker(_want("a", pools=("p",)), Limits(pools={"p": 1})) == "pool p is full (1 at once)"
    assert usage.blocker(_want("a", scope="s"), Limits()) == "another start on s is not over yet"
    assert "credentials" in str(usage.blocker(_want("a"), Limits(closed=frozenset({"c"}))))
    usage.add("c", "s", ("p",), -1)
    assert usage.blocker(_want("a", scope="s", pools=("p",)), Limits(connections={"c": 1}, pools={"p": 1})) is None


_NAMES = st.sampled_from(["a", "b", "c"])
_WANTS = st.lists(
    st.builds(
        Want,
        id=st.integers(),
        connection=_NAMES,
        scope=st.sampled_from(["", "s", "t"]),
        pools=st.lists(_NAMES, max_size=3).map(tuple),
        priority=st.integers(-2, 2),
        order=st.tuples(st.integers(0, 5)),
    ),
    max_size=25,
)
_SLOTS = st.dictionaries(_NAMES, st.integers(0, 4))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(wants=_WANTS, held=_WANTS, connections=_SLOTS, pools=_SLOTS)
def test_no_limit_is_ever_passed_and_no_free_slot_is_left_to_one_who_could_go(
    wants: list[Want], held: list[Want], connections: dict[str, int], pools: dict[str, int]
) -> None:
    limits = Limits(connections=connections, pools=pools)
    usage = Usage()
    inside = admit(held, limits, usage)
    going = admit(wants, limits, usage)
    inside += going
    by_connection = Counter(want.connection for want in inside)
    by_pool = Counter(pool for want in inside for pool in set(want.pools))
    by_scope = Counter((want.connection, want.scope) for want in inside if want.scope)
    assert all(by_connection[name] <= most for name, most in connections.items())
    assert all(by_pool[name] <= slots for name, slots in pools.items())
    assert all(n == 1 for n in by_scope.values())
    left = [want for want in wants if not any(want is other for other in going)]
    assert all(usage.blocker(want, limits) is not None for want in left)
    ranks = [(-want.priority, want.order) for want in going]
    assert ranks == sorted(ranks)
