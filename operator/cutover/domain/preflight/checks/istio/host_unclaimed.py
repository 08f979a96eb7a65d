"""The plan's hosts: whether they are routed already, or promised to another plan.

Whoever may write a MigrationPlan has the operator's hands, and these may write VirtualServices in every namespace. So what
Istio leaves to the good will of those who write VirtualServices is asked here, before anything is written, and no plan can
skip it. What concerns the plan's own namespace only can be skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cutover.domain.marks import is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused
from cutover.domain.preflight.checks.istio.gateway import THE_PLANS_GATEWAYS, present_gateways
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    generates,
    qualified,
    qualified_gateways,
    root_key,
    route_name,
    uses_istio,
)
from cutover.domain.preflight.checks.istio.servers import closed_gateways, covers, takes
from cutover.domain.preflight.checks.istio.turns import OTHER_PLANS, plans_before
from cutover.domain.preflight.inventory import key_of
from cutover.domain.resources import Json

ALL_VIRTUAL_SERVICES = Read(VIRTUAL_SERVICES)


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse hosts of other namespaces and of earlier plans; then look for routes in the plan's own namespace."""
    inventory = facts.inventory
    gateways, virtual_services = present_gateways(plan, inventory), inventory.all(VIRTUAL_SERVICES)
    problem = others_hosts(plan, virtual_services, gateways)
    # A plan that works with a route of the team's waits for no other: that route has the hosts already.
    if not problem and generates(plan.spec):
        allowed = inventory.settings.gateway_namespaces
        problem = asked_hosts(plan, plans_before(plan, inventory), gateways, allowed)
    if problem:
        return refused(problem)
    claims = [
        f"{host} by VirtualService {owner}" for host, owner in sorted(claimed_hosts(plan, virtual_services).items())
    ]
    return judged(f"already routed: {', '.join(claims)}; take the host out of it first" if claims else "")


def others_hosts(
    plan: Plan,
    virtual_services: Iterable[Json],
    gateways: Mapping[str, Mapping[str, Any]],
) -> str:
    """Say which hosts of the plan VirtualServices of other namespaces route on one of its gateways; ``""`` if none.

    A VirtualService that routes the host itself has it. One that routes a wildcard has what the wildcard includes, as the
    plan's more specific route would take it away, with three exceptions: ``*`` is for what nobody else has; a wildcard in
    a gateway's own namespace belongs to whoever runs the gateway, who shares it with others; and a server that names the
    plan's namespace, as in ``shop/pdf.example.com``, gives it the host.

    Parameters
    ----------
    virtual_services
        Of all namespaces.
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    """
    named = set(qualified_gateways(plan))
    taken: dict[str, str] = {}
    for item in virtual_services:
        namespace, spec = item["metadata"]["namespace"], item.get("spec") or {}
        if namespace == plan.namespace:
            continue
        common = {qualified(name, namespace) for name in spec.get("gateways") or ()} & named
        for pattern in spec.get("hosts") or () if common else ():
            shared = pattern == "*" or any(name.split("/", 1)[0] == namespace for name in common)
            for host in plan.spec.traffic.istio.hosts:
                wildcard = pattern.startswith("*")
                if covers(pattern, host) and not (wildcard and (shared or _given(plan, host, gateways))):
                    taken.setdefault(host, f"{namespace}/{item['metadata']['name']} ({pattern})")
    if not taken:
        return ""
    claims = ", ".join(f"{host} by VirtualService {owner}" for host, owner in sorted(taken.items()))
    return (
        f"routed from another namespace: {claims}; have the host taken out of it first, or, of a wildcard, have"
        f" {plan.namespace}/{min(taken)} written into the Gateway's hosts"
    )


def _given(plan: Plan, host: str, gateways: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a gateway's server gives the host to the plan's namespace by name."""
    return any(
        f"{plan.namespace}/{host}" in (server.get("hosts") or ())
        for body in gateways.values()
        for server in (body.get("spec") or {}).get("servers") or ()
    )


def asked_hosts(
    plan: Plan,
    before: Iterable[Json],
    gateways: Mapping[str, Mapping[str, Any]],
    allowed: Sequence[str],
) -> str:
    """Say which hosts of the plan another plan is to have, whose turn is before it; ``""`` if none.

    A plan that may not have a host on a gateway blocks no other plan there.

    Parameters
    ----------
    before
        Plans that may take over before this one, as :func:`~cutover.domain.preflight.checks.istio.turns.turn_of` has them.
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    allowed
        As for :func:`~cutover.domain.preflight.checks.istio.servers.closed_gateways`.
    """
    for other in before:
        namespace = other["metadata"]["namespace"]
        common = {
            name: body
            for name, body in gateways.items()
            if name in other["gateways"] and not closed_gateways([name], namespace, allowed)
        }
        for host in plan.spec.traffic.istio.hosts:
            if host in other["hosts"] and any(takes(name, body, host, namespace) for name, body in common.items()):
                return (
                    f"MigrationPlan {namespace}/{other['metadata']['name']}, which was made before, is to route {host};"
                    " take the host out of one of them, or delete one"
                )
    return ""


def claimed_hosts(plan: Plan, virtual_services: Iterable[Json]) -> dict[str, str]:
    """Find the plan's hosts that somebody else's VirtualService routes on one of the plan's gateways.

    The one that the plan works with, by its ``virtualServiceRef``, claims nothing.
    Only equal hosts count: where one is a wildcard the more specific host wins, so that neither takes anything from
    the other.
    """
    hosts = {host.lower() for host in plan.spec.traffic.istio.hosts}
    gateways = set(qualified_gateways(plan))
    claimed: dict[str, str] = {}
    for item in virtual_services:
        namespace, name = key_of(item)
        if (namespace, name) == (plan.namespace, route_name(plan)) and is_ours(item["metadata"]):
            continue
        if (namespace, name) == root_key(plan):
            continue
        spec = item.get("spec", {})
        # Without gateways it is for sidecars only, as is the reserved gateway "mesh", which matches no name here.
        if gateways.intersection(qualified(gateway, namespace) for gateway in spec.get("gateways") or ()):
            for host in hosts.intersection(host.lower() for host in spec.get("hosts") or ()):
                claimed.setdefault(host, f"{namespace}/{name}")
    return claimed


CHECK = Check(
    name="host-unclaimed",
    passes_when="no other VirtualService routes one of the hosts on one of the gateways; of another namespace no wildcard"
    " either; and no plan that was made earlier, and is not suspended, is to do so with a route of its own. What is of"
    " another namespace, and another plan's turn, cannot be skipped",
    # The plans first: one that is past preflight by then has its route.
    reads=(THE_PLANS_GATEWAYS, OTHER_PLANS, ALL_VIRTUAL_SERVICES),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
