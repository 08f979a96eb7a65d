"""The API server fails: everything is tried again, in order, and is done once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fake_api import PLANS, VIRTUAL_SERVICES, Fault
from harness import NAMESPACE, World, plan_body, route, shifting

ROLL_BACK = {"metadata": {"annotations": {"cutover.dev/rollback": "a1"}}}

#: How an API server fails, and whether it has made the write all the same.
FAILURES = [(409, False), (500, False), (500, True), (429, False), (504, True), ("hang", False), ("hang", True), ("reset", True)]


@pytest.mark.parametrize("path", ["/status", "virtualservices"])
@pytest.mark.parametrize(("kind", "made"), FAILURES)
async def test_a_rollback_is_made_once_whatever_fails(world: World, path: str, kind: Any, made: bool) -> None:
    await world.api.put(PLANS, plan_body(status=shifting(25)))
    await world.api.put(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a pass", lambda: world.passes() > 0)
        fault = world.api.fail("PUT", path, kind, times=2, made=made)
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await world.until("RolledBack", lambda: world.status()["phase"] == "RolledBack")
        assert world.weight() == 0
        assert fault.hits == 2 or made
        ledger = [entry["decision"] for entry in world.status()["ledger"]]
        assert ledger.count("RollBack") == 1
        assert world.operator is not None
        (loop,) = world.operator.loops.values()
        assert loop.failing_since == 0


@pytest.mark.parametrize(("kind", "made"), FAILURES)
async def test_a_takeover_is_made_once_whatever_fails(world: World, target: None, kind: Any, made: bool) -> None:
    faults = [
        world.api.fail("POST", "virtualservices", kind, times=2, made=made),
        world.api.fail("POST", "serviceentries", kind, times=1, made=made),
        world.api.fail("PUT", "/status", kind, times=2, made=made),
    ]
    async with world.running():
        await world.api.put(PLANS, plan_body())
        await world.until("baseline", lambda: world.status().get("phase") == "Baseline")
        assert world.weight() == 0
        assert [entry["decision"] for entry in world.status()["ledger"]].count("TakeOver") == 1
        assert all(fault.hits for fault in faults)


async def test_a_rollback_goes_to_the_route_while_the_status_cannot_be_written(world: World) -> None:
    await world.api.put(PLANS, plan_body(status=shifting(25)))
    await world.api.put(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a pass", lambda: world.passes() > 0)
        world.api.fail("PUT", "/status", 500)
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await world.until("weight 0", lambda: world.weight() == 0)
        assert world.status()["phase"] == "Shifting"
        world.api.faults.clear()
        await world.until("RolledBack", lambda: world.status()["phase"] == "RolledBack")


async def test_the_api_server_is_away_for_a_while(world: World) -> None:
    await world.api.put(PLANS, plan_body(status=shifting(25)))
    await world.api.put(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a pass", lambda: world.passes() > 0)
        for method in ("GET", "POST", "PUT", "PATCH"):
            world.api.faults.append(Fault(method, "/", "reset"))
        world.api.disconnect()
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await asyncio.sleep(1.0)
        assert world.weight() == 25
        world.api.faults.clear()
        await world.until("RolledBack", lambda: world.status()["phase"] == "RolledBack")
        assert world.weight() == 0


async def test_a_conflict_that_stays_does_not_become_a_storm(world: World) -> None:
    await world.api.put(PLANS, plan_body(status=shifting(25)))
    await world.api.put(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a pass", lambda: world.passes() > 0)
        fault = world.api.fail("PUT", "/status", 409)
        started = time.monotonic()
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await world.until("many attempts", lambda: fault.hits >= 8)
        assert time.monotonic() - started > 0.3


async def test_two_operators_do_not_undo_each_other(world: World) -> None:
    """Somebody else's status is adopted, not overwritten."""
    await world.api.put(PLANS, plan_body(status=shifting(25)))
    await world.api.put(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a pass", lambda: world.passes() > 0)
        other = {**shifting(50), "step": "3/4", "ledger": []}
        await world.api.replace_status(NAMESPACE, "pdf", other)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"spec": {"soak": "1h"}})
        await world.until("the new generation", lambda: world.status().get("observedGeneration") == 2)
        assert (world.status()["weight"], world.weight()) == (50, 50)
