"""Check ``route-adoptable``: with ownership ``Adopt``, the routes of the team's VirtualService can be taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.marks import PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.host_unclaimed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.legs import Legs, plans_routes
from cutover.domain.preflight.checks.istio.names import HOST_HEADERS, owned_by
from cutover.domain.preflight.checks.istio.original import ORIGINAL_LIMIT, note_original
from cutover.domain.preflight.checks.istio.team_route import problem_of, team_route
from cutover.domain.resources import Json


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


def _adoption_problems(root: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    metadata, spec = root["metadata"], root.get("spec") or {}
    other = (metadata.get("labels") or {}).get(PLAN_LABEL)
    if other not in (None, plan.name):
        yield f"plan {plan.namespace}/{other} has adopted it; delete that plan first"
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            yield (
                f"{reference.get('kind')} {reference.get('name')} makes it, and would put the weights back; have the "
                "weights written there, or use ownership: Generate with a host that it does not route"
            )
    hostname, service = plan.spec.heroku.hostname, plan.spec.eks.service
    routes = list(plans_routes(spec, plan))
    if not routes:
        yield f"none of its http routes goes to {hostname} or to Service {service.name}; write one that does"
    mine = (metadata.get("annotations") or {}).get(PLAN_UID_ANNOTATION) == plan.uid
    for index, route, legs in routes:
        where = f"http[{index}]" + (f" ({route['name']})" if route.get("name") else "")
        if len(legs.heroku) > 1 or len(legs.eks) > 1:
            yield f"{where} has more than one destination for a leg, whose parts would be lost; write each leg once"
        if not mine and any(legs.weights[leg] for leg in legs.eks):
            yield (
                f"{where} sends requests to Service {service.name} already, which the takeover would send to {hostname}; "
                "give that destination weight 0 first, or another Service"
            )
        for leg in legs.eks:
            port = (legs.destinations[leg]["destination"].get("port") or {}).get("number", service.port)
            if port != service.port:
                yield f"{where} goes to port {port} of Service {service.name}, not to eks.service.port {service.port}"
        yield from (f"{where} {found}" for found in _host_problems(route, legs, hostname))
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
    if any(str(host).lower() != hostname.lower() for host in hosts):
        yield "sets a Host for both legs (rewrite.authority or headers); set it in the destinations that need it"
    elif hosts and any(legs.weights[other] for other in legs.others):
        yield "sets Heroku's Host for a third destination too; set it in the destinations that need it"


CHECK = Check(
    name="route-adoptable",
    passes_when="with ownership `Adopt`: the team's VirtualService is for the plan's hosts and gateways, and its routes"
    " [can be taken over](ownership.md#adopt)",
    applies=owned_by(Ownership.ADOPT),
    reads=(ALL_VIRTUAL_SERVICES,),
    judge=judge,
)
