"""Plans as kubectl-cutover has them: from the API server, with the status as it was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

from tests.kit.states import HOLD_CASES, PHASE_CASES, Json
from tests.kit.world import World

from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS


def seen(world: World) -> tuple[Plan, datetime]:
    """Return a world's plan as it is stored, and the world's time."""
    return replace(world.plan(), status=world.stored), datetime.fromtimestamp(world.now, UTC)


@cache
def held_for(reason: HoldReason) -> tuple[Plan, datetime]:
    """Return a plan that is held for a reason."""
    world = HOLD_CASES[reason].make()
    world.until(lambda _: world.stored.held is not None and world.stored.held.reason == reason, within=10_000)
    return seen(world)


@cache
def in_phase(name: str) -> tuple[Plan, datetime]:
    """Return a plan of a case of :data:`tests.kit.states.PHASE_CASES`."""
    return seen(PHASE_CASES[name].make())


def body_of(plan: Plan) -> Json:
    """Return a plan as the API server has it."""
    return {
        "apiVersion": PLANS.api_version,
        "kind": PLANS.kind,
        "metadata": {
            "namespace": plan.namespace,
            "name": plan.name,
            "uid": plan.uid,
            "generation": plan.generation,
            "creationTimestamp": "2027-01-11T09:59:00Z",
            "annotations": dict(plan.annotations),
        },
        "spec": plan.spec.to_wire(),
        "status": plan.status.to_wire(),
    }
