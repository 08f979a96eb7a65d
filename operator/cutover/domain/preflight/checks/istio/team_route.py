"""The team's VirtualService: what the ownerships ``Delegate`` and ``Adopt`` both require of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import OPERATOR_PREFIXES, qualified, qualified_gateways, root_key
from cutover.domain.preflight.inventory import Inventory, key_of
from cutover.domain.resources import Json


def team_route(plan: Plan, inventory: Inventory) -> Json | None:
    """Return the VirtualService of the plan's ``virtualServiceRef``; ``None`` if it does not exist."""
    return next((item for item in inventory.all(VIRTUAL_SERVICES) if key_of(item) == root_key(plan)), None)


def problem_of(plan: Plan, root: Json | None, *, absent: str, further: Callable[[Json], Iterator[str]]) -> str:
    """Return why the plan cannot work with the team's VirtualService; ``""`` if it can.

    Parameters
    ----------
    root
        The VirtualService; ``None`` if it does not exist.
    absent
        How to create a missing VirtualService: the words after "create it".
    further
        Yields further problems, by ownership.
    """
    key = root_key(plan)
    if key is None:
        return "write the name of the VirtualService in traffic.istio.virtualServiceRef"
    namespace, name = key
    if name.startswith(OPERATOR_PREFIXES):
        return (
            f"virtualServiceRef {name}: names that begin with cutover- are for the operator's objects; rename the"
            " team's"
        )
    if root is None:
        return f"VirtualService {namespace}/{name} does not exist; create it{absent}"
    found = [*_reach_problems(root.get("spec") or {}, plan), *further(root)]
    return f"VirtualService {namespace}/{name}: {'; '.join(found)}" if found else ""


def _reach_problems(spec: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Compare the VirtualService's hosts and gateways with the plan's, as it would move requests of others too."""
    gateways = qualified_gateways(plan)
    hosts, wanted = {host.lower() for host in spec.get("hosts") or ()}, set(plan.spec.traffic.istio.hosts)
    if missing := sorted(wanted - hosts):
        yield f"it does not route {', '.join(missing)}; add it to its hosts or take it out of traffic.istio.hosts"
    if more := sorted(hosts - wanted):
        yield f"it routes {', '.join(more)} too; add it to traffic.istio.hosts, or give it a VirtualService of its own"
    bound = {
        gateway if gateway == "mesh" else qualified(gateway, plan.namespace)
        for gateway in spec.get("gateways") or ["mesh"]
    }
    if "mesh" in bound:
        yield (
            "it is for callers inside the mesh too, whose requests cannot be compared; give gateway mesh a VirtualService"
            " of its own, and this one gateways: [" + ", ".join(gateways) + "]"
        )
    if missing := sorted(set(gateways) - bound):
        yield f"it is not bound to gateway {', '.join(missing)}; add it to its gateways"
    if more := sorted(bound - set(gateways) - {"mesh"}):
        yield f"it is bound to gateway {', '.join(more)} too; add it to traffic.istio.gateways"
