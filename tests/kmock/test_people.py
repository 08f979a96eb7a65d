"""What people ask by annotations and by deleting, through Kopf and the API server's watch."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import PLANS, VIRTUAL_SERVICES
from tests.kit.kopf_harness import KopfRig, gone, halfway, looked_after, route, shifting


@pytest.mark.parametrize(("on_breach", "weight", "says"), [("RollBack", 0, "goes to Heroku"), ("Hold", 50, "stays")])
async def test_a_plan_that_is_deleted_in_mid_cutover_does_not_end_on_eks(
    world: KopfRig, on_breach: str, weight: int, says: str
) -> None:
    await halfway(world, onDelete="EKS", onBreach=on_breach)
    async with world.running():
        await looked_after(world)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() == weight
        (told,) = [event for event in world.api.events() if event["reason"] == "RestsElsewhere"]
        assert told["type"] == "Warning"
        assert says in told["message"]


@pytest.mark.parametrize(("phase", "end"), [("Shifting", "EKS"), ("Completed", "Rest")])
async def test_a_plan_that_is_deleted_at_its_end_ends_on_eks(world: KopfRig, phase: str, end: str) -> None:
    await world.api.write(PLANS, plan_body(status=shifting(100) | {"phase": phase}, onDelete=end))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 100))
    async with world.running():
        await looked_after(world)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() == 100
        assert not [event for event in world.api.events() if event["reason"] == "RestsElsewhere"]


async def test_an_annotation_is_answered_or_obeyed_at_once_and_names_who_asks(world: KopfRig) -> None:
    await halfway(world)
    async with world.running():
        await looked_after(world)

        async def annotate(text: str) -> None:
            await world.api.merge(
                PLANS, NAMESPACE, "pdf", {"metadata": {"annotations": {"cutover.dev/rollback": text}}}
            )

        def told(reason: str) -> list[dict[str, Any]]:
            return [event for event in world.api.events() if event["reason"] == reason]

        await annotate("now, please")
        await world.until("an answer", lambda: bool(told("Refuse")))
        assert (
            "cutover.dev/rollback says 'now, please': that is not understood; write a1" in told("Refuse")[0]["message"]
        )
        assert world.weight() == 50
        await annotate("a1 by jane@example.com at 2027-01-11T10:00:00Z")
        await world.until("the way back", lambda: world.weight() == 0)
        await world.until("an event", lambda: bool(told("RollBack")))
        assert told("RollBack")[0]["message"].endswith("by jane@example.com at 2027-01-11T10:00:00Z")
        assert len(told("Refuse")) == 1
