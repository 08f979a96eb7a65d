"""A status that somebody edited: it may send users back to Heroku, but not to EKS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.kit.states import checked_world, judging_world
from tests.kit.world import DEAD, ROUTE_NAME, World

from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete, Phase, RouteRecord
from cutover.domain.engine.actions import Finalize, WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.observation import Observation


def edited(world: World, **fields: Any) -> World:
    """Let somebody write the status, and the operator restart and read it."""
    world.stored = world.stored.evolve(**fields)
    world.restart()
    return world


def highest(world: World, seconds: float = 120.0) -> int:
    """Return the highest weight that the route gets from now on."""
    world.weights.clear()
    world.run(seconds)
    return max((weight or 0 for weight in world.weights), default=world.route.weight if world.route else 0)


def steps() -> World:
    """Return a world that stays at 10 %, as the next step needs a person."""
    return judging_world(
        10, steps=[{"weight": 10, "hold": "10s"}, {"weight": 25, "approval": "Manual"}, {"weight": 100}]
    )


def last(status: MigrationPlanStatus) -> tuple[str, int, str]:
    entry = status.ledger[-1]
    return entry.decision, entry.to_weight, entry.reason


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED])
def test_a_weight_that_no_decision_led_to_reaches_no_route(phase: Phase) -> None:
    world = edited(steps(), phase=phase, weight=100)
    assert highest(world) == 10
    assert (world.status.phase, world.status.weight) == (Phase.SHIFTING, 10)
    assert ("Withdraw", 10, "StatusDoubted") in [
        (one.decision, one.to_weight, one.reason) for one in world.status.ledger
    ]
    assert any("did somebody edit the status?" in event.message for event in world.told("StatusDoubted"))


def _without_checkpoint(world: World) -> dict[str, Any]:
    return {"weight": 100, "checkpoint": None}


def _without_ledger(world: World) -> dict[str, Any]:
    return {"weight": 100, "ledger": ()}


def _with_a_move(world: World) -> dict[str, Any]:
    """Forge the move, too; the checkpoint still says that it came from elsewhere."""
    move = world.stored.ledger[-1].model_copy(update={"decision": "Advance", "from_weight": 10, "to_weight": 100})
    return {"weight": 100, "ledger": (*world.stored.ledger, move)}


@pytest.mark.parametrize("forged", [_without_checkpoint, _without_ledger, _with_a_move])
def test_phase_ledger_checkpoint_and_route_have_to_fit(forged: Callable[[World], dict[str, Any]]) -> None:
    world = steps()
    assert highest(edited(world, **forged(world))) == 10


@pytest.mark.parametrize("phase", [Phase.PREFLIGHT, Phase.BASELINE, Phase.ROLLING_BACK, Phase.ROLLED_BACK])
def test_phases_on_heroku_have_no_users_on_eks(phase: Phase) -> None:
    world = edited(steps(), phase=phase)
    world.on_decision = None  # nobody decided on this phase
    world.reconcile()
    assert world.route is not None
    assert world.route.weight == 0


def test_a_lower_weight_is_believed() -> None:
    world = edited(steps(), weight=0)
    world.reconcile()
    assert world.route is not None
    assert world.route.weight == 0


def test_a_raise_that_was_decided_goes_on_after_a_restart() -> None:
    world = steps()
    world.annotations["cutover.dev/approve"] = "a1-w25"
    world.until(lambda status: status.weight == 25)
    world.restart()
    world.until_judging(25)
    assert not world.told("StatusDoubted")


def test_the_route_is_recorded_once_it_was_written_and_before_users_are_on_eks() -> None:
    world = checked_world().until(lambda status: status.weight == 0)
    assert world.stored.route == RouteRecord(), "the trial is over, and the users' route is not seen yet"
    world.until_phase(Phase.BASELINE)
    assert world.stored.route is not None
    assert world.stored.route.name == ROUTE_NAME
    world.until_judging(10)
    assert last(world.stored)[0] == "Advance"
    assert world.stored.route == RouteRecord(name=ROUTE_NAME)


@pytest.mark.parametrize("phase", [Phase.SOAKING, Phase.COMPLETED])
def test_a_phase_without_judgement_at_a_low_weight_is_judged_again(phase: Phase) -> None:
    world = edited(steps(), phase=phase)
    world.until_judging(10)
    world.eks = DEAD
    world.until_phase(Phase.ROLLED_BACK)


def test_a_deletion_does_not_raise_to_a_weight_that_no_decision_led_to() -> None:
    world = edited(steps(), phase=Phase.COMPLETED, weight=100)
    world.edit(onDelete="EKS")
    world.deleting = True
    decision = decide(world.plan(), world.observe(), world.now)
    assert decision.actions == (Finalize(OnDelete.LEAVE),)
    assert [event.reason for event in decision.events] == ["RestsElsewhere"]


def test_digests_of_original_routes_are_stored_before_the_routes_are_written() -> None:
    world = checked_world()
    decisions = []

    def with_originals() -> Observation:
        seen = world.observe()
        assert seen.traffic is not None
        return replace(seen, traffic=replace(seen.traffic, originals=("new", "there")))

    while not decisions or decisions[-1].status.weight is None:
        world.step()
        decisions.append(decide(world.plan(), with_originals(), world.now))
    taken = decisions[-1]
    assert taken.status.route is not None
    assert taken.status.route.originals == ("new", "there")
    assert isinstance(taken.actions[0], WriteStatus)
    # A change of what is there is a reason to write.
    world.until_phase(Phase.BASELINE)
    assert WriteStatus() in decide(world.plan(), with_originals(), world.now).actions
