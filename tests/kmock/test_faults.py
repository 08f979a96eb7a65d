"""The API server fails: everything is tried again, in order, and is done once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import PLANS, VIRTUAL_SERVICES, Fault
from tests.kit.kopf_harness import KopfRig, make_target, route, shifting

ROLL_BACK = {"metadata": {"annotations": {"cutover.dev/rollback": "a1"}}}

#: How an API server fails, and whether it has made the write all the same; by the name of the plan that it hits.
FAILURES: dict[str, tuple[Any, bool]] = {
    "conflict": (409, False),
    "error": (500, False),
    "throttled": (429, False),
    "late": (504, True),
    "broken": (500, True),
    "hang": ("hang", False),
    "lost": ("hang", True),
    "reset": ("reset", True),
}


@pytest.mark.parametrize("what", ["status", "route"])
async def test_a_rollback_is_made_once_whatever_fails(world: KopfRig, what: str) -> None:
    """Each kind of failure hits a plan of its own, side by side."""
    for name in FAILURES:
        await world.api.write(PLANS, plan_body(name, status=shifting(25)))
        await world.api.write(VIRTUAL_SERVICES, route(name, 25))
    async with world.running():
        await world.until("a reconcile", lambda: all(world.reconciles(name) for name in FAILURES))
        for name, (kind, made) in FAILURES.items():
            path = f"/{name}/status" if what == "status" else f"virtualservices/cutover-{name}"
            world.api.fail("PUT", path, kind, times=2, made=made)
        for name in FAILURES:
            await world.api.merge(PLANS, NAMESPACE, name, ROLL_BACK)
        for name in FAILURES:
            await world.until_phase("RolledBack", name)
            assert world.weight(name) == 0
            ledger = [entry["decision"] for entry in world.status(name)["ledger"]]
            assert ledger.count("RollBack") == 1, name
        assert all(fault.hits for fault in world.api.faults)
        assert world.operator is not None
        loops = world.operator.loops.values()
        await world.until("all well", lambda: all(loop.failing_since == 0 for loop in loops))
        # Told once, also where the answer to the write was lost.
        assert sorted(loop.rollbacks for loop in loops) == [1] * len(FAILURES)
        told = [event["involvedObject"]["name"] for event in world.api.events() if event["reason"] == "RollBack"]
        assert sorted(told) == sorted(FAILURES)


async def test_a_takeover_is_made_once_whatever_fails(world: KopfRig) -> None:
    names = ("conflict", "error", "lost", "reset")
    for name in names:
        kind, made = FAILURES[name]
        await make_target(world.api, name)
        world.api.fail("POST", "virtualservices", kind, times=2, made=made, name=f"cutover-{name}")
        world.api.fail("POST", "serviceentries", kind, times=1, made=made, name=f"cutover-{name}")
        world.api.fail("PUT", f"/{name}/status", kind, times=2, made=made)
    async with world.running():
        for name in names:
            await world.api.write(PLANS, plan_body(name))
        for name in names:
            # A check that got no answer is repeated ten seconds later.
            await world.until_phase("Baseline", name, 240.0)
            assert world.weight(name) == 0
            ledger = [entry["decision"] for entry in world.status(name)["ledger"]]
            assert ledger.count("TakeOver") == 1, name
        assert all(fault.hits for fault in world.api.faults)


async def test_a_rollback_goes_to_the_route_while_the_status_cannot_be_written(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body(status=shifting(25)))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        world.api.fail("PUT", "/status", 500)
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await world.until("weight 0", lambda: world.weight() == 0)
        assert world.status()["phase"] == "Shifting"
        world.api.faults.clear()
        await world.until_phase("RolledBack")


async def test_the_api_server_is_away_for_a_while(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body(status=shifting(25)))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        for method in ("GET", "POST", "PUT", "PATCH"):
            world.api.faults.append(Fault(method, "/", "reset"))
        world.api.disconnect()
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await asyncio.sleep(1.0)
        assert world.weight() == 25
        world.api.faults.clear()
        await world.until_phase("RolledBack")
        assert world.weight() == 0


async def test_a_conflict_that_stays_does_not_become_a_storm(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body(status=shifting(25)))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        fault = world.api.fail("PUT", "/status", 409)
        started = time.monotonic()
        await world.api.merge(PLANS, NAMESPACE, "pdf", ROLL_BACK)
        await world.until("many attempts", lambda: fault.hits >= 8)
        assert time.monotonic() - started > 0.3


async def test_two_operators_do_not_undo_each_other(world: KopfRig) -> None:
    """Somebody else's status is adopted, not overwritten."""
    await world.api.write(PLANS, plan_body(status=shifting(25)))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        raised = shifting(50)
        other = {**raised, "step": "3/4", "checkpoint": {**raised["checkpoint"], "previousWeight": 25}}
        await world.api.replace_status(NAMESPACE, "pdf", other)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"spec": {"soak": "1h"}})
        await world.until("the new generation", lambda: world.status().get("observedGeneration") == 2)
        assert world.status()["weight"] == 50
        await world.until("its weight", lambda: world.weight() == 50)
