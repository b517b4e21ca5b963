"""Keys are stable, readable and never shared by two attempts."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from conductor.core.keys import attempt_key, canonical, digest, jitter, run_id

_NODE_IDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
_RUN_IDS = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
_ATTEMPTS = st.tuples(_RUN_IDS, _NODE_IDS, st.integers(1, 10**6))


@given(_ATTEMPTS)
def test_a_key_fits_every_vendor_and_holds_the_attempt_number(attempt: tuple[str, str, int]) -> None:
    run, node, no = attempt
    key = attempt_key(run=run, node=node, attempt_no=no)
    assert re.fullmatch(r"cnd-[a-z0-9]([a-z0-9-]*[a-z0-9])?", key)
    assert len(key) <= 52
    assert key.endswith(f"-{no}")


@given(_ATTEMPTS, _ATTEMPTS)
def test_two_attempts_never_share_a_key(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    keys = {attempt_key(run=run, node=node, attempt_no=no) for run, node, no in (one, other)}
    assert len(keys) == len({one, other})


def test_node_ids_that_look_alike_once_shortened_keep_their_own_keys() -> None:
    ids = ["a_b", "a-b", "a--b", "a" * 62, "a" * 63, "-" * 3, "_"]
    keys = [attempt_key(run="r", node=node, attempt_no=no) for node in ids for no in range(1, 12)]
    assert len(set(keys)) == len(keys)


def test_keys_are_the_same_in_every_version() -> None:
    assert run_id(install="i", pipeline="p", identity="2026-03-01T00:00:00Z") == "2a78a9dd416b3a64"
    assert (
        attempt_key(run="0123456789abcdef", node="load_orders", attempt_no=2)
        == "cnd-load-orders-38aed85831959e05e950-2"
    )
    assert digest({"b": 1, "a": [True, None]}) == "51705a2c9eb3e7e410a58f696a770c3ac3885a0cf43eb7fc88f5e47c11d4d30d"
    assert canonical({"b": 1, "a": "é"}) == '{"a":"\\u00e9","b":1}'


def test_the_same_slot_gives_the_same_run_and_another_pipeline_another() -> None:
    ids = {
        run_id(install=install, pipeline=pipeline, identity=identity)
        for install in ("i", "j")
        for pipeline in ("p", "q")
        for identity in ("2026-03-01", "2026-03-02")
    }
    assert len(ids) == 8
    assert run_id(install="i", pipeline="p", identity="2026-03-01") in ids


@given(st.text(max_size=60), st.integers(0, 10**6))
def test_jitter_is_a_fraction_that_depends_on_its_arguments_alone(key: str, n: int) -> None:
    assert 0 <= jitter(key, n) < 1
    assert jitter(key, n) == jitter(key, n)


def test_jitter_spreads() -> None:
    spread = [jitter(f"key-{n}", 1) for n in range(400)]
    assert min(spread) < 0.05
    assert max(spread) > 0.95
    assert 0.4 < sum(spread) / len(spread) < 0.6
