"""Plans for tests of the Istio adapter, and the API server that has their routing objects, in memory."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.kit import builders
from tests.kit.builders import GATEWAY, HEROKU_HOST, PUBLIC_HOST

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.adapters.traffic.istio.rendering import render
from cutover.api.v1alpha1 import OnDelete, RouteRecord
from cutover.domain.engine import writes
from cutover.domain.engine.actions import Finalize, RestingPlace, SetWeight
from cutover.domain.plan import Plan
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import Split, Trial, desired_split
from cutover.domain.traffic import TrafficState
from cutover.ports.errors import Conflict, Gone, Unavailable


def make_plan(name: str = "pdf", namespace: str = "docs", *, status: Json | None = None, **traffic: Any) -> Plan:
    """Return a plan for two hosts, for users and inside of the mesh, with fields of ``traffic.istio``."""
    return builders.plan(
        name,
        namespace,
        uid="7f0c",
        status={"attempt": 1} | (status or {}),
        heroku={"app": "acme-pdf", "hostname": HEROKU_HOST},
        eks={"service": {"name": "pdf", "port": 8080}, "workloadRef": {"name": "pdf"}},
        istio={"hosts": [PUBLIC_HOST, "docs.example.com"], "gateways": [GATEWAY, "local"]} | traffic,
    )


class FakeCluster:
    """Enough of the API server: versions, conflicts, managed fields; and a record of the requests."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.log: list[str] = []
        self.default: dict[str, Any] = {}
        self.outage = False
        self._version = 0

    def now(self) -> float:
        return 1_799_661_600.0

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self._note("get", resource, name)
        try:
            return copy.deepcopy(self.objects[resource.kind, namespace, name])
        except KeyError:
            raise Gone(name) from None

    async def create(self, resource: Resource, body: Json) -> Json:
        self._note("create", resource, body["metadata"]["name"])
        if self._key(body) in self.objects:
            raise Conflict("exists")
        return self.store(body)

    async def replace(self, resource: Resource, body: Json) -> Json:
        self._note("update", resource, body["metadata"]["name"])
        known = self.objects.get(self._key(body))
        if known is None:
            raise Gone("gone")
        if known["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return self.store(body)

    def store(self, body: Json, manager: str = "cutover") -> Json:
        self._version += 1
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self._version)
        time = datetime.fromtimestamp(self.now(), UTC).strftime("%FT%TZ")
        entry = {"manager": manager, "time": time, "fieldsV1": {"f:spec": {"f:http": {}}}}
        body["metadata"]["managedFields"] = [entry]
        body["spec"] |= self.default
        self.objects[self._key(body)] = body
        return copy.deepcopy(body)

    def route(self) -> Json:
        return copy.deepcopy(self.objects["VirtualService", "docs", "cutover-pdf"])

    def _note(self, verb: str, resource: Resource, name: str) -> None:
        if self.outage:
            raise Unavailable("outage")
        self.log.append(f"{verb} {resource.kind} {name}")

    @staticmethod
    def _key(body: Json) -> tuple[str, str, str]:
        return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]

    def writes(self) -> list[str]:
        return [line for line in self.log if not line.startswith("get")]


class AskedTraffic(IstioTraffic):
    """The Istio provider, asked for a weight as decisions ask for it: in the attempt and phase of the plan's status."""

    async def get(self, plan: Plan, wanted: Split | Trial | int | None, *, fresh: bool = False) -> TrafficState:
        return await super().get(
            plan, desired_split(plan.status, wanted) if isinstance(wanted, int) else wanted, fresh=fresh
        )

    async def set(self, plan: Plan, write: SetWeight | int, *, supersedes: str = "") -> None:
        if isinstance(write, int):
            write = SetWeight(desired_split(plan.status, write), supersedes=supersedes)
        await super().set(plan, write)

    async def finalize(self, plan: Plan, rest: Finalize | RestingPlace) -> None:
        await super().finalize(plan, writes.finalize(plan, rest) if isinstance(rest, OnDelete) else rest)


class RecordedTraffic(AskedTraffic):
    """The same for plans whose status records what decisions record: the route, and digests before they are written.

    Parameters
    ----------
    recorded
        Digests; shared by the providers of several processes.
    """

    def __init__(self, cluster: Cluster, recorded: list[str] | None = None) -> None:
        super().__init__(cluster)
        self.recorded = [] if recorded is None else recorded

    async def get(self, plan: Plan, wanted: Split | Trial | int | None, *, fresh: bool = False) -> TrafficState:
        state = await super().get(self.known(plan), wanted, fresh=fresh)
        self.recorded[:] = state.originals
        return state

    async def set(self, plan: Plan, write: SetWeight | int, *, supersedes: str = "") -> None:
        await self.get(plan, write if isinstance(write, int) else write.split)
        await super().set(self.known(plan), write, supersedes=supersedes)

    async def finalize(self, plan: Plan, rest: Finalize | RestingPlace) -> None:
        await super().finalize(self.known(plan), rest)

    def known(self, plan: Plan) -> Plan:
        name = plan.status.route.name if plan.status.route is not None else ""
        record = RouteRecord(name=name, originals=tuple(self.recorded))
        return replace(plan, status=plan.status.evolve(route=record))


def rendered(plan: Plan, weight: int, **options: Any) -> list[Json]:
    """Return the plan's routing objects at a weight, in the attempt and phase of its status."""
    return render(plan, desired_split(plan.status, weight), **options)
