"""Check ``service-unshared``: no other VirtualService sends requests to the plan's legs through the plan's gateways.

Istio's metrics have the destination of a request and not its host. So requests of smoke tests, monitors and load tests that
come through the same gateway to the same Service, or to the same Heroku app, are counted as the plan's, and judged like
users' requests. So are requests that a route aborts (``fault``): the gateway counts them as the destination's.
"""

from __future__ import annotations

from cutover.domain.marks import is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, judged, warned
from cutover.domain.preflight.checks.istio.indexed import Routes, owner_of
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    destination_key,
    generates,
    leg_host,
    qualified_gateways,
    root_key,
    uses_istio,
)
from cutover.domain.preflight.checks.istio.proxies import ALL_GATEWAYS, Proxies
from cutover.domain.preflight.inventory import Key, key_of
from cutover.domain.resources import Json
from cutover.domain.texts import listed

_MIRROR = "a mirror of"


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find other VirtualServices that send to the legs, and mirrored requests."""
    inventory = facts.inventory
    routes, proxies = inventory.derived(VIRTUAL_SERVICES, Routes.of), inventory.derived(GATEWAYS, Proxies.of)
    service, app = plan.spec.eks.service.name, _heroku(plan)
    remedies = {
        f"Service {service}": (_service(plan), f"let them go to a second Service with the selector of {service}"),
        app: (app, "have the plan route their hosts too"),
    }
    problems = []
    for leg, (destination, remedy) in remedies.items():
        found = others(plan, routes, proxies, destination)
        if copies := [one for one in found if one.startswith(_MIRROR)]:
            problems.append(
                f"{listed(copies)} copies requests to {leg}, which would carry out each request twice once it serves"
                " users, and the plan's gates see its double load; take the mirror out"
            )
        if found := [one for one in found if not one.startswith(_MIRROR)]:
            problems.append(
                f"{listed(found)} {'sends' if len(found) == 1 else 'send'} to {leg} through the plan's gateways too, and"
                f" the gates cannot tell these requests from the plan's; {remedy}, or take them out"
            )
    if problems:
        return judged("; ".join(problems))
    unseen = _unseen(plan, routes, proxies)
    return (
        warned(f"not looked at as a whole: {unseen}; they may send requests to the plan's legs") if unseen else PASSED
    )


def others(plan: Plan, routes: Routes, proxies: Proxies, destination: str = "") -> list[str]:
    """Return the VirtualServices beside the plan's that send requests to a leg on its gateways' proxies, with their hosts.

    Of the plan's own and of the team's route that it works with, only mirrored requests count: the other checks and the
    takeover see to their destinations.

    Parameters
    ----------
    destination
        The leg, as VirtualServices name it; by default that of EKS.
    """
    key = destination_key(destination or _service(plan), plan.namespace)
    shared, team = proxies.beside(qualified_gateways(plan)), root_key(plan)
    found = list[str]()
    senders = [item for item in routes.sending.get(key, ()) if not _is_the_plans(item, plan, team)]
    known = set(map(key_of, senders))
    for items, what in (
        (senders, ""),
        ([item for item in routes.mirroring.get(key, ()) if key_of(item) not in known], f"{_MIRROR} "),
    ):
        for item in items:
            if routes.is_bound(item, shared):
                hosts = listed(item.get("hosts", ()))
                found.append(f"{what}VirtualService {'/'.join(key_of(item))}" + (f" ({hosts})" if hosts else ""))
    return sorted(found)


def _is_the_plans(item: Json, plan: Plan, team: Key | None) -> bool:
    return key_of(item) == team or (is_ours(item["metadata"]) and owner_of(item) == (plan.namespace, plan.name))


def _unseen(plan: Plan, routes: Routes, proxies: Proxies) -> str:
    """Name those that may be on the plan's gateways and that are too large to be looked at whole."""
    shared, team = proxies.beside(qualified_gateways(plan)), root_key(plan)
    found = (
        f"VirtualService {'/'.join(key_of(item))} ({item['cut']})"
        for item in routes.cut
        if not _is_the_plans(item, plan, team) and (item.get("unbound", True) or routes.is_bound(item, shared))
    )
    return listed(found)


def _service(plan: Plan) -> str:
    return f"{plan.spec.eks.service.name}.{plan.namespace}.svc."


def _heroku(plan: Plan) -> str:
    hostname = plan.spec.heroku.hostname
    return hostname if generates(plan.spec) else leg_host(hostname)


CHECK = Check(
    name="service-unshared",
    passes_when="no other VirtualService sends or mirrors requests to the Service or to the Heroku app on one of the plan's"
    " gateways or of their proxies, as the [gates could not tell them from the"
    " plan's](operating.md#other-requests-to-the-same-service). It warns of VirtualServices that are [too large to be looked at"
    " whole](security.md#how-much-is-looked-at)",
    reads=(ALL_VIRTUAL_SERVICES, ALL_GATEWAYS),
    applies=uses_istio,
    judge=judge,
)
