"""The three small grammars of user text in an HTTP node: dotted paths, URL paths and placeholders.

Nothing is evaluated. A dotted path only walks dictionaries and lists. A URL path stays on the connection's host and
below its base address. A placeholder is one of three known words that is replaced as text.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote, urljoin, urlsplit

from conductor.core.vendor import Json

__all__ = [
    "base_url",
    "dig",
    "dotted_path",
    "fill",
    "fill_json",
    "fill_path",
    "header_name",
    "header_value",
    "place",
    "same_origin",
    "scalar",
    "tokens_in",
    "url_path",
]

ROOT = "$"
_LONGEST = 300
_TOKEN = re.compile(r"\{(?:id|ids|key)\}")
_BRACES = re.compile(r"[{}]")
_STEP = re.compile(r"[^\s.{}]+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    {"authorization", "connection", "content-length", "cookie", "host", "transfer-encoding", "te", "upgrade"}
)
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata.goog", "instance-data"})


def dotted_path(text: str) -> str:
    """`text` when it is a dotted path such as `data.items.0.id`, or `$` for the whole answer.

    Raises:
        ValueError: It is not one.
    """
    steps = text.split(".")
    if text != ROOT and (len(text) > _LONGEST or not all(_STEP.fullmatch(step) for step in steps)):
        raise ValueError(f"{text[:60]!r} is not a dotted path: write names and list indexes like `data.items.0.id`")
    return text


@lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[str, ...]:
    return () if path == ROOT else tuple(path.split("."))


def dig(value: Json, path: str) -> Json:
    """What lies at `path` in `value`; None where nothing does."""
    for step in _steps(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list):
            if not (step.isascii() and step.isdigit()) or int(step) >= len(value):
                return None
            value = value[int(step)]
        else:
            return None
    return value


def scalar(value: Json) -> str | None:
    """A text, whole number or truth value as text, as a vendor would print it; None for anything else or nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value or None
    return None


def place(body: Json, path: str, value: Json) -> Json:
    """A copy of `body` with `value` at `path`; dictionaries on the way are made where they are missing.

    Raises:
        ValueError: Something on the way is not a dictionary.
    """
    steps = _steps(path)
    if not steps or not isinstance(body, dict | None):
        raise ValueError(f"`{path}` cannot be set: start.json must be a mapping")
    copy: dict[str, Json] = dict(body or {})
    if len(steps) == 1:
        copy[steps[0]] = value
    else:
        copy[steps[0]] = place(copy.get(steps[0]), ".".join(steps[1:]), value)
    return copy


def tokens_in(value: Json) -> frozenset[str]:
    """The placeholders that occur anywhere in a JSON value's texts."""
    if isinstance(value, str):
        return frozenset(_TOKEN.findall(value))
    if isinstance(value, Mapping):
        return frozenset[str]().union(*(tokens_in(item) for item in value.values()))
    if isinstance(value, list):
        return frozenset[str]().union(*(tokens_in(item) for item in value))
    return frozenset()


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the placeholders in `values` replaced, as text."""
    if "{" not in text:
        return text
    return _TOKEN.sub(lambda found: values.get(found.group(), found.group()), text)


def fill_path(path: str, values: Mapping[str, str]) -> str:
    """`path` with the placeholders in `values` replaced, each value quoted so that it stays one path segment."""
    return fill(path, {token: quote(value, safe=",") for token, value in values.items()})


def fill_json(value: Json, values: Mapping[str, str], lists: Mapping[str, list[Json]] | None = None) -> Json:
    """A copy of `value` with placeholders replaced; a text that is exactly a name in `lists` becomes that list."""
    if isinstance(value, str):
        if lists is not None and value in lists:
            return lists[value]
        return fill(value, values)
    if isinstance(value, Mapping):
        return {name: fill_json(item, values, lists) for name, item in value.items()}
    if isinstance(value, list):
        return [fill_json(item, values, lists) for item in value]
    return value


def url_path(text: str) -> str:
    """`text` when it is a path below the connection's address, such as `/jobs/{id}`.

    Raises:
        ValueError: It names another host, climbs out by `..`, holds a query, or an unknown placeholder.
    """
    if not text.startswith("/") or text.startswith("//"):
        raise ValueError(f"{text[:60]!r} must be a path below the connection's base_url and start with a single `/`")
    if len(text) > 2000 or not text.isprintable() or any(sign in text for sign in "\\?# "):
        raise ValueError(f"{text[:60]!r} must be a plain path: put a query into `params`")
    if _BRACES.search(_TOKEN.sub("", text)):
        raise ValueError(f"{text[:60]!r} holds an unknown placeholder: only {{id}}, {{ids}} and {{key}} exist")
    plain = text
    for _ in range(3):
        plain = unquote(plain)
        if "//" in plain or "\\" in plain or not {".", ".."}.isdisjoint(plain.split("/")):
            raise ValueError(f"{text[:60]!r} must not hold `..`, `.` or empty segments")
    return text


def header_name(text: str) -> str:
    """`text` when it is a header that a node may set.

    Raises:
        ValueError: It is not a header name, or one that the connection or the HTTP client owns.
    """
    if not _HEADER.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a header name")
    if text.lower() in _OURS:
        raise ValueError(f"{text!r} cannot be set by a node: credentials belong to the connection")
    return text


def header_value(text: str) -> str:
    """`text` when it can stand in a header: printable ASCII, no line breaks.

    Raises:
        ValueError: It cannot.
    """
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a header's value must be printable ASCII without line breaks")
    return text


def base_url(text: str) -> str:
    """`text` as an address under which paths can be put, without a trailing slash.

    Raises:
        ValueError: It is no http(s) address, holds credentials or a query, or is a link-local or metadata address.
    """
    parts = urlsplit(text.strip())
    try:
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not text.isprintable() or " " in text.strip():
        raise ValueError(f"{text[:80]!r} is not an address: write https://host or https://host/prefix")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold a user or password: use `user` and `password`")
    if parts.query or parts.fragment:
        raise ValueError("base_url must not hold a query or a fragment")
    if _is_forbidden_host(parts.hostname or ""):
        raise ValueError(f"{parts.hostname!r} is a link-local or cloud metadata address and is never called")
    return text.strip().rstrip("/")


def _is_forbidden_host(host: str) -> bool:
    if host.lower().rstrip(".") in _METADATA_HOSTS:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:  # Old forms of IPv4 such as 0xA9FEA9FE or 2852039166, which resolvers still take.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    if isinstance(address, ipaddress.IPv6Address):
        if address == ipaddress.IPv6Address("fd00:ec2::254"):
            return True
        address = address.ipv4_mapped or address.sixtofour or address
    return address.is_link_local or address.is_multicast or address.is_unspecified


def same_origin(base: str, current: str, target: str) -> str | None:
    """The absolute address that `target` means on the page `current`; None when it leaves the origin of `base`."""
    if not target.isprintable() or "\\" in target:
        return None
    try:
        address = urljoin(current, target)
        there, here = urlsplit(address), urlsplit(base)
        is_same = (there.scheme, there.hostname, there.port) == (here.scheme, here.hostname, here.port)
    except ValueError:
        return None
    return address if is_same and there.username is None else None
