"""A rollback that was begun by a process which died: the next one says what led to it, as soon as it has read it."""

from __future__ import annotations

import pytest
from tests.kit.world import DEAD, Route, World, plan_spec

from cutover.api.v1alpha1 import Phase
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION
from cutover.domain.engine.phases.rollback import CAUSE_SECONDS

BACK = Route(0, "a1-rollback")


@pytest.fixture
def died() -> World:
    """The route is rolled back, the status is not, and the process has just begun."""

    def harmed() -> World:
        w = World(spec=plan_spec()).until_judging(50)
        w.eks = DEAD
        return w

    dress = harmed().until_phase(Phase.ROLLING_BACK)
    w = harmed()
    w.crash_at = (len(dress.actions) - 2, "after")
    w.until(lambda _: w.route == BACK)
    assert w.stored.phase is Phase.SHIFTING
    return w


def test_the_cause_is_waited_for_and_the_route_left_alone(died: World) -> None:
    died.prometheus_slow = True
    written = len(died.weights)
    died.run(5)
    assert (died.status.phase, died.status.reason, died.route) == (Phase.SHIFTING, "CatchingUp", BACK)
    died.prometheus_slow = False
    died.until_phase(Phase.ROLLED_BACK, within=30)
    (line,) = [entry for entry in died.status.ledger if entry.decision == "RollBack"]
    assert (line.reason, line.from_weight, line.to_weight) == ("EvidenceOfHarm", 50, 0)
    assert died.weights[written:] == []


@pytest.mark.parametrize("trouble", ["prometheus_slow", "prometheus_down"])
def test_it_is_not_waited_for_for_ever(died: World, trouble: str) -> None:
    if trouble == "prometheus_slow":
        died.prometheus_slow = True
    else:
        died.prometheus_up = False
    written = len(died.weights)
    died.until_phase(Phase.ROLLED_BACK, within=CAUSE_SECONDS + 10)
    (line,) = [entry for entry in died.status.ledger if entry.decision == "RollBack"]
    assert line.reason == "Resumed"
    assert died.weights[written:] == []


def test_an_attempt_that_was_raised_meanwhile_does_not_undo_it() -> None:
    """Not even where the route, which alone knows, cannot be read at first."""
    w = World(spec=plan_spec()).until_judging(50)
    w.annotations = {ROLLBACK_ANNOTATION: "a1"}
    w.crash_at = (len(w.actions), "after")
    w.until(lambda _: w.route == BACK)
    written = len(w.weights)
    w.edit(attempt=2)
    w.routes_readable = False
    w.reconcile()
    w.routes_readable = True
    w.until(lambda status: status.phase in (Phase.ROLLED_BACK, Phase.PREFLIGHT), within=60)
    assert [entry.decision for entry in w.status.ledger].count("RollBack") == 1
    assert w.weights[written:] == []
