"""Check ``route-delegates``: with ownership ``Delegate``, the team's VirtualService delegates to the operator's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.asked_headers import asked_twice
from cutover.domain.preflight.checks.istio.legs import plans_routes
from cutover.domain.preflight.checks.istio.names import owned_by, qualified_gateways, root_key, route_name
from cutover.domain.preflight.checks.istio.team_route import THE_TEAMS_ROUTE, problem_of, team_route
from cutover.domain.resources import Json

#: What a route that delegates keeps for its delegate, of a route that serves until then.
_CARRIED = ("match", "rewrite", "corsPolicy")

#: Most routes of a VirtualService that delegates.
MOST_ROUTES = 1000

#: Most items that a message writes out.
_MOST_LINES = 5


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
    hosts, gateways = ", ".join(plan.spec.traffic.istio.hosts), ", ".join(qualified_gateways(plan))
    key = root_key(plan)
    if key is not None and key[0] != plan.namespace and not (root and _delegating(root, plan)):
        # Nothing of another team's object is told to a namespace that it does not delegate to.
        return (
            f"VirtualService {'/'.join(key)} does not exist or does not delegate to the operator's; have added to its"
            f" spec.http, before the routes that serve {hosts} until then, with their match: {_line(plan)}"
        )
    return problem_of(
        plan,
        root,
        absent=f" with spec: {{hosts: [{hosts}], gateways: [{gateways}]}} and under its http: {_line(plan)}",
        further=lambda root: _delegate_problems(root, plan),
    )


def _line(plan: Plan, route: Mapping[str, Any] | None = None) -> str:
    """Return the item to add to ``spec.http``, for the requests of a route that serves until then; ``None``: for all."""
    carried = {name: route[name] for name in _CARRIED if route is not None and route.get(name)}
    if rewrite := {name: value for name, value in carried.pop("rewrite", {}).items() if name != "authority"}:
        carried["rewrite"] = rewrite
    if not carried:
        return f"- delegate: {{name: {route_name(plan)}, namespace: {plan.namespace}}}"
    return f"- {json.dumps(carried | {'delegate': {'name': route_name(plan), 'namespace': plan.namespace}})}"


def _advice(spec: Mapping[str, Any], plan: Plan) -> str:
    """Say where to delegate: before each route to Heroku, else before those that the paths of probes meet."""
    routes: Sequence[Mapping[str, Any]] = spec.get("http") or ()
    serving = [index for index, _, legs in plans_routes(spec, plan) if any(legs.weights[leg] for leg in legs.heroku)]
    for path in plan.spec.traffic.probe.paths if not serving else ():
        met = next((index for index, route in enumerate(routes) if _reaches(route, path, plan)), None)
        serving += [met] if met is not None and met not in serving else []
    if not serving:
        return f"add as the first item of spec.http, before the routes that serve until then: {_line(plan)}"
    serving.sort()
    items = [f"before http[{index}]: {_line(plan, routes[index])}" for index in serving[:_MOST_LINES]]
    if rest := serving[_MOST_LINES:]:
        items.append(f"and likewise, with their match, before {', '.join(f'http[{index}]' for index in rest)}")
    return f"add to spec.http, {'; '.join(items)}"


def _delegating(root: Json, plan: Plan) -> list[Json]:
    """Return the routes of a VirtualService that delegate to the operator's. Without a namespace it is the root's own."""
    wanted = route_name(plan), plan.namespace
    return [
        route
        for route in (root.get("spec") or {}).get("http") or ()
        if (named := route.get("delegate") or {})
        and (named.get("name"), named.get("namespace") or root["metadata"]["namespace"]) == wanted
    ]


def _delegate_problems(root: Json, plan: Plan) -> Iterator[str]:
    spec: Mapping[str, Any] = root.get("spec") or {}
    routes, delegate, found = spec.get("http") or (), route_name(plan), _delegating(root, plan)
    if len(routes) > MOST_ROUTES:
        yield f"it has {len(routes)} routes, and no more than {MOST_ROUTES} are looked at; split it up"
        return
    theirs = set(map(id, found))  # to compare routes takes long where there are many
    for route in routes:
        named = route.get("delegate") or {}
        if named.get("name") == delegate and id(route) not in theirs:
            where = named.get("namespace") or root["metadata"]["namespace"]
            yield f"it delegates to {delegate} of namespace {where}; write namespace: {plan.namespace}"
            return
    if not found:
        yield f"it does not delegate to the operator's VirtualService; {_advice(spec, plan)}"
        return
    before = next(index for index, route in enumerate(routes) if route is found[0])
    if any(not route.get("match") for route in routes[:before]):
        yield f"a route without match comes before the one that delegates, so that no request arrives there; {_advice(spec, plan)}"
    whole = next(
        (index for index, route in enumerate(routes) if id(route) in theirs and not route.get("match")), len(routes)
    )
    service = plan.spec.eks.service.name
    for index, route, legs in plans_routes(spec, plan):
        lost = [
            str((route["route"][other].get("destination") or {}).get("host"))
            for other in legs.others
            if legs.weights[other]
        ]
        if lost and any(legs.weights[leg] for leg in legs.heroku):
            yield (
                f"http[{index}] sends a part of its requests to {', '.join(lost)}, and a delegate would not; use ownership:"
                " Adopt, which keeps that part"
            )
        if index < whole and any(legs.weights[leg] for leg in legs.eks):
            yield (
                f"http[{index}] sends requests to Service {service}, and the gates cannot tell them from the plan's; have"
                f" them go to a second Service with the selector of {service} (docs/testers.md), or give that destination"
                " weight 0"
            )
    for index, route in enumerate(routes):
        if id(route) not in theirs:
            continue
        yield from (f"http[{index}] {problem}" for problem in asked_twice(route, plan))
        if route.get("headers"):
            yield "headers beside delegate have no effect, as Istio uses the delegate's headers; move them to the app"
        if (route.get("rewrite") or {}).get("authority"):
            yield "rewrite.authority beside delegate would give the EKS leg a foreign Host; take it out"
    if found and all(_ignores_case(route) for route in found):
        yield (
            "ignoreUriCase beside delegate keeps probes out, as Istio leaves a delegate's routes out whose conditions differ in"
            " it; take ignoreUriCase out of that match: paths in another spelling stay with the routes behind it"
        )
        return
    for path in plan.spec.traffic.probe.paths:
        if not any(_reaches(route, path, plan) for route in found):
            yield (
                f"traffic.probe.paths: {path} does not match the route that delegates, so that the way back cannot be tried"
                f" out; write a path that does{_such_as(found)}"
            )


def _reaches(route: Mapping[str, Any], path: str, plan: Plan) -> bool:
    """Tell whether a probe of a path matches a route. A match that cannot be evaluated here counts as no."""
    host = plan.spec.traffic.asked_host
    return not route.get("match") or any(
        set(match) <= {"uri", "authority", "name", "gateways", "statPrefix"}
        and _text_matches(match.get("uri") or {}, path)
        and _text_matches(match.get("authority") or {}, host)
        for match in route["match"]
    )


def _ignores_case(route: Mapping[str, Any]) -> bool:
    return any(match.get("ignoreUriCase") for match in route.get("match") or ())


def _text_matches(wanted: Mapping[str, str], text: str) -> bool:
    if not wanted:
        return True
    return text == wanted.get("exact") or ("prefix" in wanted and text.startswith(wanted["prefix"]))


def _such_as(routes: Sequence[Mapping[str, Any]]) -> str:
    uris = [match.get("uri") or {} for route in routes for match in route.get("match") or ()]
    return next((f", such as {path}" for uri in uris for path in (uri.get("exact"), uri.get("prefix")) if path), "")


CHECK = Check(
    name="route-delegates",
    passes_when="with ownership `Delegate`: the team's VirtualService is for the plan's hosts and gateways and"
    " [delegates](ownership.md#delegate) to the operator's",
    applies=owned_by(Ownership.DELEGATE),
    reads=(THE_TEAMS_ROUTE,),
    judge=judge,
)
