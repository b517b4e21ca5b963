"""The request budget holds the vendor's limit in any window; secrets are masked in every form in which they travel."""

from __future__ import annotations

import asyncio
import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor.sdk.limits import RateLimit, TokenBucket
from conductor.sdk.redact import MASK, Redactor
from conductor.sdk.testing import FakeClock


def test_a_burst_goes_at_once_and_the_rest_is_spaced() -> None:
    clock = FakeClock()
    bucket = TokenBucket(RateLimit(requests=10, per_s=1, burst=5), clock)
    times = []
    for _ in range(15):
        asyncio.run(bucket.take())
        times.append(clock.monotonic())
    assert times[4] == 0.0
    assert times[14] == pytest.approx(1.0)


def test_a_retry_after_closes_the_connection_for_everybody() -> None:
    clock = FakeClock()
    bucket = TokenBucket(RateLimit(requests=10, per_s=1, burst=5), clock)
    bucket.close_for(30)
    assert bucket.wait_s() == 30.0
    asyncio.run(bucket.take())
    assert clock.monotonic() == 30.0


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 10), st.integers(1, 20))
def test_no_window_ever_sees_more_than_the_limit_and_the_burst(gaps: list[float], burst: int, rate: int) -> None:
    clock = FakeClock()
    bucket = TokenBucket(RateLimit(requests=rate, per_s=1, burst=burst), clock)
    times = []
    for gap in gaps:
        clock.advance(gap)
        asyncio.run(bucket.take())
        times.append(clock.monotonic())
    for at in times:
        assert sum(1 for other in times if at <= other < at + 1.0 - 1e-6) <= rate + burst


@pytest.mark.parametrize("secret", ["s3cr3t-token", "päss wörd/+=", 'quo"te\\d', "line\nbreak"])
def test_a_secret_is_masked_in_every_form_in_which_it_travels(secret: str) -> None:
    redact = Redactor()
    redact.add(secret)
    forms = [
        secret,
        base64.b64encode(secret.encode()).decode(),
        base64.urlsafe_b64encode(secret.encode()).decode(),
        quote(secret, safe=""),
        json.dumps({"k": secret}),
    ]
    for form in forms:
        masked = redact(f"before {form} after")
        assert secret not in masked
        assert MASK in masked


def test_a_value_too_short_to_be_a_secret_is_left_alone() -> None:
    redact = Redactor()
    redact.add("abc")
    assert redact("abcdef") == "abcdef"
