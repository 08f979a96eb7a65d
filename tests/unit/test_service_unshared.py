"""Others that send requests to the plan's Service through its gateways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.kit.builders import GATEWAY, plan
from tests.kit.routing import rendered
from tests.kit.target import listed_routes

from cutover.api.v1alpha1 import CheckResult
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL
from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import route_claims
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.preflight.checks.istio.service_unshared import CHECK, others
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import Json

PLAN = plan()
#: Nothing is known of other Gateways.
ALONE = Proxies()
SERVICE, NAMESPACE = PLAN.spec.eks.service.name, PLAN.namespace


def service(namespace: str = NAMESPACE, *, http: list[Json] | None = None, name: str = "pdf-new", **spec: Any) -> Json:
    route = [{"route": [{"destination": {"host": f"{SERVICE}.{NAMESPACE}.svc.cluster.local"}}]}]
    whole = {"hosts": ["pdf-new.example.com"], "gateways": [GATEWAY], "http": http or route, **spec}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": whole}


def to(host: str, weight: int | None = None, beside: str = "") -> Json:
    first = {"destination": {"host": host}} | ({} if weight is None else {"weight": weight})
    return {"route": [first, *([{"destination": {"host": beside}, "weight": 100}] if beside else [])]}


def facts(*items: Json, gateways: Sequence[Json] = ()) -> Facts:
    return Facts(
        inventory=Inventory(lists={VIRTUAL_SERVICES: [route_claims(one) for one in items], GATEWAYS: gateways})
    )


@pytest.mark.parametrize(
    "item",
    [
        service(),
        service("testers"),
        service(http=[to(SERVICE)]),
        service(http=[to("other"), to(SERVICE.upper(), 10, "other")]),
        service(http=[to(SERVICE, 0)]),  # the only destination has all
        service(http=[{"match": [{"headers": {"x-try": {"exact": "1"}}}], **to(SERVICE)}, to("other")]),
        service(http=[{"fault": {"abort": {"httpStatus": 503, "percentage": {"value": 100}}}, **to(SERVICE)}]),
    ],
)
def test_who_sends_there_is_named(item: Json) -> None:
    key = f"{item['metadata']['namespace']}/pdf-new"
    assert others(PLAN, listed_routes(item), ALONE) == [f"VirtualService {key} (pdf-new.example.com)"]


@pytest.mark.parametrize(
    "item",
    [
        service(gateways=["mesh"]),
        service(gateways=["edge/another"]),
        service("testers", http=[to(SERVICE)]),  # their own Service of that name
        service(http=[to(SERVICE, 0, "other")]),
        service(http=[to(f"{SERVICE}.{NAMESPACE}x.svc.cluster.local")]),
        service(http=[{"redirect": {"uri": "/"}}]),
        {"metadata": {"namespace": NAMESPACE, "name": "empty"}},
    ],
)
def test_who_does_not_is_not(item: Json) -> None:
    assert others(PLAN, listed_routes(item), ALONE) == []


def test_a_delegate_is_on_the_gateways_of_its_root() -> None:
    root = service("edge", name="root", http=[{"delegate": {"name": "leaf", "namespace": NAMESPACE}}])
    leaf = service(name="leaf", gateways=[], hosts=[])
    assert others(PLAN, listed_routes(root, leaf), ALONE) == [f"VirtualService {NAMESPACE}/leaf"]
    assert others(PLAN, listed_routes(leaf), ALONE) == []


def test_of_the_plans_own_routes_only_a_mirror_counts() -> None:
    own = service(name="cutover-pdf")
    own["metadata"]["labels"] = {MANAGED_BY_LABEL: FIELD_MANAGER, PLAN_LABEL: PLAN.name}
    assert others(PLAN, listed_routes(own), ALONE) == []
    own["spec"]["http"][0]["mirrors"] = [{"destination": {"host": SERVICE}}]
    assert others(PLAN, listed_routes(own), ALONE) == [
        f"a mirror of VirtualService {NAMESPACE}/cutover-pdf (pdf-new.example.com)"
    ]
    mirrored = service("a", http=[{**to("other"), "mirror": {"host": f"{SERVICE}.{NAMESPACE}.svc.x"}}])
    assert others(PLAN, listed_routes(mirrored), ALONE)


def test_another_plan_counts_from_its_first_step_on() -> None:
    """At weight 0 only its route for probes of EKS goes there."""
    another = plan("another", eks={"service": {"name": SERVICE, "port": 80}, "workloadRef": {"name": SERVICE}})
    assert others(PLAN, listed_routes(rendered(another, 0)[-1]), ALONE) == []
    (named,) = others(PLAN, listed_routes(rendered(another, 10)[-1]), ALONE)
    assert named.startswith(f"VirtualService {NAMESPACE}/cutover-another ")


def test_the_message_says_what_to_do() -> None:
    finding = CHECK.judge(PLAN, facts(service()))
    assert finding.result is CheckResult.FAILED
    assert finding.skippable
    assert "pdf-new (pdf-new.example.com) sends to Service" in finding.message
    assert f"a second Service with the selector of {SERVICE}" in finding.message


def test_a_mirror_is_told_to_carry_out_requests_twice() -> None:
    mirrors = {**to("other"), "mirror": {"host": f"{SERVICE}.{NAMESPACE}.svc.cluster.local", "subset": "v2"}}
    finding = CHECK.judge(PLAN, facts(service(http=[mirrors])))
    assert finding.result is CheckResult.FAILED
    assert finding.message.startswith("a mirror of VirtualService")
    assert "each request twice" in finding.message
    assert "take the mirror out" in finding.message
    assert "a second Service" not in finding.message


def test_who_sends_to_the_same_app_is_named() -> None:
    finding = CHECK.judge(PLAN, facts(service("other", http=[to(PLAN.spec.heroku.hostname.upper())])))
    assert finding.result is CheckResult.FAILED
    assert finding.message == (
        f"VirtualService other/pdf-new (pdf-new.example.com) sends to {PLAN.spec.heroku.hostname} through the plan's gateways"
        " too, and the gates cannot tell these requests from the plan's; have the plan route their hosts too, or take them out"
    )


def test_with_a_name_of_its_own_for_the_leg_only_that_counts() -> None:
    delegating = plan(istio={"ownership": "Delegate", "virtualServiceRef": {"name": "team"}})
    hostname = delegating.spec.heroku.hostname
    assert CHECK.judge(delegating, facts(service("other", http=[to(hostname)]))).result is CheckResult.PASSED
    finding = CHECK.judge(delegating, facts(service("other", http=[to(f"cutover-heroku.{hostname}")])))
    assert finding.result is CheckResult.FAILED


def test_another_gateway_on_the_same_proxies_is_the_same_door() -> None:
    def gateway(namespace: str, name: str, **selector: str) -> Json:
        return {"metadata": {"namespace": namespace, "name": name}, "spec": {"selector": selector}}

    namespace, name = GATEWAY.split("/")
    shared = gateway(namespace, name, istio="ingress")
    item = service("hostile", gateways=["mine"])
    mine, elsewhere = gateway("hostile", "mine", istio="ingress"), gateway("hostile", "mine", istio="own")
    assert CHECK.judge(PLAN, facts(item, gateways=[shared, mine])).result is CheckResult.FAILED
    assert CHECK.judge(PLAN, facts(item, gateways=[shared, elsewhere])).result is CheckResult.PASSED
