"""Reads the capped log of a supervised child: segments named by the offset of their first byte, of which old ones go.

Offsets count all the command ever wrote, so that a reader's place survives dropped segments. It must not write, and
knows nothing of secrets: `Children` masks what this answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conductor.core.errors import UnreadableError

__all__ = ["LogChunk", "log_end", "read_chunk", "read_tail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A piece of a child's output.

    Attributes:
        text: Whole lines only, unless one is longer than was asked for.
        next_offset: Where to read on.
        is_gap: Output between the asked offset and this text was dropped by the log's cap.
    """

    text: str
    next_offset: int
    is_gap: bool = False


def log_end(directory: Path) -> int:
    """How many bytes were written in all. Raises UnreadableError."""
    starts = _segments(directory)
    if not starts:
        return 0
    try:
        return starts[-1] + (directory / f"log.{starts[-1]}").stat().st_size
    except OSError:
        return starts[-1]


def read_chunk(directory: Path, offset: int, max_bytes: int) -> LogChunk:
    """Whole lines from `offset` on, at most `max_bytes`. Raises UnreadableError."""
    starts = _segments(directory)
    if not starts:
        return LogChunk(text="", next_offset=offset)
    begin = max(offset, starts[0])
    data = bytearray()
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        at = begin + len(data)
        if end is not None and end <= at:
            continue
        try:
            data += _read(directory / f"log.{start}", at - start, max_bytes - len(data))
        except FileNotFoundError:
            if not data:
                begin = end or begin  # dropped while we read
                continue
            break
        if len(data) >= max_bytes:
            break
    cut = bytes(data).rfind(b"\n") + 1
    if cut == 0 and len(data) >= max_bytes:
        cut = len(data)
    text = data[:cut].decode("utf-8", errors="replace")
    return LogChunk(text=text, next_offset=begin + cut, is_gap=begin > offset)


def read_tail(directory: Path, max_bytes: int) -> tuple[bytes, bool]:
    """The last `max_bytes` of output, and whether there was more before them. Raises UnreadableError."""
    starts = _segments(directory)
    pieces: list[bytes] = []
    wanted = max_bytes
    is_cut = bool(starts) and starts[0] > 0
    for start in reversed(starts):
        if wanted <= 0:
            is_cut = True
            break
        path = directory / f"log.{start}"
        try:
            size = path.stat().st_size
            pieces.insert(0, _read(path, max(size - wanted, 0), wanted))
        except FileNotFoundError:
            is_cut = True  # dropped while we read: what we have is the newest
            break
        is_cut = is_cut or size > wanted
        wanted -= len(pieces[0])
    return b"".join(pieces), is_cut


def _read(path: Path, offset: int, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(max_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}") from error


def _segments(directory: Path) -> list[int]:
    """The offsets at which the kept segments begin, oldest first."""
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableError(f"{directory} cannot be listed: {error.strerror}") from error
    return sorted(int(name[4:]) for name in names if name.startswith("log.") and name[4:].isdecimal())
