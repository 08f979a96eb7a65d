"""Attacks of one namespace's plan on another's hosts and names, each with all checks skipped that can be skipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.builders import GATEWAY, HEROKU_HOST, PUBLIC_HOST
from tests.kit.target import OPEN_SERVER, READY, Target, named

from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.names import qualified
from cutover.domain.preflight.checks.istio.proxies import Proxies, selector_and_servers
from cutover.domain.preflight.checks.istio.servers import http_servers
from cutover.domain.resources import SERVICES, Json

CHART = Path(__file__).resolve().parents[2] / "charts/cutover"
INGRESS = {"istio": "ingressgateway"}


def attacker(heroku: str = HEROKU_HOST, **istio: Any) -> Plan:
    """Return a plan of namespace ``mallory`` that skips whatever it can."""
    skip = [{"check": name, "reason": "trust me"} for name in registry.NAMES]
    return builders.plan(
        namespace="mallory", istio=istio, preflight={"skip": skip}, heroku={"app": "acme-pdf", "hostname": heroku}
    )


def gateway(key: str, *hosts: str, selector: Json | None = None) -> Json:
    namespace, name = key.split("/")
    server = {**OPEN_SERVER, "hosts": list(hosts)}
    return named(namespace, name, spec={"selector": INGRESS if selector is None else selector, "servers": [server]})


def route(namespace: str, host: str, *gateways: str) -> Json:
    return named(namespace, "theirs", spec={"hosts": [host], "gateways": list(gateways)})


def refusals(plan: Plan, *gateways: Json, target: Target = READY, services: tuple[str, ...] = ()) -> dict[str, str]:
    """Return what the checks refuse, with these Gateways in the cluster and no others."""
    inventory = target.inventory(plan)
    there = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in gateways}
    wanted = inventory.objects[GATEWAYS]
    exist = {key: named(*key, spec={}) for key in (tuple(name.split("/")) for name in services)}
    objects = {
        **inventory.objects,
        GATEWAYS: {key: there.get(key) for key in wanted},
        SERVICES: {key: exist.get(key, body) for key, body in inventory.objects[SERVICES].items()},
    }
    inventory = replace(inventory, objects=objects, lists={**inventory.lists, GATEWAYS: gateways})
    statuses = registry.before_takeover(plan, inventory)
    return {one.check: one.message for one in statuses if one.result == "Failed"}


# ------------------------------------------------------------------------------------------------------- others' hosts


def test_a_gateway_of_ones_own_gives_no_host_of_another_gateway() -> None:
    plan = attacker(gateways=[GATEWAY, "mine"])
    theirs = replace(READY, virtual_services=(route("team-b", "*.example.com", GATEWAY),))
    shared, own = gateway(GATEWAY, "*"), gateway("mallory/mine", f"mallory/{PUBLIC_HOST}", selector={"app": "mine"})
    assert list(refusals(plan, shared, own, target=theirs)) == ["host-unclaimed"]
    # The Gateway that both have gives it.
    given = gateway(GATEWAY, "*", f"mallory/{PUBLIC_HOST}")
    assert refusals(plan, given, own, target=theirs) == {}


@pytest.mark.parametrize("pattern", [PUBLIC_HOST, "*.example.com"])
@pytest.mark.parametrize(
    ("selector", "same"),
    [
        (INGRESS, True),
        ({**INGRESS, "zone": "a"}, True),
        ({"app": "istio-ingressgateway"}, True),
        ({}, True),
        ({"istio": "internal"}, False),
        ({**INGRESS, "istio": "internal", "zone": "a"}, False),
    ],
)
def test_gateways_on_the_same_proxies_are_one(pattern: str, selector: Json, same: bool) -> None:
    plan = attacker(gateways=["mine"])
    theirs = replace(READY, virtual_services=(route("team-b", pattern, GATEWAY),))
    own = gateway("mallory/mine", f"mallory/{PUBLIC_HOST}", selector=selector)
    found = refusals(plan, gateway(GATEWAY, "*"), own, target=theirs)
    assert list(found) == (["host-unclaimed"] if same else [])
    assert not same or f"{PUBLIC_HOST} by VirtualService team-b/theirs ({pattern})" in found["host-unclaimed"]


def test_who_runs_a_gateway_shares_wildcards_of_that_gateway_only() -> None:
    """Their wildcard is on their own Gateway, which the plan reaches by another one on the same proxies."""
    theirs = replace(READY, virtual_services=(route("team-b", "*.example.com", "edge"),))
    edge, own = gateway("team-b/edge", "./*"), gateway("mallory/mine", "*")
    assert list(refusals(attacker(gateways=["mine"]), edge, own, target=theirs)) == ["host-unclaimed"]
    # Nor is a wildcard shared by a Gateway that does not take the host from the plan's namespace.
    plan = attacker(gateways=["mine", "team-b/edge"])
    assert {"gateway", "host-unclaimed"} >= set(refusals(plan, edge, own, target=theirs)) != set()


SPELLINGS = [GATEWAY, "public.istio-ingress", "public.istio-ingress.svc.cluster.local"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_all_spellings_of_a_gateway_are_one(name: str) -> None:
    theirs = replace(READY, virtual_services=(route("team-b", PUBLIC_HOST, name),))
    assert list(refusals(attacker(), gateway(GATEWAY, "*"), target=theirs)) == ["host-unclaimed"]


def test_a_dot_stands_for_the_namespace_of_the_virtual_service() -> None:
    theirs = replace(READY, virtual_services=(route("istio-ingress", PUBLIC_HOST, "./public"),))
    assert list(refusals(attacker(), gateway(GATEWAY, "*"), target=theirs)) == ["host-unclaimed"]
    assert qualified("./a.b", "docs") == "docs/a.b"
    assert qualified("mesh", "docs") == "docs/mesh"


def test_proxies_of_gateways_that_do_not_exist_are_not_shared() -> None:
    proxies = Proxies.of([gateway("a/x", "*")])
    assert proxies.shared("b/none", "b/none")
    assert not proxies.shared("a/x", "b/none")


def test_httproutes_on_the_gateways_proxies_are_said_to_be_unseen() -> None:
    selector = {"gateway.networking.k8s.io/gateway-name": "public"}
    plan = builders.plan(namespace="shop")
    inventory = READY.inventory(plan)
    there = {("istio-ingress", "public"): gateway(GATEWAY, "*", selector=selector)}
    inventory = replace(inventory, objects={**inventory.objects, GATEWAYS: there})
    (found,) = (one for one in registry.before_takeover(plan, inventory) if one.check == "gateway")
    assert (found.result, "HTTPRoutes" in found.message) == ("Warned", True)


PASSED_ON: Json = {"port": {"number": 443, "protocol": "HTTPS"}, "hosts": ["*"], "tls": {"mode": "PASSTHROUGH"}}


@pytest.mark.parametrize(
    ("server", "result"),
    [
        (PASSED_ON, "Warned"),
        ({**PASSED_ON, "port": {"number": 443, "protocol": "TLS"}, "tls": {"mode": "SIMPLE"}}, "Warned"),
        ({**PASSED_ON, "hosts": ["*.else.com"]}, "Passed"),
        ({**PASSED_ON, "tls": {"mode": "SIMPLE"}}, "Passed"),
        ({**PASSED_ON, "port": {"number": 5432, "protocol": "TCP"}, "tls": None}, "Passed"),
    ],
)
def test_what_the_gateway_passes_on_unopened_is_told(server: Json, result: str) -> None:
    plan = builders.plan(namespace="shop")
    opened = {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}
    there = replace(READY, servers=(opened, server)).inventory(plan)
    (found,) = (one for one in registry.before_takeover(plan, there) if one.check == "gateway")
    assert found.result == result
    assert (f"passes {PUBLIC_HOST} on unopened at port 443" in found.message) is (result == "Warned")


def test_a_server_that_passes_on_takes_no_host_for_http_routes() -> None:
    kept = selector_and_servers({"metadata": {"namespace": "a", "name": "b"}, "spec": {"servers": [PASSED_ON]}})
    assert http_servers(kept) == http_servers({"spec": {"servers": [PASSED_ON]}}) == []


# ------------------------------------------------------------------------------------------------------- others' names


def test_a_gateway_that_does_not_exist_exports_nothing_to_its_namespace() -> None:
    plan = attacker(gateways=[GATEWAY, "payments/none"])
    found = refusals(plan, gateway(GATEWAY, "*"))
    assert "Gateway payments/none of another namespace does not exist" in found["gateway"]


def test_a_gateway_that_takes_nothing_from_the_plan_exports_nothing_either() -> None:
    plan = attacker(gateways=[GATEWAY, "payments/private"])
    found = refusals(plan, gateway(GATEWAY, "*"), gateway("payments/private", "payments/*", selector={"a": "b"}))
    assert "Gateway payments/private of another namespace takes none of the hosts" in found["gateway"]


def entry(host: str, *export_to: str) -> Json:
    return named("platform", "heroku", spec={"hosts": [host], **({"exportTo": [*export_to]} if export_to else {})})


@pytest.mark.parametrize(
    ("theirs", "taken"),
    [
        (entry("*.herokuapp.com"), True),
        (entry("*.herokuapp.com", "*"), True),
        (entry("*.herokuapp.com", "mallory"), True),
        (entry("*.herokuapp.com", "istio-ingress"), True),
        (entry("*.herokuapp.com", ".", "payments"), False),
        (entry("*.herokuspace.com"), False),
        (entry(HEROKU_HOST, "."), True),
    ],
)
def test_a_wildcard_of_anothers_service_entry_keeps_its_names(theirs: Json, taken: bool) -> None:
    target = replace(READY, entries=(theirs,))
    assert list(refusals(attacker(), gateway(GATEWAY, "*"), target=target)) == (["heroku-unshared"] if taken else [])


def test_a_leg_with_a_name_of_its_own_takes_nothing_from_a_wildcard() -> None:
    target = replace(READY, entries=(entry("*.herokuapp.com"),))
    plan = attacker(ownership="Delegate", virtualServiceRef={"name": "pdf"})
    assert refusals(plan, gateway(GATEWAY, "*"), target=target) == {}


@pytest.mark.parametrize(
    ("hostname", "service"),
    [
        ("kubernetes.default", "default/kubernetes"),
        ("reviews.prod", "prod/reviews"),
        ("db-0.db.prod", "prod/db"),
        ("x.istiod", "istio-ingress/istiod"),
    ],
)
def test_a_name_that_a_resolver_takes_for_a_service_is_no_app(hostname: str, service: str) -> None:
    plan = attacker(hostname)
    found = refusals(plan, gateway(GATEWAY, "*"), services=(service,))
    assert f"{hostname} is a name of Service {service} of this cluster" in found["heroku-unshared"]
    assert refusals(plan, gateway(GATEWAY, "*")) == {}


# -------------------------------------------------------------------------------------------------------- others' roles


def test_the_chart_grants_the_status_of_plans_to_nobody_but_the_operator() -> None:
    """Whoever may write a plan's status may do whatever the operator may."""
    manifests = {
        path.relative_to(CHART).as_posix(): path.read_text(encoding="utf-8")
        for path in CHART.rglob("*")
        if path.is_file()
    }
    # A FlowSchema grants nothing: it says which requests come first.
    granting = {name: text for name, text in manifests.items() if name != "templates/flowcontrol.yaml"}
    assert [name for name, text in granting.items() if "migrationplans/status" in text] == ["files/writes.yaml"]
    for name, text in manifests.items():
        # Its files are for people, and have none of it.
        assert "aggregate-to-" not in text or name == "templates/roles.yaml", f"{name}: roles for people would get it"
        assert "migrationplans/*" not in text, name
        assert not {'"*"', "'*'"} & set(text.partition("resources: [")[2].partition("]")[0].split(", ")), name
