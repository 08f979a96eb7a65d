"""Check ``route-adoptable``: with ownership ``Adopt``, the routes of the team's VirtualService can be taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.marks import PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.asked_headers import MOST_ROUTES, asked_twice, sets_cookies
from cutover.domain.preflight.checks.istio.legs import Legs, plans_routes, shadowed
from cutover.domain.preflight.checks.istio.names import HOST_HEADERS, owned_by
from cutover.domain.preflight.checks.istio.original import ORIGINAL_LIMIT, note_original
from cutover.domain.preflight.checks.istio.team_route import THE_TEAMS_ROUTE, problem_of, team_route
from cutover.domain.resources import Json

#: Most routes of a VirtualService, and destinations of a route, that can be taken over.
MOST_IN_ALL, MOST_DESTINATIONS = 500, 50


def judge(plan: Plan, facts: Facts) -> Finding:
    """Judge the team's VirtualService."""
    return judged(problem(plan, team_route(plan, facts.inventory)))


def problem(plan: Plan, root: Json | None) -> str:
    """Return why the operator cannot take over the routes; ``""`` if it can.

    Parameters
    ----------
    root
        The team's VirtualService; ``None`` if it does not exist.
    """
    return problem_of(
        plan,
        root,
        absent=", or let the operator write one with ownership: Generate",
        further=lambda root: _adoption_problems(root, plan),
    )


def too_large(root: Json) -> str:
    """Return why a VirtualService is not even looked at; ``""`` if it is."""
    routes = (root.get("spec") or {}).get("http") or ()
    if len(routes) > MOST_IN_ALL:
        return f"it has {len(routes)} routes, and no more than {MOST_IN_ALL} can be taken over; split it up"
    for index, route in enumerate(routes):
        if (destinations := len(route.get("route") or ())) > MOST_DESTINATIONS:
            return (
                f"{_named(index, route)} has {destinations} destinations, and no more than {MOST_DESTINATIONS} can be taken"
                " over; put some behind one Service"
            )
    return ""


def _adoption_problems(root: Json, plan: Plan) -> Iterator[str]:
    if large := too_large(root):
        yield large
        return
    metadata, spec = root["metadata"], root.get("spec") or {}
    other = (metadata.get("labels") or {}).get(PLAN_LABEL)
    if other not in (None, plan.name):
        yield f"plan {plan.namespace}/{other} has adopted it; delete that plan first"
    hostname, service = plan.spec.heroku.hostname, plan.spec.eks.service
    routes = list(plans_routes(spec, plan))
    if not routes:
        yield _none_of_the_plans(spec, plan)
    yield from _unresolved(spec, plan)
    mine = (metadata.get("annotations") or {}).get(PLAN_UID_ANNOTATION) == plan.uid
    hidden = shadowed(spec.get("http") or ())
    for index, route, legs in routes:
        where = _named(index, route)
        if index in hidden:
            before = ", ".join(f"http[{one}]" for one in hidden[index])
            yield (
                f"{where} is never reached, as {before} matches all of its requests; take it out, or correct its match"
            )
        sends = not mine and any(legs.weights[leg] for leg in legs.eks)
        if sends and not legs.heroku:
            yield (
                f"{where} sends requests to Service {service.name} and none to {hostname}, and the takeover would send them"
                f" there; have them go to {hostname}, or, as testers' requests, to a second Service with the selector of"
                f" {service.name} (docs/testers.md)"
            )
            continue
        if len(legs.heroku) > 1 or len(legs.eks) > 1:
            yield (
                f"{where} has more than one destination for a leg, whose parts would be lost; write each leg once, with the"
                " sum of the weights"
            )
        if sends:
            yield (
                f"{where} sends requests to Service {service.name} already, which the takeover would send to {hostname}; "
                "give that destination weight 0 first"
            )
        for leg in legs.eks:
            port = (legs.destinations[leg]["destination"].get("port") or {}).get("number", service.port)
            if port != service.port:
                yield (
                    f"{where} goes to port {port} of Service {service.name}, not to eks.service.port {service.port}; write"
                    " the same port in both"
                )
        yield from (f"{where} {found}" for found in _host_problems(route, legs, hostname))
        yield from (f"{where} {found}" for found in asked_twice(route, plan))
        if not mine and sets_cookies(route, plan):
            yield (
                f"{where} adds a Set-Cookie in the headers of a destination, where traffic.affinity adds its own; move it to"
                " the headers of the route"
            )
    if plan.spec.traffic.affinity is not None and len(routes) > MOST_ROUTES:
        yield (
            f"{len(routes)} of its routes go to a leg, and with traffic.affinity no more than {MOST_ROUTES} can, as each becomes"
            " three; put those together that differ in their match alone, or take traffic.affinity out"
        )
    size = len(note_original([route for _, route, _ in routes], {}).encode())
    if size > ORIGINAL_LIMIT:
        yield f"its routes take {size} bytes, and no more than {ORIGINAL_LIMIT} can be kept for later; split it up"


def _host_problems(route: Mapping[str, Any], legs: Legs, hostname: str) -> Iterator[str]:
    """Find a Host header that is set for all destinations: Heroku needs the app's host name, EKS the public one."""
    authority = (route.get("rewrite") or {}).get("authority")
    request = (route.get("headers") or {}).get("request") or {}
    setting = {name: value for part in ("set", "add") for name, value in (request.get(part) or {}).items()}
    hosts = [authority] if authority else []
    hosts += [value for name, value in setting.items() if name.lower() in HOST_HEADERS]
    if foreign := [str(host) for host in hosts if str(host).lower() != hostname.lower()]:
        what = f"sets a Host for both legs ({foreign[0]} in rewrite.authority or headers)"
        if foreign[0].lower().startswith(f"{hostname.lower()}:"):
            yield f"{what}; write {hostname} there, without a port"
        else:
            yield f"{what}; take it out, or set it in the headers of the destinations that need it"
    elif hosts and any(legs.weights[other] for other in legs.others):
        yield "sets Heroku's Host for a third destination too; set it in the destinations that need it"


def _named(index: int, route: Mapping[str, Any]) -> str:
    return f"http[{index}]" + (f" ({route['name']})" if route.get("name") else "")


def _none_of_the_plans(spec: Mapping[str, Any], plan: Plan) -> str:
    """Say what to write in a VirtualService whose routes reach the app on Heroku by another way or name."""
    hostname, service = plan.spec.heroku.hostname, plan.spec.eks.service.name
    routes = spec.get("http") or ()
    there = dict.fromkeys(
        str((one.get("destination") or {}).get("host")) for route in routes for one in route.get("route") or ()
    )
    elsewhere = [host for host in there if host.lower() != service]
    none = f"none of its http routes goes to {hostname} or to Service {service}"
    if not elsewhere and any(route.get("delegate") for route in routes):
        return f"{none}, as it delegates them; use ownership: Delegate"
    if not elsewhere:
        return f"{none}; write one that does"
    # The gateway's own metrics are the share's and the gates' source: it has to know whose answers it counts.
    return (
        f"{none}, but to {', '.join(elsewhere)}; if that is the way to the app on Heroku, such as an egress gateway, an"
        f" ExternalName Service or a custom domain, write destination: {{host: {hostname}}} in its place and a ServiceEntry"
        f" for {hostname}, as the ingress gateway itself connects to Heroku during the cutover"
    )


def _unresolved(spec: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Find Services by names that Istio takes for whole ones, as they have a dot, and that no Service has."""
    mine = {index for index, _, _ in plans_routes(spec, plan)}
    for index, route in enumerate(spec.get("http") or ()):
        for one in route.get("route") or ():
            host = str((one.get("destination") or {}).get("host", "")).lower()
            name, _, rest = host.partition(".")
            if rest not in (plan.namespace, f"{plan.namespace}.svc"):
                continue
            if index in mine or name == plan.spec.eks.service.name:
                yield f"{_named(index, route)} goes to {host}, which Istio does not complete; write {name}"


CHECK = Check(
    name="route-adoptable",
    passes_when="with ownership `Adopt`: the team's VirtualService is for the plan's hosts and gateways, and its routes"
    " [can be taken over](ownership.md#adopt)",
    applies=owned_by(Ownership.ADOPT),
    reads=(THE_TEAMS_ROUTE,),
    judge=judge,
)
