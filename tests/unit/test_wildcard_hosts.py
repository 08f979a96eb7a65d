"""Plans whose hosts are wildcards: what a Gateway has to take, whose names they may include, and what is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.builders import GATEWAY
from tests.kit.target import OPEN_SERVER, READY, Target, listed_routes, named

from cutover.api.hosts import covers
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.checks.istio import gateway as gateway_check
from cutover.domain.preflight.checks.istio import host_unclaimed, route_adoptable, route_delegates
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.proxies import Proxies
from cutover.domain.preflight.checks.istio.turns import turn_of
from cutover.domain.resources import Json

WILDCARD, ONE = "*.shop.example.com", "a.shop.example.com"


def plan(*hosts: str, asked: str | None = ONE, **istio: Any) -> Plan:
    """Return a plan of namespace ``shop``."""
    fields = {"hosts": list(hosts or (WILDCARD,)), "gateways": [GATEWAY], **istio}
    traffic = {"istio": fields, **({"probe": {"host": asked}} if asked else {})}
    return builders.plan(namespace="shop", traffic=traffic)


def gateway(*hosts: str, protocol: str = "HTTP", **server: Any) -> dict[str, Json]:
    servers = [{"port": {"number": 80, "protocol": protocol}, "hosts": list(hosts), **server}]
    return {GATEWAY: {"spec": {"selector": {"istio": "ingress"}, "servers": servers}}}


def route(namespace: str, *hosts: str, on: str = GATEWAY) -> Json:
    return named(namespace, "theirs", spec={"hosts": list(hosts), "gateways": [on]})


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*", WILDCARD, True),
        (WILDCARD, WILDCARD, True),
        ("*.example.com", WILDCARD, True),
        (WILDCARD, ONE, True),
        (WILDCARD, "A.B.Shop.example.com", True),
        (WILDCARD, "shop.example.com", False),
        (WILDCARD, "ashop.example.com", False),
        (ONE, WILDCARD, False),
        (ONE, ONE, True),
        ("*.a.shop.example.com", WILDCARD, False),
    ],
)
def test_which_host_includes_which(pattern: str, host: str, covered: bool) -> None:
    assert covers(pattern, host) is covered


# ---------------------------------------------------------------------------------------------------------- the Gateway


@pytest.mark.parametrize(
    ("hosts", "open_"),
    [
        (["*"], True),
        ([WILDCARD], True),
        (["*/*.example.com"], True),
        (["shop/*.shop.example.com"], True),
        ([ONE], False),
        (["*.a.shop.example.com"], False),
        (["team-b/*"], False),
    ],
)
def test_a_gateway_has_to_take_the_whole_wildcard(hosts: list[str], open_: bool) -> None:
    problem = gateway_check.unserved_hosts(plan(), gateway(*hosts))
    assert (problem == "") is open_
    assert open_ or f"add shop/{WILDCARD} to its servers' hosts" in problem


@pytest.mark.parametrize(("passed_on", "told"), [(ONE, True), ("*", True), (WILDCARD, True), ("b.example.com", False)])
def test_what_is_passed_on_unopened_is_told_for_a_part_of_the_wildcard_too(passed_on: str, told: bool) -> None:
    servers = gateway(passed_on, protocol="HTTPS", tls={"mode": "PASSTHROUGH"})
    assert bool([*gateway_check.unopened(plan(), servers)]) is told


# ------------------------------------------------------------------------------------------------------- others' hosts


@pytest.mark.parametrize(
    ("hosts", "theirs", "open_to", "taken"),
    [
        # A wildcard of the plan over another team's name, and the other way round.
        ([WILDCARD], ONE, ["*"], True),
        ([WILDCARD], "*.a.shop.example.com", ["*"], True),
        ([WILDCARD], WILDCARD, ["*"], True),
        ([WILDCARD], "*.example.com", ["*"], True),
        (["*.a.shop.example.com"], WILDCARD, ["*"], True),
        ([ONE], WILDCARD, ["*"], True),
        # The Gateway gives it to the plan's namespace, but for what is the very same.
        ([WILDCARD], ONE, ["*", f"shop/{WILDCARD}"], False),
        ([WILDCARD], "*.example.com", ["*", f"shop/{WILDCARD}"], False),
        ([WILDCARD], WILDCARD, ["*", f"shop/{WILDCARD}"], True),
        ([WILDCARD], ONE, ["*", f"shop/{ONE}"], True),
        # Nothing in common.
        ([WILDCARD], "shop.example.com", ["*"], False),
        ([WILDCARD], "a.example.com", ["*"], False),
        ([WILDCARD], "*", ["*"], False),
    ],
)
def test_overlaps_with_hosts_of_other_namespaces(
    hosts: list[str], theirs: str, open_to: list[str], taken: bool
) -> None:
    asking = plan(*hosts, asked="t.a.shop.example.com" if hosts[0].startswith("*") else None)
    problem = host_unclaimed.others_hosts(asking, listed_routes(route("team-b", theirs)), Proxies(gateway(*open_to)))
    assert bool(problem) is taken
    assert not taken or f"{hosts[0]} by VirtualService team-b/theirs ({theirs})" in problem


def test_who_runs_the_gateway_has_its_wildcards() -> None:
    """As with the ingress team's wildcard, which others may take names from: their Gateway, their word."""
    own = {"shop/own": gateway(WILDCARD)[GATEWAY], **gateway("*")}
    asking, theirs = plan(gateways=["own"]), route("team-b", ONE, on="shop/own")
    assert host_unclaimed.others_hosts(asking, listed_routes(theirs), Proxies(own)) == ""
    # What is on another team's Gateway of the same proxies is not theirs to give.
    elsewhere = route("team-b", ONE)
    assert "team-b/theirs" in host_unclaimed.others_hosts(asking, listed_routes(elsewhere), Proxies(own))


@pytest.mark.parametrize(
    ("namespace", "asked", "waits"),
    [
        ("team-b", ONE, True),
        ("team-b", WILDCARD, True),
        ("team-b", "*.example.com", True),
        ("team-b", "b.example.com", False),
        # A team may move a wildcard with one plan and a name of it with another.
        ("shop", ONE, False),
        ("shop", WILDCARD, True),
    ],
)
def test_plans_with_overlapping_hosts_take_turns(namespace: str, asked: str, waits: bool) -> None:
    other = turn_of(
        {
            "metadata": {"namespace": namespace, "name": "older", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "spec": {"traffic": {"istio": {"hosts": [asked], "gateways": [GATEWAY]}}},
        }
    )
    said = host_unclaimed.asked_hosts(plan(), [other], Proxies(gateway("*")), ())
    assert bool(said) is waits
    assert not waits or f"MigrationPlan {namespace}/older, which was made before, is to route {asked}" in said


@pytest.mark.parametrize("ownership", ["Generate", "Adopt", "Delegate"])
def test_names_with_routes_of_their_own_are_told(ownership: str) -> None:
    own: dict[str, Any] = (
        {} if ownership == "Generate" else {"ownership": ownership, "virtualServiceRef": {"name": "theirs"}}
    )
    moving = plan(**own)
    team = named("shop", "theirs", spec={"hosts": [WILDCARD], "gateways": [GATEWAY], "http": []})
    names = [f"{letter}.shop.example.com" for letter in "abcdefg"]
    beside = named("shop", "beside", spec={"hosts": names, "gateways": [GATEWAY], "http": []})
    there = [beside] if ownership == "Generate" else [beside, team]
    found = judged(moving, replace(READY, virtual_services=tuple(there)))
    assert found.result == "Warned"
    assert "with routes of their own: a.shop.example.com by VirtualService shop/beside" in found.message
    assert "e.shop.example.com by VirtualService shop/beside, and 1 more; requests for these stay" in found.message
    assert judged(moving, replace(READY, virtual_services=tuple(there[1:]))).result == "Passed"


def judged(moving: Plan, target: Target) -> Any:
    inventory = target.inventory(moving)
    edge = named(
        *GATEWAY.split("/"), spec={"selector": {"istio": "ingress"}, "servers": [{**OPEN_SERVER, "hosts": ["*"]}]}
    )
    inventory = replace(inventory, lists={**inventory.lists, GATEWAYS: (edge,)})
    (found,) = (one for one in registry.before_takeover(moving, inventory) if one.check == "host-unclaimed")
    return found


# ------------------------------------------------------------------------------------------------ the team's own route


@pytest.mark.parametrize(
    ("hosts", "theirs", "says"),
    [
        ([WILDCARD], [WILDCARD], ""),
        ([WILDCARD, "shop.example.com"], ["Shop.example.com", WILDCARD], ""),
        ([WILDCARD], [ONE], f"it does not route {WILDCARD}"),
        ([ONE], [WILDCARD], f"or add {WILDCARD} to traffic.istio.hosts if all of it moves"),
        ([WILDCARD], [WILDCARD, ONE], f"it routes {ONE} too"),
    ],
)
def test_the_teams_route_has_the_same_wildcards(hosts: list[str], theirs: list[str], says: str) -> None:
    asked = ONE if hosts[0].startswith("*") else None
    team: Json = {"hosts": theirs, "gateways": [GATEWAY]}
    adopting = plan(*hosts, asked=asked, ownership="Adopt", virtualServiceRef={"name": "theirs"})
    to_heroku = {"route": [{"destination": {"host": adopting.spec.heroku.hostname}}]}
    problem = route_adoptable.problem(adopting, named("shop", "theirs", spec={**team, "http": [to_heroku]}))
    assert (says in problem) if says else problem == ""
    delegating = plan(*hosts, asked=asked, ownership="Delegate", virtualServiceRef={"name": "theirs"})
    line = {"delegate": {"name": f"cutover-{delegating.name}"}}
    problem = route_delegates.problem(delegating, named("shop", "theirs", spec={**team, "http": [line, to_heroku]}))
    assert (says in problem) if says else problem == ""


# -------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("hosts", "asked", "host"),
    [
        (["pdf.example.com", "www.example.com"], None, "pdf.example.com"),
        (["pdf.example.com", "www.example.com"], "www.example.com", "www.example.com"),
        ([WILDCARD, "shop.example.com"], None, "shop.example.com"),
        ([WILDCARD, "shop.example.com"], ONE, ONE),
    ],
)
def test_the_host_that_probes_ask_for(hosts: list[str], asked: str | None, host: str) -> None:
    traffic = plan(*hosts, asked=asked).spec.traffic
    assert traffic.asked_host == host
    assert traffic.recorded["probe.host"] == (asked or "default")
