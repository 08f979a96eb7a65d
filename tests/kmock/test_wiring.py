"""Kopf and the operator together: who is woken by what."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import cast

import kopf
import pytest
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import PLANS, VIRTUAL_SERVICES, FakeApi
from tests.kit.kopf_harness import KopfRig, route, shifting

from cutover.adapters.traffic.istio.live import ROUTING_KINDS
from cutover.domain.marks import PLAN_LABEL
from cutover.kopf_app import handlers
from cutover.services.operator import Operator


async def test_a_plan_that_appears_is_taken_over(world: KopfRig, target: None) -> None:
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until_phase("Baseline")
        assert world.weight() == 0
        plan = world.plan()
        assert plan is not None
        assert plan["metadata"]["finalizers"] == ["cutover.dev/traffic"]
        assert world.status()["observedGeneration"] == 1


async def test_a_plan_that_was_there_is_looked_after(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body(status={"phase": "Completed", "attempt": 1, "weight": 100}))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        await world.until("the route", lambda: world.weight() == 100)


async def test_a_change_of_the_spec_is_taken_up_at_once(world: KopfRig) -> None:
    await _at_rest(world, "pdf")
    async with world.running():
        await world.until("at rest", lambda: world.status().get("observedGeneration") == 1)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"spec": {"soak": "1h"}})
        await world.until("the new generation", lambda: world.status()["observedGeneration"] == 2)


async def test_an_annotation_for_the_operator_is_taken_up_at_once(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body(status=shifting(25)))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 25))
    async with world.running():
        await world.until("a reconcile", lambda: world.reconciles() > 0)
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"metadata": {"annotations": {"cutover.dev/rollback": "a1"}}})
        await world.until("weight 0", lambda: world.weight() == 0)
        await world.until_phase("RolledBack")


async def test_nothing_else_makes_passes(world: KopfRig, target: None) -> None:
    """Not its own writes, nor what others write into the metadata."""
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until_phase("Baseline")
        reconciles, writes = await _quiet(world)
        labels = {"metadata": {"labels": {"team": "a"}, "annotations": {"other.example/note": "x"}}}
        await world.api.merge(PLANS, NAMESPACE, "pdf", labels)
        await asyncio.sleep(0.7)
        assert (world.reconciles(), world.api.calls("PUT")) == (reconciles, writes)
        # Of Preflight at both sides of the takeover, and of Baseline: a handful, not one an event.
        assert reconciles < 12


async def test_an_edit_of_a_route_wakes_its_plan_and_no_other(world: KopfRig) -> None:
    for name in ("pdf", "images"):
        await _at_rest(world, name)
    async with world.running():
        await world.until("at rest", lambda: world.reconciles("pdf") and world.reconciles("images"))
        reconciles, _ = await _quiet(world, "images")
        edited = route("pdf", 30)
        edited["metadata"]["managedFields"][0]["manager"] = "kubectl-edit"
        await world.api.write(VIRTUAL_SERVICES, edited)
        await world.until("put back", lambda: world.weight("pdf") == 100)
        assert world.reconciles("images") == reconciles


async def test_a_route_that_is_deleted_comes_back(world: KopfRig) -> None:
    await _at_rest(world, "pdf")
    async with world.running():
        await world.until("at rest", lambda: world.reconciles() > 0)
        await _quiet(world)
        await world.api.remove(VIRTUAL_SERVICES, NAMESPACE, "cutover-pdf")
        await world.until("put back", lambda: world.weight() == 100)


async def test_only_routes_of_plans_are_watched(world: KopfRig) -> None:
    """A mesh may have thousands of others."""
    async with world.running():
        await world.until("the watches", lambda: len(_selectors(world.api)) >= 6)
    assert set(_selectors(world.api)) == {PLAN_LABEL}


def _selectors(api: FakeApi) -> list[str]:
    asked = [request for request in api.seen if request.method.value == "GET" and not request.name]
    return [
        request.params.get("labelSelector", "everything")
        for request in asked
        if request.url.path.endswith(tuple(kind.plural for kind in ROUTING_KINDS))
    ]


async def test_without_istio_it_waits_and_says_so(world: KopfRig, caplog: pytest.LogCaptureFixture) -> None:
    for kind in [kind for kind in world.api.resources if kind.group == "networking.istio.io"]:
        del world.api.resources[kind]
    world.api.fail("GET", "networking.istio.io", 404)
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until("a word", lambda: "is its CRD installed?" in world.status().get("message", ""))
        assert world.status()["phase"] == "Preflight"
    assert "Unresolved resources cannot be served" in caplog.text


async def test_a_plan_that_cannot_be_read_says_so_and_goes_on_once_it_can(world: KopfRig, target: None) -> None:
    """Only a CRD of another version than the operator's lets one pass."""
    async with world.running():
        await world.api.write(PLANS, plan_body(steps=[{"weight": "many"}]))
        await world.until("InvalidSpec", lambda: world.status().get("reason") == "InvalidSpec")
        stalled = next(c for c in world.status()["conditions"] if c["type"] == "Stalled")
        assert stalled["status"] == "True"
        assert "steps[0].weight" in stalled["message"]
        assert world.weight() is None
        await world.api.merge(PLANS, NAMESPACE, "pdf", {"spec": {"steps": [{"weight": 100}]}})
        await world.until_phase("Baseline")


def test_no_handler_runs_in_a_thread(world: KopfRig) -> None:
    """As plain functions would: loops and caches are for one thread only."""
    registry = kopf.OperatorRegistry()
    handlers.register(registry, cast("Operator", None))
    kinds = (registry._watching, registry._spawning, registry._changing)
    found = [handler for kind in kinds for handler in kind.get_all_handlers()]
    assert len(found) == 8
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in found)


async def test_named_namespaces_need_no_rights_in_the_cluster(world: KopfRig, target: None) -> None:
    world.settings = world.settings.model_copy(update={"namespaces": (NAMESPACE,)})
    for path in ("/api/v1/namespaces", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"):
        world.api.forbid(path)
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until("a word", lambda: world.status().get("phase"))
    assert not world.api.calls("GET", "customresourcedefinitions")


async def test_a_stop_leaves_nothing_behind(world: KopfRig, target: None) -> None:
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until_phase("Baseline")
        started = time.monotonic()
    assert time.monotonic() - started < 20
    assert world.leftovers == []
    assert world.operator is not None
    assert world.operator.loops == {}
    assert world.block_feed.watched == {}


async def test_a_stop_does_not_wait_for_an_api_server_that_hangs(world: KopfRig) -> None:
    await world.api.write(PLANS, plan_body())
    world.request_timeout = 60.0
    async with world.running():
        hanging = world.api.fail("PUT", "/status", "hang")
        await world.until("some writes", lambda: hanging.hits >= 2)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    assert world.leftovers == []


async def test_the_next_operator_goes_on_where_the_last_one_was(world: KopfRig, target: None) -> None:
    async with world.running():
        await world.api.write(PLANS, plan_body())
        await world.until_phase("Baseline")
        # It is read in the background, and written down when it is known.
        await world.until("what EKS runs is known", lambda: "eks" in world.status().get("releases", {}))
    before, writes = world.status(), world.api.calls("PUT")
    async with world.running():
        reconciles = world.reconciles()
        await world.until("reconciles", lambda: world.reconciles() > reconciles)
        await asyncio.sleep(0.3)
    assert (world.status(), world.api.calls("PUT")) == (before, writes)


async def _quiet(world: KopfRig, name: str = "pdf") -> tuple[int, int]:
    """Wait until neither reconciles nor writes have come for a while; return how many there were.

    At rest the next reconcile comes after minutes.
    """
    seen, since = (-1, -1), 0.0
    while time.monotonic() < since + 0.3 or seen == (-1, -1):
        if seen != (now := (world.reconciles(name), world.api.calls("PUT"))):
            seen, since = now, time.monotonic()
        await asyncio.sleep(0.05)
    return seen


async def _at_rest(world: KopfRig, name: str) -> None:
    await world.api.write(PLANS, plan_body(name, status={**shifting(100), "phase": "Completed"}))
    await world.api.write(VIRTUAL_SERVICES, route(name, 100))
