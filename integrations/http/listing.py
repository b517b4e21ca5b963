"""Reads a list of runs, page after page, down to an instant; where the end cannot be trusted it says so.

Never counts pages. Used before a start (what was there) and after a lost one (what came).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from conductor.core.keys import digest
from conductor.core.vendor import Json
from conductor.sdk import Http, UnreadableError
from integrations.http.config import Find
from integrations.http.mapping import instant, key_is_in, safe_link
from integrations.http.paths import dig, fill_json, fill_path, same_origin, scalar

__all__ = ["Listed", "Listing", "read_list"]

_FUSE_PAGES = 20_000
"""A list that never ends is a fault of the API; then nothing was learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One run of the list.

    Attributes:
        id: The vendor's id.
        created: When it was made (UTC); None where the list does not say.
        has_key: Our key came back with it.
        link: Its page.
    """

    id: str
    created: datetime | None
    has_key: bool
    link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a list showed.

    Attributes:
        runs: The runs that may concern us, in the list's order.
        unreadable: How many items could not be read; with any, absence proves nothing.
    """

    runs: tuple[Listed, ...]
    unreadable: int


async def read_list(http: Http, find: Find, *, key: str, base_url: str, down_to: datetime | None) -> Listing:
    """Read the list until its end, or, newest first, until a page whose every item is older than `down_to`.

    A whole page and not one item: lists are often sorted by something that is only nearly the creation time.

    Raises:
        IntegrationError: A page could not be read; nothing was learnt.
    """
    runs: dict[str, Listed] = {}
    unreadable = 0
    params = _first_params(find, key, down_to)
    url = f"{base_url}{fill_path(find.path, {'{key}': key})}"
    seen_pages: set[str] = set()
    for page_no in range(_FUSE_PAGES):
        if find.page_param is not None:
            params[find.page_param] = find.page_start + page_no
        answer = (await http.read(find.method, url, params=params, json=fill_json(find.body, {"{key}": key}))).json()
        items = dig(answer, find.items)
        if not isinstance(items, list):
            raise UnreadableError(f"the list holds no items at `{find.items}`; mend find.items", raw=str(answer)[:500])
        listed = [_listed(item, find, key, base_url) for item in items]
        unreadable += listed.count(None)
        fresh = [(run, item) for run, item in zip(listed, items, strict=True) if run and _is_fresh(run, down_to)]
        runs.update((run.id, run) for run, item in fresh if run.id not in runs and _matches(item, find))
        if not items or (find.is_newest_first and not fresh and None not in listed):
            break
        following = _next_page(answer, find, base_url, url, params)
        if following is None:
            break
        mark = digest([run.id if run else None for run in listed]) if find.page_param else following[2]
        if mark in seen_pages:
            raise UnreadableError("the list's pages go round in a circle: absence proves nothing", raw=mark)
        seen_pages.add(mark)
        url, params, _ = following
    else:
        raise UnreadableError("the list does not end", raw=url)
    return Listing(runs=tuple(runs.values()), unreadable=unreadable)


def _first_params(find: Find, key: str, down_to: datetime | None) -> dict[str, str | int]:
    params: dict[str, str | int] = {
        name: value if isinstance(value, int) else value.replace("{key}", key) for name, value in find.params.items()
    }
    if find.since is not None and down_to is not None:
        match find.since.format:
            case "iso":
                params[find.since.param] = down_to.isoformat(timespec="seconds").replace("+00:00", "Z")
            case "epoch_s":
                params[find.since.param] = int(down_to.timestamp())
            case "epoch_ms":
                params[find.since.param] = int(down_to.timestamp()) * 1000
    return params


def _listed(item: Json, find: Find, key: str, base_url: str) -> Listed | None:
    vendor_id = scalar(dig(item, find.id))
    created = instant(dig(item, find.created)) if find.created is not None else None
    if vendor_id is None or (find.created is not None and find.key is None and created is None):
        return None
    return Listed(
        id=vendor_id,
        created=created,
        has_key=find.key is not None and key_is_in(dig(item, find.key), key),
        link=safe_link(dig(item, find.link), base_url) if find.link is not None else None,
    )


def _is_fresh(run: Listed, down_to: datetime | None) -> bool:
    return down_to is None or run.created is None or run.created >= down_to


def _matches(item: Json, find: Find) -> bool:
    return all(scalar(dig(item, path)) == scalar(value) for path, value in find.match.items())


def _next_page(
    answer: Json, find: Find, base_url: str, url: str, params: dict[str, str | int]
) -> tuple[str, dict[str, str | int], str] | None:
    if find.page_param is not None:
        return url, params, str(params[find.page_param])
    cursor = scalar(dig(answer, find.next)) if find.next is not None else None
    if cursor is None or cursor == "false":
        return None
    if find.next_param is not None:
        return url, {**params, find.next_param: cursor}, cursor
    address = same_origin(base_url, url, cursor)
    if address is None:
        raise UnreadableError("the list's next page is on another host, which is never called", raw=cursor)
    return address, {}, address
