"""Who asked for what is in the journal; a retry by hand takes up the failed work where that is right."""

from __future__ import annotations

from dataclasses import replace

from conductor.core.errors import ErrorClass
from conductor.core.events import CancelNode, CancelRun, Pause, Resume, RetryFailed
from conductor.core.plan import TriggerRule
from conductor.core.states import CancelCause, Cause, NodeState
from conductor.core.vendor import Baseline, ExternalState, IfRunning
from tests.unit.core.worlds import KEYED, WINDOWED, World, error, node, ref

RESUMABLE = replace(KEYED, resume=True)


def asked(world: World) -> list[tuple[str, object]]:
    causes = {Cause.CANCELLED, Cause.PAUSED, Cause.RESUMED}
    return [(row.cause.value, row.detail.get("actor")) for row in world.journal if row.cause in causes]


def test_the_journal_names_who_cancelled_a_running_run() -> None:
    world = World.begun(node()).start().tell(CancelRun(cause=CancelCause.USER, actor="ops", reason="wrong day"))
    assert asked(world) == [("cancelled", "ops")]


def test_the_journal_names_who_cancelled_a_running_node_once() -> None:
    world = World.begun(node()).start()
    world.tell(CancelNode(node="n", actor="ops"), CancelNode(node="n", actor="ops"))
    assert asked(world) == [("cancelled", "ops")]


def test_the_journal_names_who_paused_and_resumed() -> None:
    world = World.begun(node()).tell(Pause(actor="a"), Pause(actor="b"), Resume(actor="c"))
    assert asked(world) == [("paused", "a"), ("resumed", "c")]


def test_a_retry_by_hand_resumes_the_failed_run_inside_the_tool() -> None:
    world = World.begun(node(caps=RESUMABLE)).fail(error_class=ErrorClass.DATA).tell(RetryFailed())
    assert world.attempt().no == 2
    assert world.attempt().resume == ref("r-n-1")


def test_a_retry_by_hand_starts_afresh_when_what_it_builds_on_is_made_anew() -> None:
    world = World.begun(node("load"), node("build", RESUMABLE, after=["load"], trigger_rule=TriggerRule.ALL_DONE))
    world.fail("load").fail("build").tell(RetryFailed())
    world.finish("load")
    assert world.attempt("build").resume is None


def test_somebody_elses_run_is_never_cancelled_at_the_vendor() -> None:
    plan = node(caps=WINDOWED, if_running=IfRunning.ADOPT)
    world = World.begun(plan).prepared(baseline=Baseline(is_busy=True, running=ref("theirs")))
    world.observe(ExternalState.RUNNING).tell(CancelNode(node="n"))
    assert "Cancel n" not in world.owed()
    world.wake(plan.limits.cancel_grace_s)
    assert world.node().state is NodeState.CANCELLED
    ended = world.node().error
    assert ended is not None
    assert "somebody else" in ended.message
    assert error().message not in ended.message
