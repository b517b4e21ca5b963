"""A start whose connection stays stopped: its attempt ends with the reason, unless an earlier send is in doubt."""

from __future__ import annotations

from conductor.core.errors import ErrorClass, ErrorInfo
from conductor.core.events import Barred
from conductor.core.states import AttemptState, NodeState
from tests.unit.core.worlds import World, node

WHY = ErrorInfo(error_class=ErrorClass.AUTH, message="HTTP 401: key revoked")


def barred(world: World) -> World:
    return world.tell(Barred(node="n", attempt_no=world.attempt().no, error=WHY))


def test_a_start_that_was_never_sent_fails_with_the_connections_reason() -> None:
    world = barred(World.begun(node()))
    assert world.node().state is NodeState.FAILED
    assert world.node().reason == WHY.message


def test_an_earlier_send_in_doubt_is_looked_up_instead() -> None:
    world = World.begun(node()).permit().lose().cannot_see()
    assert world.attempt().state is AttemptState.INTENDED
    barred(world)
    assert world.attempt().state is AttemptState.AMBIGUOUS
    assert world.node().state is NodeState.RUNNING


def test_a_start_on_the_wire_is_left_alone() -> None:
    world = World.begun(node()).permit()
    before = world.run
    assert barred(world).run is before
