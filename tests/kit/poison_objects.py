"""Large objects, each of which fits into etcd: those of another team, and one's own Deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.kit import builders
from tests.kit.builders import GATEWAY, PUBLIC_HOST
from tests.kit.target import OPEN_SERVER, READY, named

from cutover.domain.plan import Plan
from cutover.domain.preflight.caps import Rooms
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.inventory import Inventory, Listing
from cutover.domain.preflight.registry import CHECKS
from cutover.domain.resources import HORIZONTAL_POD_AUTOSCALERS, POD_DISRUPTION_BUDGETS, Json, Resource


def plan(**istio: Any) -> Plan:
    return builders.plan(namespace="docs", istio=istio, status={"phase": "Preflight", "attempt": 1})


PLAN = plan()
WILDCARD = plan(hosts=["*.m.co", "pdf.m.co"])
SERVICE = f"{PLAN.spec.eks.service.name}.docs.svc.cluster.local"


def virtual_service(name: str = "v", **spec: Any) -> Json:
    return named("mallory", name, spec={"hosts": ["x.m.co"], "gateways": [GATEWAY], **spec})


def to(*hosts: str) -> Json:
    return {"route": [{"destination": {"host": host}, "weight": 1} for host in hosts]}


SHARED = named(*GATEWAY.split("/"), spec={"selector": {"istio": "ingressgateway"}, "servers": [OPEN_SERVER]})

#: Objects of another team, by what is large about them.
OF_OTHERS: dict[str, dict[Resource, Sequence[Json]]] = {
    "selector": {
        GATEWAYS: [
            named("mallory", "g", spec={"selector": {**{f"a{n}": "" for n in range(20_000)}, "istio": "other"}})
        ],
        VIRTUAL_SERVICES: [virtual_service(gateways=["g"] * 2000)],
    },
    "servers": {GATEWAYS: [named("mallory", "g", spec={"servers": [{"hosts": ["a.m.co"]}] * 30_000})]},
    "hosts of a Gateway": {
        GATEWAYS: [named("mallory", "g", spec={"servers": [{"hosts": [f"a{n}.m.co" for n in range(80_000)]}]})]
    },
    "hosts": {VIRTUAL_SERVICES: [virtual_service(hosts=[f"a{n}.m.co" for n in range(90_000)])]},
    "the plan's own host, many times": {
        VIRTUAL_SERVICES: [virtual_service(hosts=[PUBLIC_HOST] * 60_000, gateways=[GATEWAY, "g"] * 100)]
    },
    "gateways": {VIRTUAL_SERVICES: [virtual_service(gateways=[f"istio-ingress/g{n}" for n in range(60_000)])]},
    "routes": {VIRTUAL_SERVICES: [virtual_service(http=[to("a")] * 22_000)]},
    "routes to the plan's Service": {
        VIRTUAL_SERVICES: [virtual_service(hosts=[f"a{n}.m.co" for n in range(30_000)], http=[to(SERVICE)] * 9000)]
    },
    "destinations": {VIRTUAL_SERVICES: [virtual_service(http=[to(*(f"s{n}" for n in range(25_000)))])]},
    "mirrors": {
        VIRTUAL_SERVICES: [virtual_service(http=[{"mirrors": [{"destination": {"host": SERVICE}}] * 25_000}])]
    },
    "delegates": {VIRTUAL_SERVICES: [virtual_service(http=[{"delegate": {"name": f"d{n}"}} for n in range(40_000)])]},
    "metrics": {
        HORIZONTAL_POD_AUTOSCALERS: [
            named(
                "mallory",
                "h",
                spec={
                    "scaleTargetRef": {"kind": "Deployment", "name": "x"},
                    "metrics": [{"type": "External", "external": {"metric": {"name": "q"}}}] * 20_000,
                },
            )
        ]
    },
    "budget": {
        POD_DISRUPTION_BUDGETS: [
            named("mallory", "b", spec={"selector": {"matchLabels": {f"a{n}": "b" for n in range(60_000)}}})
        ]
    },
}

KEPT = {read.resource: read.keep for check in CHECKS for read in check.reads if read.names is None}
BY_NAME = {
    read.resource: read.keep
    for check in CHECKS
    for read in check.reads
    if read.names is not None and read.keep is not None
}


def read_all(resource: Resource, bodies: Sequence[Json]) -> Listing:
    """Return objects as they are listed."""
    keep, rooms = KEPT[resource], Rooms()
    assert keep is not None
    return Listing(rooms.fit(keep(body)) for body in bodies)


def inventory_of(asked: Plan, objects: dict[Resource, Sequence[Json]]) -> Inventory:
    """Return what a plan reads where these objects are beside its own."""
    whole = READY.inventory(asked)
    lists = {resource: read_all(resource, bodies) for resource, bodies in objects.items()}
    gateways = read_all(GATEWAYS, [SHARED, *objects.get(GATEWAYS, ())])
    return replace(whole, lists={**whole.lists, **lists, GATEWAYS: gateways})


def pod(container: Json, **spec: Any) -> Json:
    whole = {"name": "web", "image": "x:1", "ports": [{"containerPort": 80}], **container}
    template = {"spec": {"containers": [whole], **spec}}
    return named("docs", PLAN.spec.eks.workload_ref.name, spec={"replicas": 2, "template": template})


DEPLOYED = {
    "words": pod({"command": ["env"] * 60_000}),
    "many wrappers": pod({"command": ["env", "A=b"] * 240}),
    "script": pod({"command": ["sh", "-c", "a b " * 300_000]}),
    "a script that is looked at": pod({"command": ["sh", "-c", "env a; " * 2300]}),
    "unclosed quote": pod({"command": ["sh", "-c", '"' + "a" * 1_000_000]}),
    "many scripts": pod({}, initContainers=[{"name": f"i{n}", "args": ["sh", "-c", ";" * 3000]} for n in range(400)]),
    "variables": pod({"env": [{"name": f"A{n}", "value": "a." * 50} for n in range(9000)]}),
    "containers": pod({}, initContainers=[{"name": "i", "image": "i"}] * 30_000),
    "image": pod({"image": "a" * 1_000_000}),
    "program": pod({"command": ["sh", "-c", "b" * 300_000 + " c"]}),
}
