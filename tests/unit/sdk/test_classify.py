"""The one table from what happened to what it means: complete over every status, and never too sure about a start."""

from __future__ import annotations

import pytest

from conductor.core.errors import AmbiguousError, RefusedError, RejectedError
from conductor.sdk.classify import Failure, Phase, from_failure, from_status, retry_after_s


@pytest.mark.parametrize("code", range(500, 600))
def test_every_server_error_leaves_a_start_ambiguous(code: int) -> None:
    assert isinstance(from_status(Phase.START, code, ""), AmbiguousError)
    assert isinstance(from_status(Phase.READ, code, ""), RefusedError)


@pytest.mark.parametrize("code", [code for code in range(400, 500) if code not in {408, 425, 429}])
def test_every_other_client_error_is_a_definite_no(code: int) -> None:
    assert isinstance(from_status(Phase.START, code, ""), RejectedError)


@pytest.mark.parametrize("code", range(100, 600))
def test_no_status_is_without_a_meaning(code: int) -> None:
    for phase in Phase:
        assert from_status(phase, code, "words").args[0]


def test_a_vendors_own_word_for_nothing_happened_is_believed() -> None:
    assert isinstance(from_status(Phase.START, 503, "", refused_statuses=frozenset({503})), RefusedError)


def test_only_a_connection_that_was_never_made_proves_that_nothing_was_sent() -> None:
    assert isinstance(from_failure(Phase.START, Failure.NOT_CONNECTED, "dns"), RefusedError)
    assert isinstance(from_failure(Phase.START, Failure.LOST, "reset"), AmbiguousError)
    assert isinstance(from_failure(Phase.READ, Failure.LOST, "reset"), RefusedError)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0", 1.0),
        ("-5", 1.0),
        ("1000000000", 3600.0),
        ("nan", None),
        ("inf", 3600.0),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 1.0),
        ("Thu, 32 Jan 1970 00:00:01 GMT", None),
    ],
)
def test_a_retry_after_is_clamped_and_never_believed_blindly(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now_epoch_s=10.0) == seconds
