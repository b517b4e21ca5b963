"""Pure: accepts one statement that begins like a question, before any database sees it.

This is the first of two locks and made to give clear words early; the second is the read-only connection. It need not
know every dialect: what it wrongly lets through, the database refuses.
"""

from __future__ import annotations

import re

__all__ = ["single_select"]

_QUESTIONS = frozenset({"select", "with", "values", "from", "table"})
_DOLLAR = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$")
_WORD = re.compile(r"[\s(]*([A-Za-z]+)")
_SPECIAL = re.compile(r"--|/\*|['\"$;]")
_LINE_END = re.compile(r"[\r\n]")


def single_select(sql: str) -> str:
    """`sql` without a closing semicolon, when it is one statement that asks and does not tell.

    Raises:
        ValueError: It is empty, more than one statement, has an open quote, or begins with another verb.
    """
    code, end = _scan(sql)
    tail = sql[end + 1 :]
    rest, rest_end = _scan(tail)
    if rest.strip() or rest_end < len(tail):
        raise ValueError("only one statement can be asked: remove what follows the first `;`")
    verb = _WORD.match(code)
    if verb is None or verb.group(1).lower() not in _QUESTIONS:
        shown = verb.group(1) if verb is not None else code.strip()[:20]
        raise ValueError(f"a gate only reads: the statement must begin with SELECT or WITH, not {shown!r}")
    return sql[:end].strip()


def _scan(sql: str) -> tuple[str, int]:
    """The code of the first statement, quotes and comments blanked, and where it ends."""
    code: list[str] = []
    at = 0
    while (found := _SPECIAL.search(sql, at)) is not None:
        code.append(sql[at : found.start()])
        match found.group():
            case ";":
                return "".join(code), found.start()
            case "--":
                line_end = _LINE_END.search(sql, found.end())
                at = line_end.start() if line_end is not None else len(sql)
            case "/*":
                at = _after(sql, "*/", found.end(), "a comment")
            case "$":
                tag = _DOLLAR.match(sql, found.start())
                at = found.end() if tag is None else _after(sql, tag.group(), tag.end(), "a dollar quote")
            case quote:
                at = _after(sql, quote, found.end(), "a quote")
                code.append("q")
        code.append(" ")
    code.append(sql[at:])
    return "".join(code), len(sql)


def _after(sql: str, mark: str, start: int, what: str) -> int:
    end = sql.find(mark, start)
    if end < 0:
        raise ValueError(f"{what} is not closed: `{sql[max(start - 10, 0) : start + 20]}`")
    return end + len(mark)
