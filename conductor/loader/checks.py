"""Checks of the graph: unknown and repeated dependencies, circles, rules that cannot come true, dead branches."""

from __future__ import annotations

from collections.abc import Mapping

from conductor.core.errors import ExpressionError
from conductor.core.graph import Graph, find_cycles
from conductor.core.plan import NodePlan, OnFailure, TriggerRule
from conductor.loader.diagnostics import Report, Severity
from conductor.loader.source import Source

__all__ = ["check_cycles", "check_dependencies", "check_reach"]

_SHOWN = 8
_NEEDS_UPSTREAM = frozenset({TriggerRule.ONE_SUCCESS, TriggerRule.ONE_FAILED, TriggerRule.ALL_FAILED})


def check_dependencies(report: Report, written: Graph) -> None:
    """Every name in `depends_on` is another node, written once."""
    for node, upstream in written.items():
        seen: set[str] = set()
        for at, other in enumerate(upstream):
            where = ("nodes", node, "depends_on", at)
            if other == node:
                report.add("CND022", f"`{node}` depends on itself", where, help_text="remove it from `depends_on`")
            elif other not in written:
                help_text = report.suggest(other, written)
                report.add("CND020", f"`{other}` is not a node of this pipeline", where, help_text=help_text)
            elif other in seen:
                report.add("CND023", f"`{other}` is written twice", where, help_text="remove one of them")
            seen.add(other)


def check_cycles(report: Report, written: Graph) -> bool:
    """Names a circle in every knot; true when there is none. A node that depends on itself is not counted here."""
    is_right = True
    for cycle, size in find_cycles(written):
        if len(cycle) == 1:
            continue
        is_right = False
        first = cycle[0]
        shown = [*cycle[:_SHOWN], "…"] if len(cycle) > _SHOWN else list(cycle)
        chain = " → ".join(f"`{name}`" if name != "…" else name for name in [*shown, first])
        places = ", ".join(_place(report.source, name) for name in cycle[:_SHOWN])
        rest = f"; {size - len(cycle)} more nodes are tangled up with it" if size > len(cycle) else ""
        where = ("nodes", first, "depends_on", list(written[first]).index(cycle[1]))
        report.add("CND021", f"each of {chain} needs the next{rest}", where, help_text=f"cut one of: {places}")
    return is_right


def _place(source: Source, node: str) -> str:
    place = source.place(("nodes", node), on_key=True)
    return f"{node} ({source.path}:{place.line})" if place.line else node


def check_reach(report: Report, nodes: Mapping[str, NodePlan]) -> None:
    """Warn of what can never run. `nodes` in topological order; walks it once with what each node may become."""
    outcomes: dict[str, frozenset[str]] = {}
    for node in nodes.values():
        upstream = [outcomes[other] for other in node.depends_on]
        where = ("nodes", node.id, "trigger_rule")
        if node.trigger_rule in _NEEDS_UPSTREAM and not upstream:
            message = f"`{node.trigger_rule}` on `{node.id}`, which depends on nothing"
            report.add("CND024", message, where, help_text="add `depends_on`, or remove the rule")
        reason = _why_never(node, upstream, nodes)
        if reason is not None:
            code, message = reason
            at = ("nodes", node.id, "if") if "`if`" in message else where
            report.add(code, message, at, severity=Severity.WARNING)
            outcomes[node.id] = frozenset({"skipped"})
        else:
            outcomes[node.id] = _outcomes(node, upstream)


def _why_never(node: NodePlan, upstream: list[frozenset[str]], nodes: Mapping[str, NodePlan]) -> tuple[str, str] | None:
    if _is_never(node):
        return "CND025", f"`{node.id}` never runs: its `if` is always false"
    if not upstream:
        return None
    good = [other for other, seen in zip(node.depends_on, upstream, strict=True) if "good" in seen]
    bad = [other for other, seen in zip(node.depends_on, upstream, strict=True) if "bad" in seen]
    dead = [other for other, seen in zip(node.depends_on, upstream, strict=True) if seen == {"skipped"}]
    match node.trigger_rule:
        case TriggerRule.ALL_SUCCESS if len(good) < len(upstream):
            return "CND025", f"`{node.id}` never runs: it needs `{(dead or node.depends_on)[0]}`, which never does"
        case TriggerRule.ONE_SUCCESS if not good:
            return "CND025", f"`{node.id}` never runs: none of the nodes it needs ever does"
        case TriggerRule.ONE_FAILED if not bad:
            return (
                "CND024",
                f"`{node.id}` runs only when one it depends on fails, and none can: {_healthy(node, nodes)}",
            )
        case TriggerRule.ALL_FAILED if len(bad) < len(upstream):
            return (
                "CND024",
                f"`{node.id}` runs only when all it depends on fail, and they cannot: {_healthy(node, nodes)}",
            )
        case _:
            return None


def _healthy(node: NodePlan, nodes: Mapping[str, NodePlan]) -> str:
    warned = [other for other in node.depends_on if nodes[other].on_failure is OnFailure.WARN]
    return f"`{warned[0]}` has `on_failure: warn`" if warned else "they never run"


def _is_never(node: NodePlan) -> bool:
    names = getattr(node.condition, "names", None)
    if node.condition is None or names is None or names.references:
        return False
    try:
        return node.condition.evaluate({}) is False
    except ExpressionError:
        return False


def _outcomes(node: NodePlan, upstream: list[frozenset[str]]) -> frozenset[str]:
    """What a node that can run may become: good, bad (failed or blocked) or skipped."""
    found = {"good"}
    if node.on_failure is not OnFailure.WARN:
        found.add("bad")
    if node.trigger_rule in {TriggerRule.ALL_SUCCESS, TriggerRule.NONE_FAILED, TriggerRule.ONE_SUCCESS}:
        found |= {"bad"} & set().union(*upstream)
        found |= {"skipped"} & set().union(*upstream)
    if node.condition is not None or node.trigger_rule in {TriggerRule.ONE_FAILED, TriggerRule.ALL_FAILED}:
        found.add("skipped")
    return frozenset(found)
