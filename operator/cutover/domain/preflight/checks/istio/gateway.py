"""Check ``gateway``: the plan's Gateways exist, and the plan may use them for its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused, warned
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.names import gateway_keys, qualified_gateways, uses_istio
from cutover.domain.preflight.checks.istio.proxies import GATEWAY_API_LABELS, selector_and_servers
from cutover.domain.preflight.checks.istio.servers import (
    closed_gateways,
    http_servers,
    takes,
    touched,
    unopened_servers,
)
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import Json

THE_PLANS_GATEWAYS = Read(GATEWAYS, names=gateway_keys, keep=selector_and_servers)


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse gateways that are closed to the plan's namespace; then find missing gateways."""
    names = qualified_gateways(plan)
    present = present_gateways(plan, facts.inventory)
    problem = closed(names, plan.namespace, facts.inventory.settings.gateway_namespaces)
    if problem := problem or unserved_hosts(plan, present) or uninvited(plan, present):
        return refused(problem)
    missing = ", ".join(name for name in names if name not in present)
    if missing:
        return judged(f"Gateway {missing} does not exist; correct traffic.istio.gateways")
    unseen = ", ".join(
        name
        for name, body in present.items()
        if GATEWAY_API_LABELS & {*((body.get("spec") or {}).get("selector") or ())}
    )
    notes = [*unopened(plan, present)]
    if unseen:
        notes.append(
            f"Gateway {unseen} is on proxies of the Gateway API, and no check sees the hosts of its HTTPRoutes"
        )
    notes += [
        f"Gateway {name} has {body['cut']}, and no more are looked at"
        for name, body in present.items()
        if "cut" in body
    ]
    return warned("; ".join(notes)) if notes else judged("")


def present_gateways(plan: Plan, inventory: Inventory) -> dict[str, Json]:
    """Return the plan's Gateways that exist, by ``namespace/name``."""
    found = {name: inventory.get(GATEWAYS, *name.split("/", 1)) for name in qualified_gateways(plan)}
    return {name: body for name, body in found.items() if body is not None}


def closed(gateways: Iterable[str], namespace: str, allowed: Sequence[str]) -> str:
    """Return the problem with gateways that the operator's settings close to plans of a namespace; ``""`` if none.

    Parameters
    ----------
    gateways, allowed
        As for :func:`closed_gateways`.
    """
    found = closed_gateways(gateways, namespace, allowed)
    if not found:
        return ""
    return (
        f"the operator's settings close Gateway {', '.join(found)} to plans of namespace {namespace}, which may use those"
        f" of {', '.join(allowed)} and of their own; write one of these, or have CUTOVER_GATEWAY_NAMESPACES changed"
    )


def unserved_hosts(plan: Plan, gateways: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the problem with hosts that no server of the plan's gateways takes from its namespace; ``""`` if none.

    Istio would not bind the route there, and would answer 404.

    Parameters
    ----------
    gateways
        The plan's Gateways that exist, by ``namespace/name``. If none has an HTTP server, there is no problem.
    """
    missing = [
        host
        for host in plan.spec.traffic.istio.hosts
        if not any(takes(gateway, body, host, plan.namespace) for gateway, body in gateways.items())
    ]
    if not missing or not any(map(http_servers, gateways.values())):
        return ""
    return (
        f"no HTTP server of Gateway {', '.join(gateways)} takes {', '.join(missing)} from namespace {plan.namespace}; add"
        f" {plan.namespace}/{missing[0]} to its servers' hosts, or correct traffic.istio"
    )


def unopened(plan: Plan, gateways: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a note for each server that takes connections for the plan's hosts past its HTTP routes.

    Parameters
    ----------
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    """
    for name, body in gateways.items():
        for server in unopened_servers(body):
            hosts = touched(server, plan.spec.traffic.istio.hosts)
            if hosts:
                yield (
                    f"Gateway {name} passes {', '.join(hosts)} on unopened at port {(server.get('port') or {}).get('number')}:"
                    " these requests are not split and stay where they are; end TLS there (tls.mode: SIMPLE), or skip this"
                    " check if no user comes that way"
                )


def uninvited(plan: Plan, gateways: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the problem with Gateways of other namespaces that take none of the plan's hosts; ``""`` if there are none.

    The Heroku leg is visible in the namespaces of the plan's Gateways, to all of their workloads. A name of a Gateway must
    not be enough for that.

    Parameters
    ----------
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    """
    found = [
        name
        for name in qualified_gateways(plan)
        if not name.startswith(f"{plan.namespace}/")
        and not (
            name in gateways
            and any(takes(name, gateways[name], host, plan.namespace) for host in plan.spec.traffic.istio.hosts)
        )
    ]
    if not found:
        return ""
    why = "takes none of the hosts" if found[0] in gateways else "does not exist"
    return (
        f"Gateway {found[0]} of another namespace {why}; take it out of traffic.istio.gateways, or have"
        f" {plan.namespace}/{plan.spec.traffic.istio.hosts[0]} written into its servers' hosts"
    )


CHECK = Check(
    name="gateway",
    passes_when="each Gateway exists, the operator's settings [open it to the namespace]"
    "(security.md#what-a-plan-may-reach), a server of one of them takes each host from the namespace, and each Gateway of"
    " another namespace takes one; only a missing Gateway of the plan's namespace can be skipped. It warns of servers that pass a host on"
    " [unopened](ownership.md#what-preflight-asks-to-be-changed)",
    reads=(THE_PLANS_GATEWAYS,),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
