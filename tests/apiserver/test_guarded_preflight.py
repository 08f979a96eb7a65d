"""Rules and checks that keep a plan to its own namespace, on the real API server."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.corpus import BASE, changed
from tests.kit.host_names import INTERNAL_NAMES

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.inventory import ClusterSettings
from cutover.domain.resources import PLANS
from devstack.stack import Stack

PATH = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"


# --------------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize("hostname", INTERNAL_NAMES)
def test_an_internal_name_is_no_heroku_app(api: Any, hostname: str) -> None:
    status, answer = api.call(
        "POST", PATH.format("default"), changed(BASE, {"heroku.hostname": hostname}), dryRun="All"
    )
    assert status == 422, answer
    assert "write a public name" in answer["message"]


@pytest.mark.parametrize(
    ("field", "value", "weight", "says"),
    [
        ("hosts", ["pdf.example.com", "pay.example.com"], 0, "hosts: none may be added"),
        ("hosts", ["pay.example.com"], 0, "hosts: none may be added"),
        ("hosts", ["pay.example.com"], None, ""),
        ("hosts", ["docs.example.com"], 0, ""),
        ("gateways", ["istio-ingress/public", "istio-ingress/internal"], 0, "gateways: none may be added"),
        ("gateways", ["istio-ingress/internal"], 0, "gateways: none may be added"),
        ("gateways", ["istio-ingress/internal"], None, ""),
        ("gateways", ["istio-ingress/public"], 0, ""),
    ],
)
def test_nothing_is_added_once_preflight_is_over(
    api: Any, namespace: str, field: str, value: list[str], weight: int | None, says: str
) -> None:
    lists = {"traffic.istio.hosts": ["docs.example.com", "pdf.example.com"]}
    lists["traffic.istio.gateways"] = ["istio-ingress/public", "local"]
    status, plan = api.call("POST", PATH.format(namespace), changed(BASE, lists))
    assert status == 201, plan
    path = f"{PATH.format(namespace)}/{plan['metadata']['name']}"
    written = {"observedGeneration": 1, "phase": "RolledBack"} | ({} if weight is None else {"weight": weight})
    status, plan = api.call("PUT", f"{path}/status", {**plan, "status": written})
    assert status == 200, plan
    status, answer = api.call("PUT", path, {**plan, **changed(plan, {f"traffic.istio.{field}": value})})
    assert (status == 200) is (says == ""), answer
    assert says in answer.get("message", "")


# -------------------------------------------------------------------------------------------------------------- checks


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[Cluster]:
    cluster = await Cluster.connect(stack.kubeconfig)
    yield cluster
    await cluster.close()


def named(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.usefixtures("istio_crds")
async def test_a_plan_takes_nothing_of_another_team(
    api: Any, stack: Stack, admin: Cluster, cluster: Cluster, namespace: str
) -> None:
    """With all checks skipped: what belongs to others is asked all the same, by the operator's own account."""
    theirs, edge = f"{namespace}-b", f"{namespace}-edge"
    for name in (theirs, edge):
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    hosts = [f"{name}.{namespace}.example.com" for name in ("free", "theirs", "wild", "bound")]
    body = copy.deepcopy(BASE)
    body["metadata"]["namespace"] = namespace
    body = changed(
        body, {"traffic.istio.gateways": [f"{edge}/public"], "heroku.hostname": f"{namespace}.herokuapp.com"}
    )
    body["spec"]["preflight"] = {"skip": [{"check": name, "reason": "it is mine now"} for name in registry.NAMES]}

    def route(name: str, *hosts: str) -> dict[str, Any]:
        http = [{"route": [{"destination": {"host": "x"}}]}]
        return named(
            "VirtualService", theirs, name, {"hosts": list(hosts), "gateways": [f"{edge}/public"], "http": http}
        )

    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    open_to = [hosts[0], f"*/*.{namespace}.example.com", f"{theirs}/bound.{namespace}.example.com"]
    servers = [{"port": port, "hosts": open_to}]
    stack.apply(
        [
            named("Gateway", edge, "public", {"selector": {"istio": "ingress"}, "servers": servers}),
            route("exact", hosts[1]),
            route("wildcard", f"*.wild.{namespace}.example.com"),
        ]
    )

    async def failed(settings: tuple[str, ...] = (), **fields: Any) -> dict[str, str]:
        wanted = changed(body, {path.replace("_", "."): value for path, value in fields.items()})
        wanted["metadata"]["name"] = "pdf"
        stored = await admin.create(PLANS, {"apiVersion": PLANS.api_version, "kind": PLANS.kind, **wanted})
        try:
            plan = Plan.from_object(stored)
            inventory = await KubernetesInventories(cluster, ClusterSettings(settings)).inventory(plan)
        finally:
            api.call("DELETE", PLANS.path(namespace, "pdf"))
        return {one.check: one.message for one in registry.before_takeover(plan, inventory) if one.result == "Failed"}

    assert await failed(traffic_istio_hosts=[hosts[0]]) == {}
    taken = await failed(traffic_istio_hosts=[hosts[0], hosts[1]])
    assert list(taken) == ["host-unclaimed"]
    assert f"{hosts[1]} by VirtualService {theirs}/exact" in taken["host-unclaimed"]
    wild = await failed(traffic_istio_hosts=[f"a.wild.{namespace}.example.com"])
    assert "theirs" not in wild
    assert f"(*.wild.{namespace}.example.com)" in wild["host-unclaimed"]
    wider = f"*.{namespace}.example.com"
    over = await failed(traffic_istio_hosts=[wider], traffic_probe={"host": f"a.{namespace}.example.com"})
    assert f"{wider} by VirtualService {theirs}/" in over["host-unclaimed"]
    assert f"have {namespace}/{wider} written into the Gateway's hosts" in over["host-unclaimed"]
    closed = await failed(settings=("istio-*",), traffic_istio_hosts=[hosts[0]])
    assert "CUTOVER_GATEWAY_NAMESPACES" in closed["gateway"]
    unserved = await failed(traffic_istio_hosts=["else.example.org"])
    assert f"takes else.example.org from namespace {namespace}" in unserved["gateway"]

    entry = {
        "hosts": [f"{namespace}.herokuapp.com"],
        "resolution": "DNS",
        "ports": [port],
        "location": "MESH_EXTERNAL",
    }
    stack.apply([named("ServiceEntry", theirs, "heroku", entry)])
    shared = await failed(traffic_istio_hosts=[hosts[0]])
    assert f"ServiceEntry {theirs}/heroku" in shared["heroku-unshared"]
