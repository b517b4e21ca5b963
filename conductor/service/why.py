"""Why a run or a node does not move: the one thing that holds it back, when that may change, and what a person can do.

Pure: works on runs and facts that any process can read from the database; a running service only adds what it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from conductor.core.errors import NotFoundError
from conductor.core.plan import OnFailure
from conductor.core.run import NodeRun, Run
from conductor.core.states import AttemptState, NodeState, RunState
from conductor.service.picture import error_view
from conductor.service.queue import why_queued
from conductor.service.reasons import Facts, Held, Why
from conductor.service.views import ErrorView

__all__ = ["explain", "root_of"]

_BAD = frozenset({NodeState.FAILED, NodeState.CANCELLED, NodeState.UPSTREAM_FAILED})
_ORDER = (NodeState.HELD, NodeState.FAILED, NodeState.RETRYING, NodeState.QUEUED, NodeState.RUNNING)


def _command(words: str, run: Run, node: str = "", *, reason: bool = False) -> str:
    """A command line about a run, ready to paste."""
    parts = ["conductor", words, run.id, node, '--reason "…"' if reason else ""]
    return " ".join(part for part in parts if part)


def root_of(run: Run, node: str) -> str:
    """The node at the bottom of a wait or a block: upstream, not itself waiting for or blocked by another."""
    here, seen = node, {node}
    while True:
        state = run.nodes[here].state
        above = run.plan.nodes[here].depends_on
        if state is NodeState.WAITING:
            further = [one for one in above if not run.nodes[one].state.is_final]
        elif state is NodeState.UPSTREAM_FAILED:
            further = [one for one in above if run.nodes[one].state in _BAD]
        else:
            further = []
        further = [one for one in further if one not in seen]
        if not further:
            return here
        here = min(further, key=lambda one: _urgency(run.nodes[one]))
        seen.add(here)


def explain(run: Run, facts: Facts, node: str | None = None) -> Why:
    """Why the run (or one node of it) is where it is.

    Raises:
        NotFoundError: The run has no such node.
    """
    if node is not None:
        if node not in run.nodes:
            known = ", ".join(list(run.nodes)[:10])
            raise NotFoundError(f"run {run.id} has no node {node!r}; its nodes are {known}")
        return _node(run, run.nodes[node], facts)
    match run.state:
        case RunState.QUEUED:
            return _queued_run(run, facts)
        case RunState.SUCCEEDED:
            return _about_run(run, held_by=Held.NOTHING, summary="the run succeeded")
        case RunState.RUNNING:
            return _running_run(run, facts)
        case RunState.CANCELLED | RunState.FAILED:
            return _ended_badly(run, facts)


def _urgency(node: NodeRun) -> int:
    return _ORDER.index(node.state) if node.state in _ORDER else len(_ORDER)


def _about_run(run: Run, *, held_by: Held, summary: str, next_: Sequence[str] = (), note: str = "") -> Why:
    return Why(
        run_id=run.id,
        pipeline=run.plan.name,
        node="",
        state=run.state.value,
        held_by=held_by,
        summary=summary,
        next=tuple(next_),
        note=note,
    )


def _queued_run(run: Run, facts: Facts) -> Why:
    running = [one for one, state in facts.active.items() if state is RunState.RUNNING and one != run.id]
    limit = run.plan.concurrency
    cancel = _command("runs cancel", run)
    if facts.is_pipeline_paused:
        resume = f"conductor pipelines resume {run.plan.name}"
        return _about_run(run, held_by=Held.PAUSED, summary="the pipeline is paused", next_=(resume, cancel))
    if limit is not None and len(running) >= limit:
        which = ", ".join(running[:3])
        summary = (
            f"{len(running)} of {limit} allowed runs of {run.plan.name} are active ({which}): it begins after one ends"
        )
        return _about_run(run, held_by=Held.CONCURRENCY, summary=summary, next_=(f"conductor why {running[0]}", cancel))
    if not facts.is_served:
        return _about_run(run, held_by=Held.SERVICE, summary=_NOT_SERVED, next_=(*_SERVE, cancel))
    return _about_run(run, held_by=Held.NOTHING, summary="it is about to begin", next_=(cancel,))


_NOT_SERVED = "nothing runs that would go on with it: no service follows this database"
_SERVE = ("conductor serve",)


def _running_run(run: Run, facts: Facts) -> Why:
    open_nodes = [node for node in run.nodes.values() if node.state in _ORDER]
    if not open_nodes:
        return _about_run(run, held_by=Held.NOTHING, summary="it is about to go on")
    return _node(run, min(open_nodes, key=lambda node: (_urgency(node), -_end_of(node, facts))), facts)


def _end_of(node: NodeRun, facts: Facts) -> float:
    """When the node is expected to end, as a sort key; later is greater."""
    until = _expected_end(node, facts)
    return until.timestamp() if until is not None else 0.0


def _ended_badly(run: Run, facts: Facts) -> Why:
    again = (_command("runs retry", run),)
    if run.state is RunState.CANCELLED:
        return _about_run(run, held_by=Held.NOTHING, summary=run.reason or "the run was cancelled", next_=again)
    bad = [node for node in run.nodes.values() if node.state is NodeState.FAILED]
    counting = [node for node in bad if run.plan.nodes[node.id].on_failure is not OnFailure.CONTINUE]
    culprits = counting or bad or [node for node in run.nodes.values() if node.state is NodeState.CANCELLED]
    if run.cancel_cause is not None or not culprits:
        return _about_run(run, held_by=Held.FAILURE, summary=run.reason or "the run failed", next_=again)
    return _node(run, culprits[0], facts)


def _node(run: Run, node: NodeRun, facts: Facts) -> Why:
    attempt = node.attempt
    plan = run.plan.nodes[node.id]
    below = [one for one in run.plan.closure(node.id) if one != node.id]
    stuck = {NodeState.WAITING, NodeState.UPSTREAM_FAILED}
    answer = _for_state(run, node, facts)
    return replace(
        answer,
        link=answer.link or (attempt.ref.link if attempt is not None and attempt.ref is not None else None),
        external_id=answer.external_id or (attempt.ref.id if attempt is not None and attempt.ref is not None else ""),
        upstream={one: run.nodes[one].state.value for one in plan.depends_on},
        blocks=tuple(one for one in below if run.nodes[one].state in stuck),
        note=answer.note or _note(run, node, facts),
    )


def _for_state(run: Run, node: NodeRun, facts: Facts) -> Why:
    match node.state:
        case NodeState.WAITING:
            return _waiting(run, node, facts)
        case NodeState.QUEUED:
            return _queued(run, node, facts)
        case NodeState.RUNNING:
            return _running(run, node, facts)
        case NodeState.RETRYING:
            return _retrying(run, node, facts)
        case NodeState.HELD:
            return _held(run, node)
        case NodeState.FAILED:
            return _failed(run, node)
        case NodeState.UPSTREAM_FAILED:
            return _upstream_failed(run, node, facts)
        case NodeState.SUCCEEDED | NodeState.WARNED | NodeState.SKIPPED | NodeState.CANCELLED:
            return _done(run, node)


def _note(run: Run, node: NodeRun, facts: Facts) -> str:
    if run.state.is_final or node.state.is_final or facts.is_served:
        return ""
    return "no service runs on this database: what the vendor does goes on, and nothing is followed or started"


def _about(run: Run, node: NodeRun, *, held_by: Held, summary: str) -> Why:
    return Why(
        run_id=run.id, pipeline=run.plan.name, node=node.id, state=node.state.value, held_by=held_by, summary=summary
    )


def _error(node: NodeRun) -> ErrorView | None:
    error = node.error or (node.attempt.error if node.attempt is not None else None)
    return error_view(error)


def _waiting(run: Run, node: NodeRun, facts: Facts) -> Why:
    root = root_of(run, node.id)
    if root == node.id:
        return _about(run, node, held_by=Held.NOTHING, summary="it is about to be looked at")
    below = _node(run, run.nodes[root], facts)
    answer = _about(
        run,
        node,
        held_by=Held.UPSTREAM,
        summary=f"waits for {root}, which is {below.state}: {below.summary}",
    )
    return replace(
        answer,
        root=root,
        until=below.until,
        until_is_estimate=below.until_is_estimate,
        error=below.error,
        link=below.link,
        external_id=below.external_id,
        next=(f"conductor why {run.id} {root}", *below.next),
    )


def _queued(run: Run, node: NodeRun, facts: Facts) -> Why:
    held_by, summary, until = why_queued(run, node, facts)
    cancel = _command("runs cancel", run, f"--node {node.id}")
    first: tuple[str, ...] = ()
    match held_by:
        case Held.PAUSED:
            first = (_resume(run, facts),)
        case Held.CONNECTION:
            first = (f"conductor connections test {run.plan.nodes[node.id].connection}",)
        case Held.SERVICE:
            first = _SERVE
        case _:
            pass
    answer = _about(run, node, held_by=held_by, summary=summary)
    return replace(answer, until=until, error=_error(node), next=(*first, cancel))


def _resume(run: Run, facts: Facts) -> str:
    return f"conductor pipelines resume {run.plan.name}" if facts.is_pipeline_paused else _command("runs resume", run)


def _running(run: Run, node: NodeRun, facts: Facts) -> Why:
    attempt = node.attempt
    assert attempt is not None
    cancel = _command("runs cancel", run, f"--node {node.id}")
    if attempt.state is AttemptState.SENDING:
        return _about(run, node, held_by=Held.VENDOR, summary="its start is on the way to the vendor")
    if attempt.state is AttemptState.AMBIGUOUS:
        summary = "the answer to its start was lost: it is being looked up at the vendor, and not sent twice"
        answer = _about(run, node, held_by=Held.LOOKUP, summary=summary)
        return replace(answer, until=attempt.settle_until, error=_error(node), next=(cancel,))
    if attempt.cancel_cause is not None:
        answer = _about(
            run, node, held_by=Held.VENDOR, summary="it is being cancelled: the vendor has not confirmed yet"
        )
        grace = timedelta(seconds=run.plan.nodes[node.id].limits.cancel_grace_s)
        return replace(answer, until=attempt.cancel_asked_at + grace if attempt.cancel_asked_at else None)
    until = _expected_end(node, facts)
    answer = _about(run, node, held_by=Held.VENDOR, summary=_at_vendor(node))
    look = f"conductor logs {run.id} {node.id}"
    return replace(answer, until=until, until_is_estimate=until is not None, next=(look, cancel))


def _at_vendor(node: NodeRun) -> str:
    attempt = node.attempt
    assert attempt is not None
    if attempt.seen_state is None:
        return "the vendor took it and has not been looked at yet"
    said = f" (the vendor says {attempt.seen_word!r})" if attempt.seen_word else ""
    words = {
        "queued": f"it waits in the vendor's queue{said}",
        "running": f"it runs at the vendor{said}",
        "unrecognised": f"the vendor uses a word that Conductor does not know{said}: it is followed on",
    }
    return words.get(attempt.seen_state.value, f"the vendor's run is {attempt.seen_state}{said}")


def _expected_end(node: NodeRun, facts: Facts) -> datetime | None:
    expected = facts.expected.get(node.id)
    attempt = node.attempt
    if expected is None or attempt is None or attempt.running_at is None or node.state is not NodeState.RUNNING:
        return None
    return attempt.running_at + timedelta(seconds=(expected.low_s + expected.high_s) / 2)


def _retrying(run: Run, node: NodeRun, facts: Facts) -> Why:
    left = node.budget_from + run.plan.nodes[node.id].retries.attempts + 1 - node.attempts
    summary = f"attempt {node.attempts} failed ({node.reason or 'no reason given'}); {left} more allowed"
    if run.is_paused:
        paused = _about(run, node, held_by=Held.PAUSED, summary=f"{summary}; the run is paused")
        return replace(paused, next=(_resume(run, facts),))
    answer = _about(run, node, held_by=Held.RETRY, summary=summary)
    next_ = (_command("runs cancel", run, f"--node {node.id}"), _command("runs skip", run, node.id, reason=True))
    return replace(answer, until=node.retry_at, error=_error(node), next=next_)


def _held(run: Run, node: NodeRun) -> Why:
    why = node.reason or "the look-ups did not settle it"
    summary = f"whether it was started is not known ({why}): look at the vendor and decide"
    answer = _about(run, node, held_by=Held.PERSON, summary=summary)
    return replace(
        answer,
        error=_error(node),
        next=(
            _command("runs mark", run, f"{node.id} succeeded", reason=True),
            _command("runs retry", run, node.id),
            _command("runs skip", run, node.id, reason=True),
        ),
    )


def _failed(run: Run, node: NodeRun) -> Why:
    error = _error(node)
    kind = f" [{error.error_class}]" if error is not None else ""
    tries = f" after {node.attempts} attempts" if node.attempts > 1 else ""
    summary = f"{node.id} failed{tries}: {node.reason or 'no reason given'}{kind}"
    first = (f"conductor logs {run.id} {node.id}",) if node.attempt is not None and node.attempt.ref else ()
    if error is not None and error.error_class == "auth":
        first = (f"conductor connections test {run.plan.nodes[node.id].connection}",)
    answer = _about(run, node, held_by=Held.FAILURE, summary=summary)
    return replace(
        answer,
        error=error,
        next=(*first, _command("runs retry", run, node.id), _command("runs skip", run, node.id, reason=True)),
    )


def _upstream_failed(run: Run, node: NodeRun, facts: Facts) -> Why:
    root = root_of(run, node.id)
    below = _node(run, run.nodes[root], facts) if root != node.id else None
    summary = f"not run: {below.summary}" if below is not None else f"not run: {node.reason}"
    answer = _about(run, node, held_by=Held.UPSTREAM, summary=summary)
    if below is None:
        return answer
    return replace(
        answer, root=root, error=below.error, link=below.link, external_id=below.external_id, next=below.next
    )


def _done(run: Run, node: NodeRun) -> Why:
    words = {
        NodeState.SUCCEEDED: "it succeeded",
        NodeState.WARNED: "it is done, with a warning",
        NodeState.SKIPPED: "it was skipped",
        NodeState.CANCELLED: "it was cancelled",
    }
    summary = words[node.state] + (f": {node.reason}" if node.reason else "")
    again = (_command("runs rerun", run, node.id),)
    answer = _about(run, node, held_by=Held.NOTHING, summary=summary)
    return replace(answer, error=_error(node) if node.state is NodeState.WARNED else None, next=again)
