"""Check ``gateway``: the plan's Gateways exist, and the plan may use them for its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.names import gateway_keys, qualified_gateways, uses_istio
from cutover.domain.preflight.checks.istio.servers import closed_gateways, http_servers, takes
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import Json

THE_PLANS_GATEWAYS = Read(GATEWAYS, names=gateway_keys)


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse gateways that are closed to the plan's namespace; then find missing gateways."""
    names = qualified_gateways(plan)
    present = present_gateways(plan, facts.inventory)
    problem = closed(names, plan.namespace, facts.inventory.settings.gateway_namespaces)
    if problem := problem or unserved_hosts(plan, present):
        return refused(problem)
    missing = ", ".join(name for name in names if name not in present)
    return judged(f"Gateway {missing} does not exist; correct traffic.istio.gateways" if missing else "")


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


CHECK = Check(
    name="gateway",
    passes_when="each Gateway exists, the operator's settings [open it to the namespace]"
    "(security.md#what-a-plan-may-reach), and a server of it takes the hosts from the namespace; the last two cannot be"
    " skipped",
    reads=(THE_PLANS_GATEWAYS,),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
