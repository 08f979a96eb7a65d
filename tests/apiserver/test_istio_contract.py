"""The contract of traffic providers, by Istio in the real API server, with the chart's permissions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kit.provider_contract import TrialContract

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.api.v1alpha1 import MigrationPlanSpec, Ownership
from cutover.domain.marks import PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.resources import Json

HEROKU = "acme-pdf-1a2b3c.herokuapp.com"
GATEWAY = "istio-ingress/public"
TEAMS_ROUTES: dict[Ownership, list[Json]] = {
    Ownership.DELEGATE: [{"delegate": {"name": "cutover-pdf"}}],
    Ownership.ADOPT: [
        {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "cdn"}}]},
        {"route": [{"destination": {"host": HEROKU}}]},
    ],
}


class IstioRig:
    """A namespace with somebody's VirtualService, and the team's own one where there is one."""

    def __init__(self, cluster: Cluster, api: Any, namespace: str, ownership: Ownership) -> None:
        self.cluster, self.api = cluster, api
        self.path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"
        self.name = "pdf" if ownership is Ownership.ADOPT else "cutover-pdf"
        self.restores_deleted = ownership is not Ownership.ADOPT
        istio: Json = {"hosts": ["pdf.example.com"], "gateways": [GATEWAY], "ownership": ownership}
        if ownership is not Ownership.GENERATE:
            istio["virtualServiceRef"] = {"name": "pdf"}
            self._create("pdf", "pdf.example.com", TEAMS_ROUTES[ownership])
        self._create("images", "images.example.com", [{"route": [{"destination": {"host": "images"}}]}])
        spec = {
            "heroku": {"app": "acme-pdf", "hostname": HEROKU},
            "eks": {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}},
            "traffic": {"istio": istio},
        }
        uid = "8f14e45f-ceea-467f-9575-1f2d3c4b5a69"
        self.plan = Plan(namespace, "pdf", uid, 1, MigrationPlanSpec.model_validate(spec))

    def _create(self, name: str, host: str, routes: list[Json]) -> None:
        body = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": name},
            "spec": {"hosts": [host], "gateways": [GATEWAY], "http": routes},
        }
        status, answer = self.api.call("POST", self.path, body, fieldManager="kubectl-create")
        assert status == 201, answer

    def process(self) -> IstioTraffic:
        return IstioTraffic(self.cluster)

    async def edit_weight(self, percent: int) -> None:
        http = (await self.cluster.get(VIRTUAL_SERVICES, self.plan.namespace, self.name))["spec"]["http"]
        for route in http:
            if len(route["route"]) == 2:
                heroku, eks = route["route"]
                heroku["weight"], eks["weight"] = 100 - percent, percent
        answer = self.api.client.patch(
            f"{self.path}/{self.name}",
            params={"fieldManager": "kubectl-edit"},
            content=json.dumps({"spec": {"http": http}}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text

    async def delete_route(self) -> None:
        status, answer = self.api.call("DELETE", f"{self.path}/{self.name}")
        assert status == 200, answer

    async def _objects(self) -> list[Json]:
        kinds = (VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES)
        return [body for kind in kinds for body in await self.cluster.list(kind, self.plan.namespace)]

    async def versions(self) -> Any:
        return sorted(body["metadata"]["resourceVersion"] for body in await self._objects())

    async def teams(self) -> Any:
        if self.name == "cutover-pdf":
            return None
        body = await self.cluster.get(VIRTUAL_SERVICES, self.plan.namespace, self.name)
        return body["metadata"].get("labels") or {}, body["metadata"].get("annotations") or {}, body["spec"]

    async def others(self) -> Any:
        return [
            body
            for body in await self._objects()
            if PLAN_UID_ANNOTATION not in (body["metadata"].get("annotations") or {})
            and body["metadata"]["name"] != self.name
        ]


@pytest.mark.usefixtures("istio_crds")
class TestIstio(TrialContract):
    @pytest.fixture(params=Ownership)
    def rig(self, cluster: Cluster, api: Any, namespace: str, request: pytest.FixtureRequest) -> IstioRig:
        return IstioRig(cluster, api, namespace, request.param)
