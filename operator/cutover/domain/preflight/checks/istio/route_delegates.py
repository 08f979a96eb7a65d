"""Check ``route-delegates``: with ownership ``Delegate``, the team's VirtualService delegates to the operator's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.host_unclaimed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import owned_by, qualified_gateways, route_name
from cutover.domain.preflight.checks.istio.team_route import problem_of, team_route
from cutover.domain.resources import Json


def judge(plan: Plan, facts: Facts) -> Finding:
    """Judge the team's VirtualService."""
    return judged(problem(plan, team_route(plan, facts.inventory)))


def problem(plan: Plan, root: Json | None) -> str:
    """Return why the operator's VirtualService would not get the requests; ``""`` if it would.

    Parameters
    ----------
    root
        The team's VirtualService; ``None`` if it does not exist.
    """
    line = f"- delegate: {{name: {route_name(plan)}, namespace: {plan.namespace}}}"
    hosts, gateways = ", ".join(plan.spec.traffic.istio.hosts), ", ".join(qualified_gateways(plan))
    return problem_of(
        plan,
        root,
        absent=f" with spec: {{hosts: [{hosts}], gateways: [{gateways}]}} and under its http: {line}",
        further=lambda root: _delegate_problems(root.get("spec") or {}, plan, line),
    )


def _delegate_problems(spec: Mapping[str, Any], plan: Plan, line: str) -> Iterator[str]:
    routes, delegate = spec.get("http") or (), route_name(plan)
    first = f"add as the first item of spec.http, before the routes that serve until then: {line}"
    found = list[Json]()
    for route in routes:
        named = route.get("delegate") or {}
        if named.get("name") == delegate and named.get("namespace") in (None, "", plan.namespace):
            found.append(route)
        elif named.get("name") == delegate:
            yield f"it delegates to {delegate} of namespace {named['namespace']}; write namespace: {plan.namespace}"
            return
    if not found:
        yield f"it does not delegate to the operator's VirtualService; {first}"
        return
    before = next(index for index, route in enumerate(routes) if route is found[0])
    if any(not route.get("match") for route in routes[:before]):
        yield f"a route without match comes before the one that delegates, so that no request arrives there; {first}"
    for route in found:
        if route.get("headers"):
            yield "headers beside delegate have no effect, as Istio uses the delegate's headers; move them to the app"
        if (route.get("rewrite") or {}).get("authority"):
            yield "rewrite.authority beside delegate would give the EKS leg a foreign Host; take it out"
    path = plan.spec.traffic.istio.probe_path
    if not any(_reaches(route, path) for route in found):
        yield (
            f"traffic.istio.probePath {path} does not match the route that delegates, so that the way back cannot be tried"
            " out; write a path that does"
        )


def _reaches(route: Mapping[str, Any], path: str) -> bool:
    """Tell whether a plain GET of a path matches a route. A match that cannot be evaluated here counts as no."""
    return not route.get("match") or any(
        set(match) <= {"uri", "name", "gateways", "statPrefix"} and _uri_matches(match.get("uri") or {}, path)
        for match in route["match"]
    )


def _uri_matches(uri: Mapping[str, str], path: str) -> bool:
    if not uri:
        return True
    return path == uri.get("exact") or ("prefix" in uri and path.startswith(uri["prefix"]))


CHECK = Check(
    name="route-delegates",
    passes_when="with ownership `Delegate`: the team's VirtualService is for the plan's hosts and gateways and"
    " [delegates](ownership.md#delegate) to the operator's",
    applies=owned_by(Ownership.DELEGATE),
    reads=(ALL_VIRTUAL_SERVICES,),
    judge=judge,
)
