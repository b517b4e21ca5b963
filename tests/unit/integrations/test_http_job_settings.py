"""What a node declares decides what it promises, and half a declaration is refused with words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from conductor.core.vendor import CancelSupport, Correlation, Delivery, Json
from integrations.http import plugin
from integrations.http.config import Connection, JobSettings
from integrations.http.contract import HARNESSES, base_settings

_FIND: dict[str, Json] = {"path": "/jobs", "items": "jobs", "id": "id", "created": "created_at"}


def _job(**more: Json) -> dict[str, Json]:
    return {**base_settings(), **more}


def _start(**more: Json) -> dict[str, Json]:
    return {"path": "/jobs", "id": "id", **more}


@pytest.mark.parametrize(
    ("more", "correlation", "delivery"),
    [
        ({}, Correlation.NONE, Delivery.AT_MOST_ONCE),
        ({"find": _FIND}, Correlation.WINDOW, Delivery.PREFER_LOOKUP),
        (
            {"find": {**_FIND, "key": "tag"}, "start": _start(json={"tag": "{key}"})},
            Correlation.TAG,
            Delivery.PREFER_LOOKUP,
        ),
        ({"key": {"header": "Idempotency-Key"}, "find": _FIND}, Correlation.KEY, Delivery.EFFECTIVELY_ONCE),
        ({"key": {"json": "meta.key"}}, Correlation.KEY, Delivery.EFFECTIVELY_ONCE),
    ],
)
def test_the_promise_follows_from_the_declarations(
    more: dict[str, Json], correlation: Correlation, delivery: Delivery
) -> None:
    operation = plugin.operations["job"]
    dumped = JobSettings.model_validate(_job(**more)).model_dump(mode="json")
    found = operation.capabilities(dumped)
    assert (found.correlation, found.delivery) == (correlation, delivery)
    assert found.needs_baseline == found.is_exclusive == (correlation is Correlation.WINDOW)
    assert bool(operation.scope(dumped)) == (correlation is Correlation.WINDOW)
    assert found.cancel is CancelSupport.CONFIRMED


def test_limits_come_from_the_settings() -> None:
    batch: Json = {"path": "/b", "params": {"i": "{ids}"}, "items": "$", "id": "id", "state": "s", "max_ids": 1000}
    settings = _job(batch=batch, poll_floor_s=0.05, find={**_FIND, "lag_s": 7}, key={"json": "k", "ttl_s": 90})
    del settings["cancel"]
    found = plugin.operations["job"].capabilities(JobSettings.model_validate(settings).model_dump(mode="json"))
    assert (found.batch_size, found.poll_floor_s, found.settle_window_s, found.key_ttl_s) == (1000, 0.05, 7, 90)
    assert found.cancel is CancelSupport.NONE


def test_nodes_that_read_one_list_share_its_scope() -> None:
    scope = plugin.operations["job"].scope
    first = scope(_job(find=_FIND))
    assert first == scope(_job(find={**_FIND, "lag_s": 5}, start=_start(json={"other": 1})))
    assert first != scope(_job(find={**_FIND, "params": {"team": "a"}}))
    assert scope(_job(find=_FIND, scope="shared")) == "shared"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"poll": None}, "say how the run is followed"),
        ({"start": {"path": "/jobs"}}, "start.id is missing"),
        ({"start": _start(is_final=True)}, "nothing to follow"),
        ({"states": {"error": "failed"}}, "no word means succeeded"),
        ({"states": {"done": "vanished"}}, "Input should be"),
        ({"poll": {"path": "/jobs", "state": "state"}}, "`{id}` must stand"),
        ({"poll": {"path": "/jobs/{ids}", "state": "state"}}, "`{id}` must stand"),
        ({"cancel": {"path": "/cancel"}}, "`{id}` must stand"),
        ({"start": _start(path="/jobs/{id}")}, "only `{key}` can stand here"),
        ({"key": {"header": "A", "json": "b"}}, "exactly one of"),
        ({"key": {}}, "exactly one of"),
        ({"key": {"in_path": True}}, "holds no `{key}`"),
        ({"key": {"json": "name.key"}}, "must be a mapping"),
        ({"find": {"path": "/jobs", "items": "jobs", "id": "id"}}, "give `key`"),
        ({"find": {**_FIND, "key": "tag"}}, "our key is nowhere in the start"),
        ({"find": {**_FIND, "next": "next", "page_param": "page"}}, "not both"),
        (
            {"find": {**_FIND, "created": None, "key": "tag", "next": "n"}, "start": _start(json={"tag": "{key}"})},
            "all of history",
        ),
        ({"already_exists": {}}, "needs `key`"),
        ({"start": _start(id="{key}")}, "does not carry it"),
        ({"start": _start(headers={"Authorization": "x"})}, "credentials belong to the connection"),
        ({"start": _start(path="https://elsewhere.test/jobs")}, "below the connection's base_url"),
        ({"poll": {"path": "/jobs/{id}", "state": "s", "outputs": {"id": "x"}}}, "choose another name"),
        ({"no_such_setting": 1}, "Extra inputs"),
    ],
)
def test_half_a_declaration_is_refused_with_words(more: dict[str, Json], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        JobSettings.model_validate({name: value for name, value in _job(**more).items() if value is not None})


def test_words_of_yaml_that_are_no_text_become_text() -> None:
    settings = JobSettings.model_validate(_job(states={True: "succeeded", 3: "failed"}))
    assert settings.states == {"true": "succeeded", "3": "failed"}


@pytest.mark.parametrize("name", sorted(HARNESSES))
def test_dumped_settings_validate_to_the_same(name: str, tmp_path: object) -> None:
    from pathlib import Path

    dumped = dict(HARNESSES[name](Path(str(tmp_path))).settings)
    assert JobSettings.model_validate(dumped).model_dump(mode="json") == dumped
    by_alias = JobSettings.model_validate(dumped).model_dump(mode="json", by_alias=True)
    assert JobSettings.model_validate(by_alias).model_dump(mode="json") == dumped


def test_a_wrong_connection_does_not_show_its_secrets() -> None:
    with pytest.raises(ValidationError) as caught:
        Connection.model_validate({"base_url": "https://u:hunter22@h", "bearer": "tok-5521", "user": "u"})
    assert "hunter22" not in str(caught.value)
    assert "tok-5521" not in str(caught.value)


@pytest.mark.parametrize("more", [{"bearer": "tok\r\nX: y"}, {"headers": {"X Y": "v"}}, {"headers": {"X": "ü"}}])
def test_a_connection_cannot_split_headers(more: dict[str, Json]) -> None:
    with pytest.raises(ValidationError):
        Connection.model_validate({"base_url": "https://h", **more})


def test_a_connection_signs_in_one_way() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Connection.model_validate({"base_url": "https://h", "bearer": "t", "user": "u", "password": "p"})
    with pytest.raises(ValidationError, match="both or neither"):
        Connection.model_validate({"base_url": "https://h", "user": "u"})
