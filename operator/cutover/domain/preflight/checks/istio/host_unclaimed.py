"""Check ``host-unclaimed``: no other VirtualService or earlier plan has the plan's hosts.

The author of a MigrationPlan acts with the operator's rights, and the operator may write VirtualServices in every
namespace. Istio does not prevent two VirtualServices from claiming a host, so this check does, before anything is written.
A plan can skip only findings in its namespace.
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
    """Refuse hosts of other namespaces and of earlier plans; then find routes in the plan's namespace."""
    inventory = facts.inventory
    gateways, virtual_services = present_gateways(plan, inventory), inventory.all(VIRTUAL_SERVICES)
    problem = others_hosts(plan, virtual_services, gateways)
    # A plan that works with the team's route waits for no other plan: that route already has the hosts.
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
    """Return the problem with hosts that VirtualServices of other namespaces route on the plan's gateways; ``""`` if none.

    A VirtualService claims the hosts that it names. It also claims the hosts of a wildcard, because the plan's more
    specific route would take them away, with three exceptions: ``*`` is a catch-all; a wildcard in the gateway's namespace
    belongs to the team that runs the gateway and shares it; and a server that names the plan's namespace, as in
    ``shop/pdf.example.com``, gives it the host.

    Parameters
    ----------
    virtual_services
        VirtualServices of all namespaces.
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
    """Tell whether a server of a gateway names the plan's namespace for the host."""
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
    """Return the problem with hosts that an earlier plan asks for; ``""`` if none.

    A plan that may not use a host on a gateway blocks no other plan there.

    Parameters
    ----------
    before
        Plans that may take over before this one, from :func:`~cutover.domain.preflight.checks.istio.turns.turn_of`.
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
    """Return the plan's hosts that another VirtualService routes on the plan's gateways, each with that VirtualService.

    The VirtualService of the plan's ``virtualServiceRef`` claims nothing. Only equal hosts count: of a host and a wildcard
    Istio uses the more specific one, so neither takes anything from the other.
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
        # Without gateways it is for sidecars only, and so is the reserved gateway "mesh", which matches no name here.
        if gateways.intersection(qualified(gateway, namespace) for gateway in spec.get("gateways") or ()):
            for host in hosts.intersection(host.lower() for host in spec.get("hosts") or ()):
                claimed.setdefault(host, f"{namespace}/{name}")
    return claimed


CHECK = Check(
    name="host-unclaimed",
    passes_when="no other VirtualService routes one of the hosts on one of the gateways, and no wildcard in another"
    " namespace includes one; no earlier plan that is not suspended waits to route one. Findings in other namespaces and"
    " about earlier plans cannot be skipped",
    # The plans first: a plan that finishes preflight meanwhile has its route when the routes are read.
    reads=(THE_PLANS_GATEWAYS, OTHER_PLANS, ALL_VIRTUAL_SERVICES),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
