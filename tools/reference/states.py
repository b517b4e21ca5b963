"""The page of states, drawn from the tables in `conductor.core.states`: what the machines refuse is not on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

from conductor.core.states import (
    ATTEMPT_ARROWS,
    NODE_ARROWS,
    RUN_ARROWS,
    AttemptState,
    Cause,
    NodeState,
    RunState,
)
from tools.reference.source import member_lines, table

__all__ = ["states_page"]

_MODULE = "conductor.core.states"
_INTRO = """\
# States

Every state, every way from one to another, and the word that the journal records for it. The machines refuse any other
way, and this page is drawn from their tables.
"""
_NODE_NOTE = """\
The picture leaves out two kinds of arrow, so that it can be read; the table below it has all. `decided`: a person marks
a node as succeeded, failed or skipped. `rerun`: a person has an ended or held node run again.
"""
_ATTEMPT_NOTE = """\
There is no arrow from `sending`, `ambiguous` or `unknown` to `sending`: what may have been sent is looked up, and is
sent again only after it was proved absent. [How a start happens once](../explanation/starts.md) says why.
"""

_Arrows = Iterable[tuple[StrEnum | None, StrEnum, Cause]]


def states_page() -> str:
    """The page."""
    return "\n".join(
        [
            _INTRO,
            _machine("Run", "One execution of a pipeline.", RunState, RUN_ARROWS),
            _machine("Node", "One node in one run.", NodeState, NODE_ARROWS, note=_NODE_NOTE, left_out=_BY_A_PERSON),
            _machine("Attempt", "One try of a node: its phase says what is owed.", AttemptState, ATTEMPT_ARROWS,
                     note=_ATTEMPT_NOTE),
            _words("How an attempt ended", "Outcome"),
            _words("Why something is cancelled", "CancelCause"),
            _words("Causes", "Cause", "Recorded with every change; `conductor runs show RUN --journal` prints them."),
        ]
    )  # fmt: skip


_BY_A_PERSON = frozenset({Cause.DECIDED, Cause.RERUN})


def _machine(
    title: str,
    says: str,
    states: type[StrEnum],
    arrows: _Arrows,
    *,
    note: str = "",
    left_out: frozenset[Cause] = frozenset(),
) -> str:
    order = {state.value: place for place, state in enumerate(states)}
    causes: dict[tuple[str, str], list[Cause]] = defaultdict(list)
    for before, after, cause in arrows:
        causes[(before.value if before else "", after.value)].append(cause)
    pairs = sorted(causes, key=lambda pair: (order.get(pair[0], -1), order[pair[1]]))
    ways = {pair: sorted(cause.value for cause in causes[pair]) for pair in pairs}
    drawn = {pair: [cause for cause in found if cause not in left_out] for pair, found in ways.items()}
    rows = [(f"`{a}`" if a else "(new)", f"`{b}`", ", ".join(f"`{one}`" for one in ways[a, b])) for a, b in pairs]
    return "\n".join(
        [
            f"## {title}\n",
            f"{says}\n",
            table(("State", "Meaning"), _meanings(states.__name__)),
            _diagram(drawn, states),
            *([note] if note else []),
            table(("From", "To", "Causes"), rows),
        ]
    )


def _diagram(ways: Mapping[tuple[str, str], list[str]], states: type[StrEnum]) -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [
        f"    {before or '[*]'} --> {after}: {', '.join(causes)}" for (before, after), causes in ways.items() if causes
    ]
    if not any(before == "" for before, _ in ways):
        lines.insert(2, f"    [*] --> {next(iter(states)).value}")
    return "\n".join([*lines, "```\n"])


def _meanings(enumeration: str) -> list[tuple[str, str]]:
    return [(f"`{member}`", says) for member, says in member_lines(_MODULE, enumeration).items()]


def _words(title: str, enumeration: str, says: str = "") -> str:
    return "\n".join(
        [f"## {title}\n", *([f"{says}\n"] if says else []), table(("Word", "Meaning"), _meanings(enumeration))]
    )
