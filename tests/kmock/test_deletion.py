"""A plan is deleted: its traffic is put to rest first, however long that takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import PLANS, VIRTUAL_SERVICES
from tests.kit.kopf_harness import FINALIZER, KopfRig, gone, halfway, looked_after, route, shifting


@pytest.mark.parametrize(("end", "weight"), [("Rest", 0), ("Heroku", 0), ("EKS", 0), ("Leave", 50)])
async def test_traffic_is_put_to_rest_and_the_plan_let_go(world: KopfRig, end: str, weight: int) -> None:
    await halfway(world, onDelete=end)
    async with world.running():
        await looked_after(world)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() == weight


async def test_a_deletion_waits_for_the_route(world: KopfRig) -> None:
    await halfway(world)
    async with world.running():
        await looked_after(world)
        broken = world.api.fail("PUT", "virtualservices", 500)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await world.until("several attempts", lambda: broken.hits >= 4)
        assert world.plan() is not None
        told = [event["message"] for event in world.api.events() if event["reason"] == "NotPutToRest"]
        assert len(told) == 1
        assert "injected" in told[0]
        world.api.faults.clear()
        await gone(world)
        assert world.weight() == 0


async def test_a_waiting_deletion_heeds_a_change_of_on_delete(world: KopfRig) -> None:
    await halfway(world)
    async with world.running():
        await looked_after(world)
        broken = world.api.fail("PUT", "virtualservices", 500)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await world.until("several attempts", lambda: broken.hits >= 2)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"spec": {"onDelete": "Leave"}})
        await gone(world)
        assert world.weight() == 50


async def test_forged_progress_of_the_deletion_ends_no_deletion(world: KopfRig) -> None:
    await halfway(world)
    done = {"started": "2026-01-01T00:00:00", "stopped": "2026-01-01T00:00:01", "retries": 1, "success": True}
    forged = json.dumps({**done, "purpose": "delete"})
    metadata = {"annotations": {"kopf.cutover.dev/deleted": forged}}
    async with world.running():
        await looked_after(world)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"metadata": metadata})
        broken = world.api.fail("PUT", "virtualservices", 500)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await world.until("several attempts", lambda: broken.hits >= 4)
        world.api.faults.clear()
        await gone(world)
        assert world.weight() == 0


@pytest.mark.parametrize("kind", [500, 429, "reset"])
async def test_a_deletion_outlives_failures_of_kopfs_own_writes(world: KopfRig, kind: Any) -> None:
    """Kopf forgets a deletion whose finalizer it could not drop, until something else happens to the plan."""
    await halfway(world)
    async with world.running():
        await looked_after(world)
        world.api.fail("PATCH", "migrationplans", kind, times=12)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() == 0


async def test_a_plan_that_was_deleted_while_nobody_looked_is_put_to_rest(world: KopfRig) -> None:
    body = plan_body(status=shifting(50))
    body["metadata"] |= {"finalizers": [FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    await world.api.write(PLANS, body)
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 50))
    async with world.running():
        await gone(world)
        assert world.weight() == 0


async def test_a_plan_without_a_route_leaves_none(world: KopfRig) -> None:
    async with world.running():
        await world.api.write(PLANS, plan_body(suspend=True))
        await looked_after(world)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() is None


async def test_a_plan_that_cannot_be_read_can_be_deleted(world: KopfRig) -> None:
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 50))
    async with world.running():
        await world.api.write(PLANS, plan_body(steps=[{"weight": "many"}]))
        await looked_after(world)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
        assert world.weight() == 50


async def test_a_plan_that_loses_its_finalizer_by_hand_is_let_go(world: KopfRig) -> None:
    """Nobody may go on writing a route for a plan that does not exist."""
    await halfway(world)
    async with world.running():
        await looked_after(world)
        broken = world.api.fail("PUT", "virtualservices", 500)
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await world.until("an attempt", lambda: broken.hits)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"metadata": {"finalizers": []}})
        await gone(world)


async def test_a_plan_that_is_removed_at_once_is_let_go(world: KopfRig) -> None:
    await halfway(world)
    async with world.running():
        await looked_after(world)
        world.api.fail("PATCH", "migrationplans", 500, times=2)  # Kopf would put its finalizer back
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"metadata": {"finalizers": []}})
        await world.api.remove(PLANS, NAMESPACE, "pdf")
        await gone(world)
