"""Pure: what a node's declared paths read from an API's answers, in our words. No I/O, no clock.

The API's shape is the user's statement, so nothing here is taken on trust: what does not fit is unreadable or unseen,
and never a success.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from conductor.core.keys import canonical, digest
from conductor.core.vendor import ExternalRef, ExternalState, Json, Observation
from conductor.sdk import ErrorClass, ErrorInfo, Request, UnreadableError
from integrations.http.config import KEY, Batch, Follow, JobSettings, Reading
from integrations.http.paths import dig, fill_path, scalar

__all__ = [
    "by_id",
    "end_of",
    "ended_at_start",
    "follow_of",
    "instant",
    "key_is_in",
    "observe",
    "plain",
    "ref_for",
    "run_id",
    "safe_link",
    "scope_of",
    "vanished",
]

_LONGEST_ID = 500
_LONGEST_WORD = 200
_LONGEST_OUTPUT = 16_000
_LONGEST_MESSAGE = 4_000
_MILLISECONDS_FROM = 100_000_000_000  # As seconds that is the year 5138.
_HTTP = ("http://", "https://")

Clean = Callable[[str], str]


def plain(text: str) -> str:
    """`text` without what no database keeps: lone surrogates and NUL."""
    return text.encode("utf-8", errors="replace").decode().replace("\x00", "?")


def run_id(value: Json, path: str | None, key: str) -> str | None:
    """The run's id: what lies at `path`, or our key where the path says so; None where there is none to use."""
    if path is None or path == KEY:
        return key
    found = scalar(dig(value, path))
    if found is None or isinstance(dig(value, path), bool) or len(found) > _LONGEST_ID:
        return None
    return found if found.isprintable() and found.strip() and found not in {".", ".."} else None


def ref_for(settings: JobSettings, vendor_id: str, *, at: datetime, link: str | None = None) -> ExternalRef:
    """The handle on one run. It holds all that following needs, so that a restart or a changed node loses nothing.

    The id is the run's address below base_url, because ids of two resources of one API may be equal.
    """
    resource = (settings.poll or settings.batch or settings.start).path
    kept = settings.model_dump(mode="json", include=set(Follow.model_fields), exclude_defaults=True)
    return ExternalRef(
        id=_address(resource, vendor_id),
        data={"id": vendor_id, "at": at.isoformat(), "spec": kept, "digest": digest(kept)[:24]},
        link=link,
    )


def _address(resource: str, vendor_id: str) -> str:
    path = resource.lstrip("/")
    return fill_path(path, {"{id}": vendor_id}) if "{id}" in path else f"{path}#{vendor_id}"


def follow_of(ref: ExternalRef, known: dict[str, Follow]) -> Follow:
    """How to follow `ref`; parsed once per distinct node and kept in `known`, because ten thousand refs share a few.

    Raises:
        UnreadableError: The ref holds nothing readable.
    """
    name = str(ref.data.get("digest", ""))
    follow = known.get(name)
    if follow is None:
        try:
            follow = Follow.model_validate(ref.data.get("spec"))
        except ValueError as error:
            raise UnreadableError(
                f"run {ref.id}: its kept settings cannot be read; cancel the node and run it again", raw=str(error)
            ) from error
        if len(known) >= 1000:
            known.clear()
        known[name] = follow
    return follow


def observe(
    value: Json,
    reading: Reading,
    follow: Follow,
    *,
    vendor_id: str,
    clean: Clean,
    base_url: str,
) -> Observation | None:
    """One run as an answer shows it; None when the answer holds no state word.

    Args:
        value: The answer, or one item of a list.
        reading: Where the parts lie.
        follow: The node's words.
        vendor_id: The vendor's id of the run.
        clean: Removes secrets from text.
        base_url: The connection's address, for links without a host.
    """
    word = scalar(dig(value, reading.state)) if reading.state is not None else None
    if word is None:
        return None
    word = clean(word[:_LONGEST_WORD])
    state = follow.state_of(word)
    progress = _progress(value, reading)
    message = _text(value, reading.message, clean)
    if not state.is_final:
        marker = "" if reading.progress is None else f"{word} {progress}"
        return Observation(state=state, word=word, message=message, progress=progress, marker=marker)
    outputs, left_out = _outputs(value, reading, clean)
    if left_out:
        message = f"{message + '; ' if message else ''}outputs left out (too long or no JSON): {', '.join(left_out)}"
    return Observation(
        state=state,
        word=word,
        message=message,
        progress=progress,
        outputs={"id": vendor_id, "state": word, **outputs},
        error=_error(state, word, message, safe_link(dig(value, reading.link), base_url) if reading.link else None),
    )


def _error(state: ExternalState, word: str, message: str | None, link: str | None) -> ErrorInfo | None:
    if state is ExternalState.SUCCEEDED or (state is ExternalState.WARNED and not message):
        return None
    words = message or f"the API says {word!r} and gives no reason"
    return ErrorInfo(error_class=ErrorClass.UNKNOWN, message=words, code=word, link=link)


def _progress(value: Json, reading: Reading) -> float | None:
    found = dig(value, reading.progress) if reading.progress is not None else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    share = min(max(found, 0), reading.progress_max) / reading.progress_max
    return share if math.isfinite(share) else None


def _text(value: Json, path: str | None, clean: Clean) -> str | None:
    found = dig(value, path) if path is not None else None
    if found is None:
        return None
    text = found if isinstance(found, str) else (_json_text(found) or "")
    return clean(text)[:_LONGEST_MESSAGE].strip() or None


def _json_text(value: Json) -> str | None:
    try:
        return canonical(value)
    except ValueError:  # A number beyond all bounds, such as 1e999.
        return None


def _outputs(value: Json, reading: Reading, clean: Clean) -> tuple[dict[str, Json], list[str]]:
    kept: dict[str, Json] = {}
    left_out: list[str] = []
    for name, path in reading.outputs.items():
        found = dig(value, path)
        text = _json_text(found)
        if text is None or len(text) > _LONGEST_OUTPUT:
            left_out.append(name)
            found = None
        kept[name] = _cleaned(found, clean)
    return kept, left_out


def _cleaned(value: Json, clean: Clean) -> Json:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(item, clean) for name, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item, clean) for item in value]
    return value


def by_id(answer: Json, batch: Batch, wanted: Iterable[str]) -> Mapping[str, Json]:
    """The items of a list answer that are about `wanted` ids.

    Raises:
        UnreadableError: There is no list, or items are there and not one of them has an id.
    """
    items = dig(answer, batch.items)
    if not isinstance(items, list):
        raise UnreadableError(f"the answer holds no list at `{batch.items}`; mend batch.items", raw=str(answer)[:500])
    found: dict[str, Json] = {}
    for item in items:
        vendor_id = scalar(dig(item, batch.id))
        if vendor_id is not None:
            found[vendor_id] = item
    if items and not found:
        raise UnreadableError(f"no run in the answer has an id at `{batch.id}`; mend batch.id", raw=str(items[0])[:500])
    return {vendor_id: found[vendor_id] for vendor_id in wanted if vendor_id in found}


def vanished(ref: ExternalRef, follow: Follow, now: datetime) -> Observation | None:
    """What a run that the API does not show means: nothing within the grace after its start, vanished later."""
    started = instant(ref.data.get("at"))
    if started is not None and now - started < timedelta(seconds=follow.not_found_grace_s):
        return None
    return Observation(
        state=ExternalState.VANISHED,
        word="not found",
        message="the API no longer knows this run",
        error=ErrorInfo(
            error_class=ErrorClass.UNKNOWN,
            message=f"run {ref.data.get('id', ref.id)} is not found any more: how it ended cannot be learnt; "
            "look for it in the tool before running the node again",
            code="not_found",
        ),
    )


def ended_at_start(ref: ExternalRef, clean: Clean) -> Observation | None:
    """What the answer to the start already said of the end; None for a run that has to be polled."""
    end = ref.data.get("end")
    if not isinstance(end, dict):
        return None
    word = str(end.get("word", ""))
    message = end.get("message")
    outputs = end.get("outputs")
    state = ExternalState(str(end.get("state", "unrecognised")))
    if not state.is_final and state is not ExternalState.UNRECOGNISED:
        state = ExternalState.VANISHED
        message = f"the start answered {word!r}, which is no end, and the node declares neither `poll` nor `batch`"
    text = clean(message) if isinstance(message, str) else None
    return Observation(
        state=state,
        word=word,
        message=text,
        outputs=outputs if isinstance(outputs, dict) else {},
        error=_error(state, word, text, ref.link),
    )


def safe_link(value: Json, base_url: str) -> str | None:
    """`value` as a page that people may open: http(s) only; a path becomes an address on the connection's host."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
        return None
    if value.startswith(_HTTP):
        return value
    if value.startswith("/") and not value.startswith(("//", "/\\")):
        here = urlsplit(base_url)
        return f"{here.scheme}://{here.netloc}{value}"
    return None


def instant(value: Json) -> datetime | None:
    """A time as APIs write it, in UTC: ISO 8601 (UTC where it names no zone), epoch seconds or milliseconds."""
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value / 1000 if abs(value) >= _MILLISECONDS_FROM else value, tz=UTC)
        if isinstance(value, str):
            if value.isascii() and value.isdigit():
                return instant(int(value[:20]))
            found = datetime.fromisoformat(value.strip())
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def key_is_in(text: Json, key: str) -> bool:
    """True when `key` stands in `text` as a whole word: part of a longer key is somebody else's run."""
    if not isinstance(text, str):
        return False
    at = text.find(key)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(key) : at + len(key) + 1]
        if not _is_key_sign(before) and not _is_key_sign(after):
            return True
        at = text.find(key, at + 1)
    return False


def _is_key_sign(sign: str) -> bool:
    return sign in {"-", "_"} or sign.isalnum()


def scope_of(settings: JobSettings) -> str:
    """The place in which runs are told apart by time alone: the list that `find` reads."""
    if settings.scope or settings.find is None:
        return settings.scope
    return digest([settings.find.path, dict(settings.find.params)])[:16]


def end_of(
    settings: JobSettings, answer: Json, request: Request, *, clean: Clean, base_url: str
) -> dict[str, Json] | None:
    """What the answer to a start says of the end, as kept in the ref; None when the run has to be polled.

    Raises:
        UnreadableError: The node declares that the start answers a state, and it does not.
    """
    start = settings.start
    if start.is_final:
        outputs, _ = _outputs(answer, start, clean)
        named: dict[str, Json] = {"id": run_id(answer, start.id, request.key) or request.key, "state": "answered"}
        message = _text(answer, start.message, clean)
        return {"state": "succeeded", "word": "answered", "message": message, "outputs": {**named, **outputs}}
    if start.state is None:
        return None
    vendor_id = run_id(answer, start.id, request.key) or request.key
    seen = observe(answer, start, settings, vendor_id=vendor_id, clean=clean, base_url=base_url)
    is_followed = settings.poll is not None or settings.batch is not None
    if is_followed and (seen is None or not seen.state.is_final):
        return None
    if seen is None:
        raise UnreadableError(f"the answer holds no state at `{start.state}`; mend start.state", raw=str(answer)[:500])
    return {"state": seen.state.value, "word": seen.word, "message": seen.message, "outputs": dict(seen.outputs)}
