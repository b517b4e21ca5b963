"""Deterministic identities and jitter: the same facts give the same key after any crash, on any replica."""

from __future__ import annotations

import hashlib
import json
import re

__all__ = ["attempt_key", "canonical", "digest", "jitter", "run_id"]

_MAX_KEY = 52
_SLUG = re.compile(r"[^a-z0-9]+")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """A hash of `canonical(value)`, 64 hexadecimal characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def run_id(*, install: str, pipeline: str, identity: str) -> str:
    """The id of a run: the same (pipeline, slot) gives the same id even after the database lost it.

    Args:
        install: The installation's id.
        pipeline: The pipeline's name.
        identity: The slot in UTC for a scheduled run; a nonce for a manual one.
    """
    return _hash(install, pipeline, identity)[:16]


def attempt_key(*, run: str, node: str, attempt_no: int) -> str:
    """The key of one attempt: at most 52 characters of `[a-z0-9-]`, holds the attempt number, injective by hash.

    Reads `cnd-<node>-<hash>-<attempt>`, the node shortened so that people recognise it at the vendor.
    """
    mark = _hash(run, node, str(attempt_no))[:20]
    tail = f"-{mark}-{attempt_no}"
    slug = _SLUG.sub("-", node.lower()).strip("-")[: _MAX_KEY - 4 - len(tail)].strip("-") or "n"
    return f"cnd-{slug}{tail}"


def jitter(key: str, n: int) -> float:
    """A number in [0, 1) that depends on `key` and `n` alone."""
    return int.from_bytes(hashlib.sha256(f"{key}#{n}".encode()).digest()[:8], "big") / 2**64


def _hash(*parts: str) -> str:
    text = "\x1f".join(parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
