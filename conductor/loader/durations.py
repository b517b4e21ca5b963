"""Durations as people write them: `90s`, `45m`, `1h30m`, `1d`. Pure."""

from __future__ import annotations

import re

__all__ = ["PATTERN", "format_duration", "parse_duration"]

PATTERN = r"^(?=.)(?:[0-9]{1,5}d)?(?:[0-9]{1,6}h)?(?:[0-9]{1,7}m)?(?:[0-9]{1,8}s)?$"
_UNITS_S = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_MOST_S = 365 * 86_400


def parse_duration(text: object) -> float:
    """Seconds.

    Raises:
        ValueError: With a message for the user: not a duration, or more than 365 days.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(  # noqa: TRY004 - the user's value is wrong, not the caller's type
            f"{text} has no unit: write `{format_duration(text)}` for seconds or `{text:g}m` for minutes"
        )
    if not isinstance(text, str):
        raise ValueError("expected a duration such as `45m`")  # noqa: TRY004 - as above
    if text[:1] in {"P", "p"} and (again := _iso(text)) is not None:
        raise ValueError(f"ISO 8601 durations are not accepted: write `{format_duration(again)}`")
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"`{text[:40]}` is not a duration: write it like `90s`, `45m`, `1h30m` or `1d`")
    seconds = sum(int(part[:-1]) * _UNITS_S[part[-1]] for part in re.findall(r"[0-9]+[dhms]", text))
    if seconds > _MOST_S:
        raise ValueError(f"`{text}` is more than 365 days")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The shortest way to write it, rounded to whole seconds."""
    left, text = max(0, round(seconds)), ""
    for unit, size in _UNITS_S.items():
        if left >= size:
            text += f"{left // size}{unit}"
            left %= size
    return text or "0s"


def _iso(text: str) -> float | None:
    match = re.fullmatch(
        r"P(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,8})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9})S)?)?",
        text.upper(),
    )
    if match is None:
        return None
    sizes = (604_800, 86_400, 3600, 60, 1)
    return float(sum(int(count) * size for count, size in zip(match.groups("0"), sizes, strict=True)))
