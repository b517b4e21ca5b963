"""What must hold, whatever happened: judged by the vendors' ledgers, not by what the engine says of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from conductor.core.plan import NodePlan, TriggerRule
from conductor.core.run import Attempt, Run
from conductor.core.states import AttemptState, NodeState, Outcome, RunState
from conductor.core.vendor import Correlation, Delivery, ExternalState
from tests.simulation.vendors import Job
from tests.simulation.world import World

__all__ = ["Oracle"]

_GOOD = frozenset({ExternalState.SUCCEEDED, ExternalState.WARNED})
_GOES_ON_UNSEEN = frozenset({Outcome.UNRESOLVED, Outcome.VANISHED, Outcome.TIMED_OUT, Outcome.CANCELLED})
"""Outcomes after which the vendor's run may go on; the node says so."""


@dataclass(slots=True, kw_only=True)
class Oracle:
    """Checks a world.

    Attributes:
        world: What is judged.
        limits: Connection → most at once.
        pools: Pool → slots.
        decided: (run, node) for which a person said how it ended.
        has_jumped: Our clock was set, and with it every settle window.
    """

    world: World
    limits: dict[str, int]
    pools: dict[str, int]
    decided: set[tuple[str, str]] = field(default_factory=set)
    has_jumped: bool = False
    _ended: dict[tuple[str, str, int], Outcome] = field(default_factory=dict)
    _judged: dict[str, int] = field(default_factory=dict)

    def after_tick(self) -> None:
        """The ledger against the runs as they are now."""
        self._note_ends()
        self._judge_new_starts()
        self._judge_slots()

    def _note_ends(self) -> None:
        for run in self.world.engine.runs.values():
            for one in run.nodes.values():
                attempt = one.attempt
                if attempt is not None and attempt.outcome is not None:
                    self._ended[run.id, one.id, attempt.no] = attempt.outcome

    def _judge_new_starts(self) -> None:
        for vendor in self.world.vendors.values():
            known = self._judged.get(vendor.connection, 0)
            for job in vendor.ledger[known:]:
                self._judge_start(job)
            self._judged[vendor.connection] = len(vendor.ledger)

    def _judge_start(self, job: Job) -> None:
        name = (job.run_id, job.node, job.attempt_no)
        run = self._run(job.run_id)
        plan = run.plan.nodes[job.node]
        starts = [one for one in self._jobs() if (one.run_id, one.node, one.attempt_no) == name]
        most = 1 + plan.resend_limit if self._may_repeat(plan, starts) else 1
        assert len(starts) <= most, f"{name} was started {len(starts)} times"
        if plan.trigger_rule is TriggerRule.ALL_SUCCESS:
            for upstream in plan.depends_on:
                self._judge_upstream(run, job, upstream)

    def _may_repeat(self, plan: NodePlan, starts: list[Job]) -> bool:
        """Only by choice; and where runs can be looked up, only when the settle window or the vendor's memory lied."""
        if plan.delivery is not Delivery.AT_LEAST_ONCE:
            return False
        is_blind = plan.capabilities.correlation is Correlation.NONE
        return is_blind or self.has_jumped or any(job.is_forgotten for job in starts)

    def _judge_upstream(self, run: Run, job: Job, upstream: str) -> None:
        if (run.id, upstream) in self.decided:
            return
        if self.world.vendors[run.plan.nodes[upstream].connection].capabilities.sends_nothing:
            return
        done = [
            one
            for one in self._jobs()
            if (one.run_id, one.node) == (run.id, upstream)
            and one.ends_at <= job.at
            and not one.is_cancelled
            and one.outcome in _GOOD
        ]
        # A run of somebody else that was adopted is not in the ledger under this name.
        is_adopted = run.nodes[upstream].attempt is not None and run.nodes[upstream].attempt.adopted == "busy"  # type: ignore[union-attr]
        assert done or is_adopted, f"{job.node} of {run.id} began before {upstream} succeeded at the vendor"

    def _judge_slots(self) -> None:
        now = self.world.clock.true()
        running: Counter[str] = Counter()
        pools: Counter[str] = Counter()
        scopes: Counter[tuple[str, str]] = Counter()
        for job in self._jobs():
            if not job.is_active(now):
                continue
            plan = self._run(job.run_id).plan.nodes[job.node]
            # Where a start may come twice, the first of two goes on unseen.
            if plan.delivery is Delivery.AT_LEAST_ONCE or self._goes_on_unseen(job):
                continue
            running[job.connection] += 1
            pools.update(plan.pools)
            if job.scope and plan.capabilities.is_exclusive:
                scopes[job.connection, job.scope] += 1
        for connection, count in running.items():
            assert count <= self.limits.get(connection, count), f"{count} at once on {connection}"
        for pool, count in pools.items():
            assert count <= self.pools[pool], f"{count} at once in {pool}"
        for scope, count in scopes.items():
            assert count <= 1, f"{count} at once on {scope}"

    def _goes_on_unseen(self, job: Job) -> bool:
        """The attempt ended without the vendor's word, and says so; anything else still holds its slot."""
        name = (job.run_id, job.node, job.attempt_no)
        if name not in self._ended and job.run_id not in self.world.engine.runs:
            # It ended together with its run, which nobody holds in memory any more.
            for attempt in self.world.store.attempts(job.run_id).get(job.node, []):
                if attempt.outcome is not None:
                    self._ended[job.run_id, job.node, attempt.no] = attempt.outcome
        outcome = self._ended.get(name)
        if outcome is None:
            return False
        assert outcome in _GOES_ON_UNSEEN, f"{job.node} of {job.run_id} ended as {outcome} and goes on at the vendor"
        return True

    def _jobs(self) -> list[Job]:
        return [job for vendor in self.world.vendors.values() for job in vendor.ledger]

    def _run(self, run_id: str) -> Run:
        return self.world.engine.runs.get(run_id) or self.world.run(run_id)

    # --- the end -----------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """Once nothing moves any more."""
        assert not self.world.engine.broken, self.world.engine.broken
        rows = self.world.store.runs(limit=10_000)
        for row in rows:
            run = self.world.run(row.id)
            assert run.state.is_final, f"{run.id} waits for nothing: {self.world.picture()}"
            for attempts in self.world.store.attempts(run.id).values():
                for attempt in attempts:
                    self._judge_attempt(run, attempt)
            if run.state is RunState.SUCCEEDED:
                bad = {NodeState.UPSTREAM_FAILED, NodeState.CANCELLED}
                assert not any(one.state in bad and not self._is_harmless(run, one.id) for one in run.nodes.values())
        slots = Counter((row.pipeline, row.slot) for row in rows if row.slot is not None)
        assert all(count == 1 for count in slots.values()), "two runs for one slot"
        self._judge_journal()

    @staticmethod
    def _is_harmless(run: Run, node: str) -> bool:
        return any(plan.on_failure == "continue" for plan in run.plan.nodes.values())

    def _judge_attempt(self, run: Run, attempt: Attempt) -> None:
        assert attempt.state is AttemptState.ENDED, f"{run.id} left {attempt.key} {attempt.state}"
        jobs = [job for job in self._jobs() if job.key == attempt.key]
        if attempt.outcome is Outcome.SUCCEEDED and attempt.ref is not None:
            assert not jobs or any(job.outcome in _GOOD for job in jobs), f"{attempt.key} is green and was not"
        may_repeat = any(run.plan.nodes[job.node].delivery is Delivery.AT_LEAST_ONCE for job in jobs)
        if attempt.outcome in {Outcome.REJECTED, Outcome.SKIPPED} and not may_repeat:
            assert not jobs, f"{attempt.key} was rejected and is in the ledger"

    def _judge_journal(self) -> None:
        seqs: dict[str, list[int]] = {}
        for row in self.world.journal():
            seqs.setdefault(row.run_id, []).append(row.transition.seq)
        for run_id, found in seqs.items():
            assert found == list(range(1, len(found) + 1)), f"the journal of {run_id} has a gap"
