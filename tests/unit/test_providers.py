"""The contract of traffic providers, in memory: Istio with each ownership, and one that cannot confirm a share."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.kit.played_provider import DNS, STICKY, PlayedProvider, Record, Zone
from tests.kit.provider_contract import ProviderContract, TrialContract
from tests.kit.routing import FakeCluster, make_plan

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.api.v1alpha1 import Ownership
from cutover.domain.marks import PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.domain.traffic import Capabilities

TEAMS_ROUTES = {
    Ownership.DELEGATE: [{"delegate": {"name": "cutover-pdf"}}],
    Ownership.ADOPT: [
        {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "cdn"}}]},
        {"route": [{"destination": {"host": "acme-pdf-1a2b3c.herokuapp.com"}}]},
    ],
}


class IstioInMemory:
    """A cluster with another plan's objects, and the team's own VirtualService where there is one."""

    def __init__(self, ownership: Ownership) -> None:
        self.cluster = FakeCluster()
        self.name = "pdf" if ownership is Ownership.ADOPT else "cutover-pdf"
        self.restores_deleted = ownership is not Ownership.ADOPT
        generates = ownership is Ownership.GENERATE
        reference = {} if generates else {"virtualServiceRef": {"name": "pdf"}}
        self.plan: Plan = make_plan(ownership=ownership, **reference)
        body = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
        spec = {"hosts": list(self.plan.spec.traffic.hosts), "gateways": ["istio-ingress/public", "local"]}
        self.cluster.store({**body, "metadata": {"name": "images", "namespace": "docs"}, "spec": {"http": []}}, "helm")
        if not generates:
            metadata = {"name": "pdf", "namespace": "docs"}
            routes = copy.deepcopy(TEAMS_ROUTES[ownership])
            self.cluster.store({**body, "metadata": metadata, "spec": {**spec, "http": routes}}, "kubectl")

    def process(self) -> IstioTraffic:
        return IstioTraffic(cast("Cluster", self.cluster))

    @property
    def _key(self) -> tuple[str, str, str]:
        return "VirtualService", "docs", self.name

    async def edit_weight(self, percent: int) -> None:
        body = copy.deepcopy(self.cluster.objects[self._key])
        for route in body["spec"]["http"]:
            if len(route["route"]) == 2:
                heroku, eks = route["route"]
                heroku["weight"], eks["weight"] = 100 - percent, percent
        self.cluster.store(body, "kubectl-edit")

    async def delete_route(self) -> None:
        del self.cluster.objects[self._key]

    def _is_ours(self, body: Json) -> bool:
        return PLAN_UID_ANNOTATION in (body["metadata"].get("annotations") or {})

    async def versions(self) -> Any:
        return {key: body["metadata"]["resourceVersion"] for key, body in self.cluster.objects.items()}

    async def others(self) -> Any:
        known = {key: body for key, body in self.cluster.objects.items() if key != self._key}
        return copy.deepcopy({key: body for key, body in known.items() if not self._is_ours(body)})

    async def teams(self) -> Any:
        if self.name == "cutover-pdf":
            return None
        body = copy.deepcopy(self.cluster.objects[self._key])
        return body["metadata"].get("labels") or {}, body["metadata"].get("annotations") or {}, body["spec"]


class TestIstio(TrialContract):
    @pytest.fixture(params=Ownership)
    def rig(self, request: pytest.FixtureRequest) -> IstioInMemory:
        return IstioInMemory(request.param)


class PlayedRig:
    """A zone with another host's record."""

    restores_deleted = True

    def __init__(self, capabilities: Capabilities) -> None:
        self.plan: Plan = make_plan()
        self.capabilities = capabilities
        self.zone = Zone({"images.example.com": Record("other", 40, "", 1)})

    def process(self) -> PlayedProvider:
        return PlayedProvider(self.zone, self.capabilities)

    async def edit_weight(self, percent: int) -> None:
        host = self.plan.spec.traffic.hosts[0]
        self.zone.write(host, replace(self.zone.records[host], weight=percent, writer="the console"))

    async def delete_route(self) -> None:
        del self.zone.records[self.plan.spec.traffic.hosts[0]]

    async def versions(self) -> Any:
        return self.zone.writes

    async def teams(self) -> Any:
        return None

    async def others(self) -> Any:
        return replace(self.zone.records["images.example.com"])


class TestPlayed(ProviderContract):
    @pytest.fixture(params=[DNS, STICKY], ids=lambda can: can.provider.split()[-1])
    def rig(self, request: pytest.FixtureRequest) -> PlayedRig:
        return PlayedRig(request.param)
