"""Check ``host-unclaimed``: no other VirtualService or earlier plan has the plan's hosts.

The author of a MigrationPlan acts with the operator's rights, and the operator may write VirtualServices in every
namespace. Istio does not prevent two VirtualServices from claiming a host, so this check does, before anything is written.
A plan can skip only findings in its namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product

from cutover.api.hosts import covering, covers, is_wildcard
from cutover.domain.marks import is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, judged, refused, warned
from cutover.domain.preflight.checks.istio.indexed import Routes
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    generates,
    qualified_gateways,
    root_key,
    route_name,
    uses_istio,
)
from cutover.domain.preflight.checks.istio.proxies import ALL_GATEWAYS, Proxies
from cutover.domain.preflight.checks.istio.servers import closed_gateways, takes
from cutover.domain.preflight.checks.istio.turns import OTHER_PLANS, plans_before
from cutover.domain.preflight.inventory import key_of
from cutover.domain.resources import Json
from cutover.domain.texts import listed

#: Most hosts that a wildcard of the plan includes and that are looked at, to warn of them.
MOST_NARROWER = 5000


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse hosts of other namespaces and of earlier plans; then find routes in the plan's namespace."""
    inventory = facts.inventory
    proxies, routes = inventory.derived(GATEWAYS, Proxies.of), inventory.derived(VIRTUAL_SERVICES, Routes.of)
    claims = _told(claimed_hosts(plan, routes, proxies))
    narrower = _told(narrower_hosts(plan, routes, proxies))
    if not generates(plan.spec):
        # The team's route has the hosts already, and nothing is taken from others: a host's paths may be of several teams.
        return _noted(_shared(claims), _staying(narrower))
    allowed = inventory.settings.gateway_namespaces
    problem = others_hosts(plan, routes, proxies) or asked_hosts(plan, plans_before(plan, inventory), proxies, allowed)
    if problem:
        return refused(problem)
    if claims:
        return judged(f"already routed: {claims}; take the host out of it first")
    return _noted(_staying(narrower))


def _told(owners: Mapping[str, str]) -> str:
    """Return hosts with the VirtualServices that route them, for a message."""
    return listed(f"{host} by VirtualService {owners[host]}" for host in sorted(owners))


def _noted(*notes: str) -> Finding:
    found = "; ".join(filter(None, notes))
    return warned(found) if found else PASSED


def _shared(claims: str) -> str:
    """Tell of the other VirtualServices of a host, whose order with the team's is Istio's: the older one comes first."""
    if not claims:
        return ""
    return (
        f"routed by others too: {claims}; only requests that match the plan's VirtualService move and are compared. Check"
        " that no older VirtualService matches its paths, write one of its paths into traffic.probe.paths, and skip this check"
    )


def _staying(claims: str) -> str:
    """Tell of names that the plan's wildcards include and that have routes of their own, which Istio prefers."""
    if not claims:
        return ""
    return (
        f"with routes of their own: {claims}; requests for these stay where they are and are not compared. Take the routes"
        " out if they are to move with the plan, or skip this check"
    )


def others_hosts(plan: Plan, routes: Routes, proxies: Proxies) -> str:
    """Return the problem with hosts that VirtualServices of other namespaces route on the plan's gateways; ``""`` if none.

    A VirtualService claims the hosts that it names. It also claims the hosts of a wildcard, because the plan's more
    specific route would take them away, with three exceptions: ``*`` is a catch-all; a wildcard in the gateway's namespace
    belongs to the team that runs the gateway and shares it; and a server that names the plan's namespace, as in
    ``shop/pdf.example.com``, gives it the host. The last two ask the very Gateway that both have. What another Gateway on
    the same proxies says, such as one of the plan's own namespace, is no permission.

    A wildcard of the plan that includes another namespace's host takes nothing that this one's route gets, and yet it would
    get its requests at another port, or once that route is gone. It is free where the plan's namespace runs the Gateway, or
    where the Gateway names it, as in ``shop/*.shop.example.com``.

    Parameters
    ----------
    routes
        VirtualServices of all namespaces.
    proxies
        Gateways of all namespaces.
    """
    found = ((host, _taker(host, plan, routes, proxies)) for host in plan.spec.traffic.istio.hosts)
    taken = {host: taker for host, taker in found if taker}
    if not taken:
        return ""
    claims = ", ".join(f"{host} by VirtualService {owner}" for host, owner in sorted(taken.items()))
    return (
        f"routed from another namespace: {claims}; have the host taken out of it first, or, where one of the two is a"
        f" wildcard, have {plan.namespace}/{min(taken)} written into the Gateway's hosts"
    )


def _taker(host: str, plan: Plan, routes: Routes, proxies: Proxies) -> str:
    """Return the VirtualService of another namespace that one of the plan's hosts would be taken from; ``""`` if none."""
    shared = proxies.beside(qualified_gateways(plan))
    # All narrower hosts of a namespace on a Gateway yield alike, and there may be very many.
    yielding = dict[tuple[str, str, str], bool]()
    for pattern, item in routes.hosts.overlapping(host):
        namespace = item["metadata"]["namespace"]
        if namespace == plan.namespace:
            continue
        wider = pattern if covers(pattern, host) else ""
        for gateway in item.get("gateways", ()):
            if gateway not in shared:
                continue
            alike = namespace, gateway, wider
            if alike not in yielding:
                yielding[alike] = _yields(pattern, host, plan, namespace, gateway, proxies)
            if not yielding[alike]:
                return f"{namespace}/{item['metadata']['name']} ({pattern})"
    return ""


def _overlap(one: str, another: str) -> bool:
    """Tell whether two hosts, which may be wildcards, have a name in common."""
    return covers(one, another) or covers(another, one)


def _yields(pattern: str, host: str, plan: Plan, namespace: str, gateway: str, proxies: Proxies) -> bool:
    """Tell whether a host of another namespace on a gateway leaves one that it overlaps with to the plan.

    Parameters
    ----------
    pattern, namespace
        The other's host, and its namespace.
    host
        The plan's.
    """
    if pattern.lower() == host:
        return False
    body = proxies.gateways.get(gateway, {})
    if pattern == "*" or gateway not in qualified_gateways(plan):
        return pattern == "*"
    runs_it = gateway.split("/", 1)[0]
    wider = covers(pattern, host)
    if runs_it == (namespace if wider else plan.namespace) and takes(gateway, body, host, plan.namespace):
        return True
    servers = (body.get("spec") or {}).get("servers") or ()
    return any(f"{plan.namespace}/{host}" in (server.get("hosts") or ()) for server in servers)


def asked_hosts(
    plan: Plan,
    before: Iterable[Json],
    proxies: Proxies,
    allowed: Sequence[str],
) -> str:
    """Return the problem with hosts that an earlier plan asks for; ``""`` if none.

    A plan that may not use a host on a gateway blocks no other plan there.

    Parameters
    ----------
    before
        Plans that may take over before this one, from :func:`~cutover.domain.preflight.checks.istio.turns.turn_of`.
    proxies
        Gateways of all namespaces.
    allowed
        As for :func:`~cutover.domain.preflight.checks.istio.servers.closed_gateways`.
    """
    wanted, shared = plan.spec.traffic.istio.hosts, proxies.beside(qualified_gateways(plan))
    patterns = {pattern for host in wanted for pattern in covering(host)}
    below = tuple(host[1:] for host in wanted if is_wildcard(host))
    for other in before:
        namespace = other["metadata"]["namespace"]
        if patterns.isdisjoint(other["hosts"]) and not any(host.endswith(below) for host in other["hosts"]):
            continue  # nearly always, and quickly told
        common = {
            name: proxies.gateways[name]
            for name in other["gateways"]
            if name in proxies.gateways and name in shared and not closed_gateways([name], namespace, allowed)
        }
        for host, asked in product(wanted, other["hosts"]):
            # In a namespace of their own, a wildcard and a name that it includes may be two plans.
            if not (asked == host if namespace == plan.namespace else _overlap(asked, host)):
                continue
            if any(
                takes(name, body, asked, namespace) and not _yields(asked, host, plan, namespace, name, proxies)
                for name, body in common.items()
            ):
                return (
                    f"MigrationPlan {namespace}/{other['metadata']['name']}, which was made before, is to route {asked};"
                    f" take {host} out of this one or {asked} out of that one, or delete one"
                )
    return ""


def claimed_hosts(plan: Plan, routes: Routes, proxies: Proxies) -> dict[str, str]:
    """Return the plan's hosts that another VirtualService routes on the plan's gateways, each with that VirtualService.

    The VirtualService of the plan's ``virtualServiceRef`` claims nothing. Only equal hosts count: of a host and a wildcard
    Istio uses the more specific one, so neither takes anything from the other.
    """
    return _routed_beside(plan, plan.spec.traffic.istio.hosts, routes, proxies)


def narrower_hosts(plan: Plan, routes: Routes, proxies: Proxies) -> dict[str, str]:
    """Return the hosts that a wildcard of the plan includes and that another VirtualService routes on its gateways."""
    hosts = plan.spec.traffic.istio.hosts
    narrower = (host for wildcard in hosts for host in routes.hosts.below(wildcard) if host not in hosts)
    return _routed_beside(plan, islice(narrower, MOST_NARROWER), routes, proxies)


def _routed_beside(plan: Plan, hosts: Iterable[str], routes: Routes, proxies: Proxies) -> dict[str, str]:
    """Return those hosts that a VirtualService beside the plan's and the team's routes on the plan's gateways, with it."""
    # Without gateways it is for sidecars only, and so is the reserved gateway "mesh", which matches no name here.
    shared, own, team = proxies.beside(qualified_gateways(plan)), (plan.namespace, route_name(plan)), root_key(plan)
    found = dict[str, str]()
    for host in hosts:
        for item in routes.hosts.named(host):
            key = key_of(item)
            if key == team or (key == own and is_ours(item["metadata"])):
                continue
            if not shared.isdisjoint(item.get("gateways", ())):
                found[host] = "/".join(key)
                break
    return found


CHECK = Check(
    name="host-unclaimed",
    passes_when="with ownership `Generate`: no other VirtualService routes one of the hosts on one of the gateways, or on another Gateway of the same"
    " proxies, and no host of another namespace includes one or is included in one; no earlier plan that is not suspended waits to route one. Findings in other namespaces and"
    " about earlier plans cannot be skipped. It warns of hosts with routes of their own that a wildcard of the plan includes, and, with the other"
    " ownerships, of [other VirtualServices of the host](ownership.md#a-part-of-a-host)",
    # The plans first: a plan that finishes preflight meanwhile has its route when the routes are read.
    reads=(OTHER_PLANS, ALL_VIRTUAL_SERVICES, ALL_GATEWAYS),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
