"""Check ``service-unshared``: no other VirtualService sends requests to the plan's legs through the plan's gateways.

Istio's metrics have the destination of a request and not its host. So requests of smoke tests, monitors and load tests that
come through the same gateway to the same Service, or to the same Heroku app, are counted as the plan's, and judged like
users' requests. So are requests that a route aborts (``fault``): the gateway counts them as the destination's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cutover.domain.marks import PLAN_LABEL, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    generates,
    leg_host,
    qualified,
    qualified_gateways,
    root_key,
    uses_istio,
)
from cutover.domain.preflight.checks.istio.proxies import ALL_GATEWAYS, Proxies
from cutover.domain.preflight.inventory import Key, key_of
from cutover.domain.resources import Json

#: Tells whether a destination in a VirtualService of a namespace is a leg of a plan.
IsLeg = Callable[[Mapping[str, Any] | None, Plan, str], bool]

_MIRROR = "a mirror of"


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find other VirtualServices that send to the legs, and mirrored requests."""
    items, proxies = facts.inventory.all(VIRTUAL_SERVICES), Proxies.of(facts.inventory.all(GATEWAYS))
    service, app = plan.spec.eks.service.name, _heroku(plan)
    remedies = {
        f"Service {service}": (_is_the_service, f"let them go to a second Service with the selector of {service}"),
        app: (_is_heroku, "have the plan route their hosts too"),
    }
    problems = []
    for leg, (is_leg, remedy) in remedies.items():
        found = others(plan, items, proxies, is_leg)
        if copies := [one for one in found if one.startswith(_MIRROR)]:
            problems.append(
                f"{', '.join(copies)} copies requests to {leg}, which would carry out each request twice once it serves"
                " users, and the plan's gates see its double load; take the mirror out"
            )
        if found := [one for one in found if one not in copies]:
            problems.append(
                f"{', '.join(found)} {'sends' if len(found) == 1 else 'send'} to {leg} through the plan's gateways too, and"
                f" the gates cannot tell these requests from the plan's; {remedy}, or take them out"
            )
    return judged("; ".join(problems))


def others(plan: Plan, virtual_services: Iterable[Json], proxies: Proxies, is_leg: IsLeg | None = None) -> list[str]:
    """Return the VirtualServices beside the plan's that send requests to a leg on its gateways' proxies, with their hosts.

    The leg is that of EKS unless ``is_leg`` tells another. Of the plan's own and of the team's route that it works with, only mirrored requests count: the other checks and the
    takeover see to their destinations.
    """
    items, is_leg = list(virtual_services), is_leg or _is_the_service
    bound = set(_bound(items, qualified_gateways(plan), proxies))
    found = []
    for item in items:
        key, metadata = key_of(item), item["metadata"]
        if key not in bound:
            continue
        labels = metadata.get("labels") or {}
        own = key[0] == plan.namespace and is_ours(metadata) and labels.get(PLAN_LABEL) == plan.name
        of_the_plan = own or key == root_key(plan)
        hosts = ", ".join((item.get("spec") or {}).get("hosts") or ())
        told = f"VirtualService {key[0]}/{key[1]}" + (f" ({hosts})" if hosts else "")
        routes = [route for route in (item.get("spec") or {}).get("http") or () if isinstance(route, Mapping)]
        if not of_the_plan and any(_sends(route, plan, key[0], is_leg) for route in routes):
            found.append(told)
        elif any(_mirrors(route, plan, key[0], is_leg) for route in routes):
            found.append(f"{_MIRROR} {told}")
    return sorted(found)


def _bound(virtual_services: Iterable[Json], gateways: Sequence[str], proxies: Proxies) -> Iterator[Key]:
    """Yield the VirtualServices on the proxies of some gateways, and those that these delegate to, which name no gateway."""
    for item in virtual_services:
        namespace, spec = item["metadata"]["namespace"], item.get("spec") or {}
        if not any(proxies.shared_with(qualified(name, namespace), gateways) for name in spec.get("gateways") or ()):
            continue
        yield key_of(item)
        for route in spec.get("http") or ():
            if delegate := route.get("delegate"):
                yield delegate.get("namespace") or namespace, delegate.get("name", "")


def _sends(route: Mapping[str, Any], plan: Plan, namespace: str, is_leg: IsLeg) -> bool:
    destinations = route.get("route") or ()
    # Istio ignores the weight of a single destination.
    weighted = [one for one in destinations if len(destinations) == 1 or one.get("weight")]
    return any(is_leg(one.get("destination"), plan, namespace) for one in weighted)


def _mirrors(route: Mapping[str, Any], plan: Plan, namespace: str, is_leg: IsLeg) -> bool:
    mirrored = [one.get("destination") for one in route.get("mirrors") or ()]
    return any(is_leg(one, plan, namespace) for one in (route.get("mirror"), *mirrored))


def _is_the_service(destination: Mapping[str, Any] | None, plan: Plan, namespace: str) -> bool:
    host, service = str((destination or {}).get("host", "")).lower(), plan.spec.eks.service.name
    return host.startswith(f"{service}.{plan.namespace}.svc.") or (host == service and namespace == plan.namespace)


def _heroku(plan: Plan) -> str:
    hostname = plan.spec.heroku.hostname
    return hostname if generates(plan.spec) else leg_host(hostname)


def _is_heroku(destination: Mapping[str, Any] | None, plan: Plan, namespace: str) -> bool:  # noqa: ARG001
    return str((destination or {}).get("host", "")).lower() == _heroku(plan)


CHECK = Check(
    name="service-unshared",
    passes_when="no other VirtualService sends or mirrors requests to the Service or to the Heroku app on one of the plan's"
    " gateways or of their proxies, as the [gates could not tell them from the"
    " plan's](operating.md#other-requests-to-the-same-service)",
    reads=(ALL_VIRTUAL_SERVICES, ALL_GATEWAYS),
    applies=uses_istio,
    judge=judge,
)
