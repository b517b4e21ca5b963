"""What a CEL expression refers to and how much it may cost, read off its tokens before anything runs it. Pure.

The CEL library gives no syntax tree, and its `map` takes time with the square of the list, so names and limits are
found here. This is a scanner, not a parser: what is not CEL is refused by the library's own parser afterwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["FUNCTIONS", "MAX_LENGTH", "METHODS", "Call", "Reference", "Scan", "ScanError", "scan", "scan_end"]

MAX_LENGTH = 500
_MAX_OPEN = 32
_MAX_MACROS = 2
_MAX_MATCHES = 2

_MACROS = frozenset({"map", "filter", "all", "exists", "exists_one"})
FUNCTIONS = frozenset({"size", "string", "int", "uint", "double", "type", "dyn", "duration", "timestamp", "has"})
METHODS = _MACROS | {
    "contains", "startsWith", "endsWith", "matches", "size", "getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth",
    "getDate", "getDayOfWeek", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
}  # fmt: skip
_NOT_NAMES = frozenset(
    {
        "true",
        "false",
        "null",
        "in",
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
    }
)
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:"{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name with the fields taken from it: `nodes.a.outputs.rows`.

    Attributes:
        path: The name and its fields, as far as they are written out.
        at: Offset in the expression.
        length: Of the whole, in characters.
    """

    path: tuple[str, ...]
    at: int
    length: int

    def __str__(self) -> str:
        first, *rest = self.path
        return first + "".join(f".{part}" if part.isidentifier() else f"['{part}']" for part in rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function or method that is called.

    Attributes:
        name: Without its receiver.
        is_method: It stands behind a dot.
        at: Offset in the expression.
    """

    name: str
    is_method: bool
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What an expression is made of.

    Attributes:
        references: In the order written, repeats included.
        calls: As above.
    """

    references: tuple[Reference, ...]
    calls: tuple[Call, ...]

    @property
    def has_macro(self) -> bool:
        """It walks over a list."""
        return any(call.is_method and call.name in _MACROS for call in self.calls)

    @property
    def has_regex(self) -> bool:
        """It runs a regular expression."""
        return any(call.name == "matches" for call in self.calls)


class ScanError(Exception):
    """The expression is too much, or a bracket is wrong.

    Attributes:
        code: `CND050` or `CND054`.
        at: Offset in the expression.
    """

    def __init__(self, code: str, message: str, at: int) -> None:
        super().__init__(message)
        self.code = code
        self.at = at


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def scan_end(text: str, start: int) -> int:
    """The offset of the `}}` that closes the expression beginning at `start`; -1 when there is none."""
    depth = 0
    for match in _TOKEN.finditer(text, start):
        if match.lastgroup != "sign":
            continue
        sign = match.group()
        if sign == "}" and depth == 0:
            return match.start() if text.startswith("}}", match.start()) else -1
        depth += (sign in _OPEN) - (sign in _CLOSE)
    return -1


def scan(source: str) -> Scan:
    """Find the names and calls of `source`.

    Raises:
        ScanError: It is longer, deeper or costlier than allowed.
    """
    if len(source) > MAX_LENGTH:
        raise ScanError("CND054", f"the expression has {len(source)} characters; {MAX_LENGTH} is the limit", 0)
    tokens = [
        _Token(match.lastgroup or "", match.group(), match.start())
        for match in _TOKEN.finditer(source)
        if match.lastgroup != "space"
    ]
    _check_depth(tokens)
    calls = tuple(_calls(tokens))
    _check_macros(tokens, calls)
    return Scan(references=tuple(_references(tokens)), calls=calls)


def _check_depth(tokens: list[_Token]) -> None:
    depth = 0
    for token in tokens:
        if token.kind == "sign":
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if depth > _MAX_OPEN:
                raise ScanError("CND054", f"more than {_MAX_OPEN} brackets are open", token.at)


def _calls(tokens: list[_Token]) -> list[Call]:
    return [
        Call(name=token.text, is_method=_is_member(tokens, at), at=token.at)
        for at, token in enumerate(tokens[:-1])
        if token.kind == "name" and tokens[at + 1].text == "(" and token.text != "in"
    ]


def _check_macros(tokens: list[_Token], calls: tuple[Call, ...]) -> None:
    macros = [call for call in calls if call.is_method and call.name in _MACROS]
    matches = [call for call in calls if call.name == "matches"]
    if len(macros) > _MAX_MACROS:
        raise ScanError("CND054", f"more than {_MAX_MACROS} of map, filter, all and exists", macros[_MAX_MACROS].at)
    if sum(call.name == "map" for call in macros) > 1:
        raise ScanError("CND054", "more than one `map`", macros[-1].at)
    if len(matches) > _MAX_MATCHES:
        raise ScanError("CND054", f"more than {_MAX_MATCHES} of `matches`", matches[_MAX_MATCHES].at)
    for macro in macros:
        first, last = _body(tokens, macro.at)
        for other in [*macros, *matches]:
            if first < other.at < last:
                raise ScanError("CND054", f"`{other.name}` inside `{macro.name}`", other.at)


def _body(tokens: list[_Token], call_at: int) -> tuple[int, int]:
    """Offsets of the bracket that a call opens and of the one that closes it."""
    depth, first = 0, -1
    for token in tokens:
        if token.at <= call_at or token.kind != "sign":
            continue
        first = token.at if first < 0 else first
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0:
            return first, token.at
    return first, MAX_LENGTH + 1


def _is_member(tokens: list[_Token], at: int) -> bool:
    """The token stands behind a dot that takes it from something."""
    if at < 2 or tokens[at - 1].text != "." or tokens[at - 1].kind != "sign":
        return False
    before = tokens[at - 2]
    return before.kind in {"name", "string", "number"} or before.text in _CLOSE


def _references(tokens: list[_Token]) -> list[Reference]:
    bound = _bound_names(tokens)
    found = []
    for at, token in enumerate(tokens):
        if token.kind != "name" or token.text in _NOT_NAMES or _is_member(tokens, at):
            continue
        if at + 1 < len(tokens) and tokens[at + 1].text == "(":
            continue
        if any(name == token.text and first < token.at < last for name, first, last in bound):
            continue
        found.append(_chain(tokens, at))
    return found


def _bound_names(tokens: list[_Token]) -> list[tuple[str, int, int]]:
    """The variables of `list.map(x, ...)` and the like, with the offsets between which they hold."""
    found = []
    for at, token in enumerate(tokens[:-3]):
        is_macro = token.kind == "name" and token.text in _MACROS and _is_member(tokens, at)
        if is_macro and tokens[at + 1].text == "(" and tokens[at + 2].kind == "name" and tokens[at + 3].text == ",":
            found.append((tokens[at + 2].text, *_body(tokens, token.at)))
    return found


def _chain(tokens: list[_Token], at: int) -> Reference:
    path, start = [tokens[at].text], tokens[at].at
    end = start + len(tokens[at].text)
    at += 1
    while at + 1 < len(tokens):
        if tokens[at].text == "." and tokens[at + 1].kind == "name":
            if at + 2 < len(tokens) and tokens[at + 2].text == "(":
                break
            path.append(tokens[at + 1].text)
            end = tokens[at + 1].at + len(tokens[at + 1].text)
            at += 2
        elif tokens[at].text == "[" and at + 2 < len(tokens) and tokens[at + 2].text == "]":
            text = tokens[at + 1].text
            if tokens[at + 1].kind != "string" or text[0] not in "'\"" or "\\" in text or text[:3] in {"'''", '"""'}:
                break
            path.append(text[1:-1])
            end = tokens[at + 2].at + 1
            at += 3
        else:
            break
    return Reference(path=tuple(path), at=start, length=end - start)
