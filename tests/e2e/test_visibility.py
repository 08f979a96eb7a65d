"""Meshes whose defaults hide objects from other namespaces, and roots where the gateway is, on the real istiod."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.exported import EXPORT_ANNOTATION
from cutover.domain.preflight.checks.istio.names import PROBE_HEADER
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Leg
from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .team_routes import own_heroku, to_delegate, to_heroku, virtual_service

#: Where the plan's Gateway is.
EDGE = "istio-ingress"


@pytest.fixture(scope="module")
def closed(environment: Environment) -> Iterator[None]:
    """A mesh where objects are for their own namespaces, unless they say otherwise; and the usual one afterwards."""
    service = {
        "metadata": {"name": "unsaid", "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    environment.stack.apply([{"apiVersion": "v1", "kind": "Service", **service}])
    _until_seen(environment, "unsaid", seen=True)
    kinds = ("Service", "VirtualService", "DestinationRule")
    environment.stack.configure_mesh(**{f"default{kind}ExportTo": ["."] for kind in kinds})
    _until_seen(environment, "unsaid", seen=False)
    yield
    environment.stack.configure_mesh()
    _until_seen(environment, "unsaid", seen=True)


def _until_seen(environment: Environment, service: str, *, seen: bool) -> None:
    """Wait until the gateway sees a Service, or does not."""
    name, clusters = f"||{service}.{NAMESPACE}.svc.", f"{environment.stack.envoy_admin_url}/clusters"
    environment.until(f"{service} at the gateway: {seen}", lambda: (name in fetch(clusters).decode()) is seen, 30)


async def answered(environment: Environment, service: str, leg: Leg | None = None) -> tuple[int, str, str]:
    """Return status, leg and revision of the answer to a user, or to a probe of a leg."""
    headers = {"host": manifests.public_host(service)}
    if leg is not None:
        plan = Plan.from_object(environment.plan(service))
        headers[PROBE_HEADER] = probe_value(plan, leg, "a1-w0")
    async with (
        aiohttp.ClientSession(environment.stack.gateway_url, headers=headers) as session,
        session.get("/") as response,
    ):
        return response.status, response.headers.get("x-leg", ""), response.headers.get(HEADER, "")


def show_service(environment: Environment, service: str) -> None:
    """Do for the team's Service what docs/ownership.md says."""
    environment.stack.kubectl("-n", NAMESPACE, "annotate", "service", service, f"{EXPORT_ANNOTATION}={EDGE}")


async def _serves(environment: Environment, service: str, leg: Leg | None = None) -> None:
    """See that users, or the probes of a leg, are answered by the plan's route."""
    wanted = 200, str(leg or "heroku"), "a1-w0"
    for _ in range(100):
        if (found := await answered(environment, service, leg)) == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{service}: {found}, not {wanted}")


@pytest.mark.uses("hidden", minutes=0.5)
@pytest.mark.usefixtures("closed")
async def test_the_meshs_defaults_hide_nothing_of_the_operators(alone: Environment) -> None:
    show_service(alone, "hidden")
    alone.apply(manifests.plan("hidden", ceiling=0))
    alone.until_status("hidden", 60, phase="Baseline")
    for leg in (None, Leg.HEROKU, Leg.EKS):
        await _serves(alone, "hidden", leg)


@pytest.mark.uses("edge", minutes=0.5)
@pytest.mark.usefixtures("closed")
async def test_a_root_where_the_gateway_is(alone: Environment) -> None:
    """A platform's root for several teams: one of them has its paths moved, the others' stay."""
    root = virtual_service(
        "edge",
        {"match": [{"uri": {"prefix": "/others"}}], "directResponse": {"status": 418}},
        to_delegate("edge"),
        {"route": [to_heroku("edge")]},
    )
    root["metadata"]["namespace"] = EDGE
    show_service(alone, "edge")
    alone.stack.apply([*in_sight(own_heroku(alone, "edge")), root])
    istio = {
        "hosts": [manifests.public_host("edge")],
        "gateways": [f"{EDGE}/public"],
        "ownership": "Delegate",
        "virtualServiceRef": {"name": "team-edge", "namespace": EDGE},
    }
    alone.apply(manifests.plan("edge", ceiling=0, traffic={"istio": istio}))
    alone.until_status("edge", 60, phase="Baseline")
    for leg in (None, Leg.HEROKU, Leg.EKS):
        await _serves(alone, "edge", leg)
    async with aiohttp.ClientSession(alone.stack.gateway_url) as session:
        response = await session.get("/others", headers={"host": manifests.public_host("edge")})
        assert (response.status, response.headers.get(HEADER)) == (418, None)


def in_sight(objects: list[Json]) -> list[Json]:
    """Return a team's objects with the gateway's namespace among those that see them."""
    return [{**body, "spec": {**body["spec"], "exportTo": [".", EDGE]}} for body in objects]
