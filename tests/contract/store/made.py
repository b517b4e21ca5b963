"""Values that the store's suite writes: a small plan, runs driven by the real core, batches of both. No tests here."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from conductor.core.errors import ErrorClass, ErrorInfo, RequestError
from conductor.core.events import (
    Accepted,
    Begin,
    CancelAnswered,
    CancelNode,
    CancelRun,
    CannotSee,
    Event,
    Lost,
    NotSeen,
    Observed,
    Pause,
    Permitted,
    Prepared,
    Recovered,
    Refused,
    Rejected,
    RerunFrom,
    Resume,
    RetryFailed,
    Seen,
    SkipNode,
    Wake,
)
from conductor.core.keys import run_id
from conductor.core.owed import Cancel, Effect, Find, Poll, Prepare, Start, outstanding
from conductor.core.plan import NodePlan, Plan, Rendered, RetryPolicy
from conductor.core.run import Attempt, NodeRun, Run, Transition, Trigger
from conductor.core.states import AttemptState, NodeState
from conductor.core.step import new_run, step
from conductor.core.vendor import (
    Baseline,
    Capabilities,
    Correlation,
    Delivery,
    ExternalRef,
    ExternalState,
    Json,
    Observation,
)
from conductor.store import Batch, RunChange, Store, schema

NOW = datetime(2026, 3, 1, 4, 5, 6, 789_012, tzinfo=UTC)
ERROR = ErrorInfo(error_class=ErrorClass.TRANSIENT, message="the vendor hiccuped")
CAPABILITIES = Capabilities(correlation=Correlation.TAG, delivery=Delivery.PREFER_LOOKUP, needs_baseline=True)


class Template:
    """Settings without expressions."""

    def __init__(self, node: str) -> None:
        self.constant: Rendered | None = Rendered(settings={"object": node, "full": False}, scope=f"scope-{node}")

    def render(self, context: Mapping[str, Json]) -> Rendered:
        assert self.constant is not None
        return self.constant


def node_plan(node: str, *depends_on: str) -> NodePlan:
    return NodePlan(
        id=node,
        uses="vendor.sync",
        connection="warehouse",
        settings=Template(node),
        capabilities=CAPABILITIES,
        delivery=CAPABILITIES.delivery,
        if_running=CAPABILITIES.if_running,
        on_unknown=CAPABILITIES.on_unknown,
        settle_window_s=60.0,
        depends_on=depends_on,
        retries=RetryPolicy(attempts=2, delay_s=10.0),
    )


def plan(name: str = "daily", *, version: str = "0123456789ab") -> Plan:
    nodes = (node_plan("a"), node_plan("b", "a"), node_plan("c", "a"), node_plan("d", "b", "c"))
    return Plan(name=name, version=version, definition={"name": name}, nodes={node.id: node for node in nodes})


PLAN = plan()


def plan_of(name: str, version: str) -> Plan:
    return plan(name, version=version) if (name, version) != (PLAN.name, PLAN.version) else PLAN


def id_of(identity: object) -> str:
    return run_id(install="tests", pipeline="daily", identity=str(identity))


def filled(store: Store, *plans: Plan) -> Store:
    """The store with these pipelines registered; `PLAN` when none is named."""
    store.register(plans or (PLAN,), now=NOW)
    return store


def create(
    batch: Batch,
    identity: object,
    *,
    slot: datetime | None = None,
    now: datetime = NOW,
    of: Plan = PLAN,
    epoch: int = 1,
) -> Run:
    """Put a new run into the batch."""
    made = new_run(of, run_id=id_of(identity), trigger=Trigger.MANUAL, now=now, params={"day": "x"}, slot=slot)
    return batch.add(None, replace(made, run=replace(made.run, epoch=epoch)))


def committed(store: Store, identity: object = 0, *events: Event, slot: datetime | None = None) -> Run:
    """A new run of `PLAN`, committed, with these events applied and committed one by one."""
    batch = Batch()
    run = create(batch, identity, slot=slot, epoch=store.epoch)
    store.commit(batch)
    for event in events:
        run = advance(store, run, event)
    return run


def advance(store: Store, run: Run, *events: Event, now: datetime = NOW) -> Run:
    """The run with these events applied in one commit."""
    batch, after = stepped(run, *events, now=now)
    store.commit(batch)
    return after


def stepped(run: Run, *events: Event, now: datetime = NOW) -> tuple[Batch, Run]:
    """A batch with these events applied to a committed run, and the run as it will be."""
    batch = Batch()
    after = run
    for event in events:
        after = batch.add(after, step(after, event, now))
    return batch, after


def sent(external_id: str, *, node: str = "a") -> tuple[Event, ...]:
    """The events that take the first attempt of a node to a vendor's run."""
    return (
        Begin(),
        Prepared(node=node, attempt_no=1, baseline=Baseline(data={"before": [1, 2]})),
        Permitted(node=node, attempt_no=1),
        Accepted(node=node, attempt_no=1, ref=ExternalRef(id=external_id, link="https://vendor.example/1")),
    )


def held() -> tuple[Event, ...]:
    """The events that leave the first attempt of `a` unknown and the node held; to be applied well after `NOW`."""
    return (
        Begin(),
        Prepared(node="a", attempt_no=1, baseline=Baseline()),
        Permitted(node="a", attempt_no=1),
        Lost(node="a", attempt_no=1, error=ERROR),
    )


def whole(run: Run, *, transitions: tuple[Transition, ...] = ()) -> Batch:
    """A batch that writes `run` as a new one, whatever it is."""
    attempts: dict[tuple[str, int], Attempt] = {}
    for node in run.nodes.values():
        if node.attempt is not None:
            attempts[node.id, node.attempt.no] = node.attempt
    change = RunChange(before=None, after=run, nodes=set(run.nodes), attempts=attempts, transitions=list(transitions))
    return Batch(runs={run.id: change})


def bare_run(identity: object, **nodes: NodeRun) -> Run:
    """A queued run of `PLAN`, some of its nodes given."""
    run = new_run(PLAN, run_id=id_of(identity), trigger=Trigger.MANUAL, now=NOW, params={}).run
    return replace(run, nodes={**run.nodes, **nodes}, revision=1, epoch=1)


def attempt(identity: object, *, no: int = 1, ref: ExternalRef | None = None) -> Attempt:
    state = AttemptState.RUNNING if ref is not None else AttemptState.INTENDED
    return Attempt(no=no, key=f"cnd-{identity}-{no}", state=state, settings={}, scope="", intended_at=NOW, ref=ref)


def with_ref(identity: object, external_id: str) -> Run:
    """A run whose node `a` is followed at the vendor as `external_id`."""
    made = attempt(identity, ref=ExternalRef(id=external_id))
    return bare_run(identity, a=NodeRun(id="a", state=NodeState.RUNNING, attempt=made, attempts=1))


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'conductor.db'}"


def content(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, in the order of their keys; without what differs between installations."""
    found: dict[str, list[tuple[object, ...]]] = {}
    with store._engine.connect() as connection:
        for table in schema.metadata.sorted_tables:
            if table is not schema.meta:
                rows = connection.execute(select(table).order_by(*table.primary_key))
                found[table.name] = [tuple(row) for row in rows]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """One batch of a walk, and every run as it is once that batch is committed."""

    batch: Batch
    runs: Mapping[str, Run]


def walk(seed: int, *, batches: int, runs: int = 4) -> Iterator[Walked]:
    """The same batches for the same seed: runs of `PLAN` driven by the core through answers, losses and people."""
    chance = random.Random(seed)
    known: dict[str, Run] = {}
    now = NOW
    for number in range(batches):
        now += timedelta(seconds=chance.choice((0, 1, 7, 90)), microseconds=chance.randrange(1_000_000))
        batch = Batch()
        if len(known) < runs:
            slot = NOW + timedelta(hours=number) if chance.random() < 0.5 else None
            run = create(batch, number, slot=slot, now=now)
            known[run.id] = run
            batch.cursors["daily"] = now
        for _ in range(chance.randrange(1, 6)):
            run = known[chance.choice(list(known))]
            event = _event(chance, run, now)
            try:
                made = step(run, event, now)
            except RequestError:
                continue
            known[run.id] = batch.add(run, made)
        if chance.random() < 0.3:
            batch.durations.append(("daily", chance.choice("abcd"), chance.random() * 100))
        if chance.random() < 0.1:
            batch.drops.append(("daily", now, chance.randrange(1, 9), "too old"))
        yield Walked(batch=batch, runs=dict(known))


def _event(chance: random.Random, run: Run, now: datetime) -> Event:
    owed = outstanding(run, now)
    if owed and chance.random() < 0.75:
        return _answer(chance, run, chance.choice(owed))
    sending = [node.id for node in run.nodes.values() if node.attempt and node.attempt.state is AttemptState.SENDING]
    if sending and chance.random() < 0.9:
        return _start_answer(chance, run, chance.choice(sending))
    node = chance.choice(list(run.nodes))
    return chance.choice(
        (
            Begin(),
            Begin(),
            Wake(),
            Wake(),
            Recovered(),
            RetryFailed(actor="ann"),
            RerunFrom(node=node, reason="böse Zeile"),
            SkipNode(node=node, reason="not today"),
            CancelNode(node=node),
            Pause() if chance.random() < 0.2 else Resume(),
            CancelRun() if chance.random() < 0.2 else Wake(),
        )
    )


def _answer(chance: random.Random, run: Run, effect: Effect) -> Event:
    node, no = effect.node, effect.attempt_no
    match effect:
        case Prepare():
            return Prepared(node=node, attempt_no=no, baseline=Baseline(data={"seen": chance.randrange(100)}))
        case Start():
            return Permitted(node=node, attempt_no=no)
        case Find():
            if chance.random() < 0.5:
                return Seen(node=node, attempt_no=no, ref=_ref(run, node, no), is_inferred=chance.random() < 0.5)
            return chance.choice((NotSeen(node=node, attempt_no=no), CannotSee(node=node, attempt_no=no)))
        case Poll():
            return Observed(node=node, attempt_no=no, observation=_seen(chance))
        case Cancel():
            return CancelAnswered(node=node, attempt_no=no)


def _start_answer(chance: random.Random, run: Run, node: str) -> Event:
    made = run.nodes[node].attempt
    assert made is not None
    return chance.choice(
        (
            Accepted(node=node, attempt_no=made.no, ref=_ref(run, node, made.no)),
            Accepted(node=node, attempt_no=made.no, ref=_ref(run, node, made.no)),
            Lost(node=node, attempt_no=made.no, error=ERROR),
            Refused(node=node, attempt_no=made.no, error=ERROR, retry_after_s=3.5),
            Rejected(node=node, attempt_no=made.no, error=ERROR),
        )
    )


def _ref(run: Run, node: str, no: int) -> ExternalRef:
    return ExternalRef(id=f"{run.id}/{node}/{no}", data={"site": "eu"}, link="https://vendor.example/é")


def _seen(chance: random.Random) -> Observation:
    states = (ExternalState.RUNNING, ExternalState.SUCCEEDED, ExternalState.SUCCEEDED, ExternalState.FAILED)
    state = chance.choice(states)
    return Observation(
        state=state,
        word=state.value.upper(),
        progress=chance.choice((None, 0.0, 0.25)),
        outputs={"rows": chance.randrange(1000)} if state is ExternalState.SUCCEEDED else {},
        error=ERROR if state is ExternalState.FAILED else None,
    )
