"""The route table of the gateway's proxy, and what a plan may change in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from cutover.adapters.traffic.istio.names import eks_service
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import (
    LEG_PREFIX,
    PROBE_HEADER,
    PROBE_PREFIX,
    generates,
)
from cutover.domain.revision import HEADER
from devstack.api import fetch
from devstack.stack import Stack

Json = dict[str, Any]
#: Routes of a host, as the proxy has them.
Routes = list[Json]

#: Fields of a route's action that are an adopted route's alone: where it goes, and what the operator says that it does.
_MOVED = ("cluster", "weighted_clusters", "host_rewrite_literal", "retry_policy")


def route_tables(stack: Stack) -> dict[str, Routes]:
    """Return the routes of each host at the gateway, by the host in lower case; a wildcard is a host."""
    dump = json.loads(fetch(f"{stack.envoy_admin_url}/config_dump?resource=dynamic_route_configs", timeout=10))
    return {
        domain.lower(): host["routes"]
        for config in dump["configs"]
        for host in config["route_config"].get("virtual_hosts", ())
        for domain in host["domains"]
    }


def parts(route: Mapping[str, Any]) -> dict[str, Fraction]:
    """Return the part of a route's requests that each destination gets, by its host."""
    action = route.get("route") or {}
    if "cluster" in action:
        return {_host(action["cluster"]): Fraction(1)}
    clusters = (action.get("weighted_clusters") or {}).get("clusters", ())
    total = sum(one.get("weight", 0) for one in clusters)
    found: dict[str, Fraction] = {}
    for one in clusters:
        host = _host(one["name"])
        found[host] = found.get(host, Fraction(0)) + Fraction(one.get("weight", 0), total)
    return found


def _host(cluster: str) -> str:
    return cluster.rsplit("|", 1)[-1].lower()


def revision_of(route: Mapping[str, Any]) -> str:
    """Return the revision that a route stamps on its answers; ``""`` if it is not the operator's."""
    for one in route.get("response_headers_to_add", ()):
        if one["header"]["key"].lower() == HEADER:
            return str(one["header"]["value"])
    return ""


def is_probe(route: Mapping[str, Any]) -> bool:
    """Tell whether a route is for the operator's probes."""
    return any(header["name"] == PROBE_HEADER for header in route["match"].get("headers", ()))


def adopted_otherwise(before: Routes, now: Routes, plan: Plan, weight: int) -> list[str]:
    """Return what is not as it has to be in the table of an adopted VirtualService at a weight, in percent."""
    users = [route for route in now if not is_probe(route)]
    probes = now[: len(now) - len(users)]
    found = [] if probes and all(map(is_probe, probes)) else ["the probes' routes do not come first"]
    if len(before) != len(users):
        return [*found, f"{len(before)} routes before, {len(users)} now"]
    for index, (then, there) in enumerate(zip(before, users, strict=True)):
        legs = _legs(then, plan)
        if not legs:
            found += [f"routes[{index}] is none of the plan's and has changed: {there}"] if then != there else []
            continue
        if then["match"] != there["match"]:
            found.append(f"routes[{index}] matches other requests")
        expected = {host: part for host, part in parts(then).items() if host not in _both(plan)}
        expected |= {
            LEG_PREFIX + plan.spec.heroku.hostname: legs * (100 - weight) / 100,
            eks_service(plan): legs * weight / 100,
        }
        if _some(parts(there)) != _some(expected):
            found.append(f"routes[{index}] goes to {_shown(parts(there))}, not to {_shown(expected)}")
        if _kept(then) != _kept(there):
            found.append(f"routes[{index}] is otherwise changed: {_kept(then)} and {_kept(there)}")
    return found


def delegated_otherwise(before: Routes, now: Routes, plan: Plan, weight: int) -> list[str]:
    """Return what is not as it has to be in the table of a root that delegates, at a weight, in percent.

    It delegates before each route that goes to Heroku, or, where there is none that says so, before the first.
    """
    theirs = [route for route in now if not revision_of(route)]
    moving = [route for route in before if _legs(route, plan)] or before[:1]
    found = [] if theirs == before else ["the team's own routes have changed"]
    if before and theirs == before[:-1] and before[-1] == moving[-1] and _for_all(before[-1]):
        # With a route for all requests the table ends.
        found.clear()
    users = [route for route in now if revision_of(route) and not is_probe(route)]
    if [route["match"] for route in users] != [route["match"] for route in moving]:
        found.append("the plan's routes are for other requests")
    return [*found, *split_otherwise(now, plan, weight)]


def split_otherwise(now: Routes, plan: Plan, weight: int) -> list[str]:
    """Return what is not as it has to be in the routes of the operator's own VirtualService, at a weight, in percent."""
    ours = [route for route in now if revision_of(route)]
    users = [route for route in ours if not is_probe(route)]
    # A probe has to meet its route before any of the users', for whatever requests a root delegates.
    asked = [{**_unasked(route), "leg": sorted(parts(route))} for route in ours if is_probe(route)]
    found = [
        f"no probe of {leg} meets {_unasked(route)}"
        for route in users
        for leg in ([PROBE_PREFIX + plan.spec.heroku.hostname], [eks_service(plan)])
        if {**_unasked(route), "leg": leg} not in asked
    ]
    if not users:
        found.append("there is none of the plan's routes")
    heroku = plan.spec.heroku.hostname
    leg = heroku if generates(plan.spec) else LEG_PREFIX + heroku
    expected = {leg: Fraction(100 - weight, 100), eks_service(plan): Fraction(weight, 100)}
    return [
        *found,
        *(f"goes to {_shown(parts(route))}" for route in users if _some(parts(route)) != _some(expected)),
    ]


def _unasked(route: Mapping[str, Any]) -> Json:
    """Return the requests that a route is for, but for the header by which probes are known."""
    rest = [header for header in route["match"].get("headers", ()) if header["name"] != PROBE_HEADER]
    match = {name: value for name, value in route["match"].items() if name != "headers"} | {"headers": rest}
    # An all-embracing condition is written in two ways.
    return match if match.get("prefix") != "/" else {name: match[name] for name in match if name != "case_sensitive"}


def _both(plan: Plan) -> tuple[str, ...]:
    return plan.spec.heroku.hostname, LEG_PREFIX + plan.spec.heroku.hostname, eks_service(plan)


def _for_all(route: Mapping[str, Any]) -> bool:
    return {name: value for name, value in route["match"].items() if name != "case_sensitive"} == {"prefix": "/"}


def _legs(route: Mapping[str, Any], plan: Plan) -> Fraction:
    return sum((part for host, part in parts(route).items() if host in _both(plan)), Fraction(0))


def _some(shares: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {host: part for host, part in shares.items() if part}


def _shown(shares: Mapping[str, Fraction]) -> str:
    return ", ".join(f"{host} {part}" for host, part in sorted(shares.items()))


def _kept(route: Mapping[str, Any]) -> Json:
    """Return the fields of a route that adoption leaves alone."""
    action = {name: value for name, value in (route.get("route") or {}).items() if name not in _MOVED}
    return {"action": action, "features": route.get("typed_per_filter_config"), "redirect": route.get("redirect")}


def stamped(tables: Mapping[str, Routes], hosts: Iterable[str], revision: str) -> bool:
    """Tell whether the gateway has a revision of the routes of all these hosts."""
    return all(
        revision in {revision_of(route) for route in tables.get(host.lower(), ()) if not is_probe(route)}
        for host in hosts
    )
