"""The team's VirtualService: what the ownerships ``Delegate`` and ``Adopt`` both require of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import OPERATOR_PREFIXES, qualified, qualified_gateways, root_key
from cutover.domain.preflight.inventory import Inventory, Key
from cutover.domain.resources import Json


def _keys(plan: Plan) -> list[Key]:
    key = root_key(plan)
    return [key] if key is not None else []


THE_TEAMS_ROUTE = Read(VIRTUAL_SERVICES, names=_keys)


def team_route(plan: Plan, inventory: Inventory) -> Json | None:
    """Return the VirtualService of the plan's ``virtualServiceRef``; ``None`` if it does not exist."""
    key = root_key(plan)
    return inventory.get(VIRTUAL_SERVICES, *key) if key is not None else None


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
    spec = root.get("spec") or {}
    if another := _another_is_meant(spec, plan):
        return f"VirtualService {namespace}/{name}: {another}"
    found = [*_owner_problems(root), *_reach_problems(spec, plan, namespace), *_unopened(spec), *further(root)]
    return f"VirtualService {namespace}/{name}: {'; '.join(found)}" if found else ""


def _another_is_meant(spec: Mapping[str, Any], plan: Plan) -> str:
    """Return what to write in ``virtualServiceRef`` instead of a VirtualService that no user's request meets first."""
    hosts, hostname = {str(host).lower() for host in spec.get("hosts") or ()}, plan.spec.heroku.hostname
    wanted = ", ".join(plan.spec.traffic.istio.hosts)
    if not hosts and not spec.get("gateways"):
        return (
            "it has neither hosts nor gateways, as others delegate to it; write in virtualServiceRef the one that delegates"
            f" to it and routes {wanted}, and ownership: Delegate"
        )
    if hostname in hosts:
        return (
            f"it routes {hostname}, on the way out of the mesh; write in virtualServiceRef the one that routes {wanted}, or,"
            " if there is none, ownership: Generate"
        )
    return ""


def _owner_problems(root: Json) -> Iterator[str]:
    for reference in root["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            yield (
                f"{reference.get('kind')} {reference.get('name')} makes it, and would put its own routes back; have it stop"
                " (docs/leaving-flagger.md for Flagger), or use ownership: Generate with a host that it does not route"
            )


def _unopened(spec: Mapping[str, Any]) -> Iterator[str]:
    """Find connections that the gateway passes on without looking into them, so that they never meet an HTTP route."""
    for kind in ("tls", "tcp"):
        for index, route in enumerate(spec.get(kind) or ()):
            names = [name for match in route.get("match") or () for name in match.get("sniHosts") or ()]
            to = [str((one.get("destination") or {}).get("host")) for one in route.get("route") or ()]
            yield (
                f"{kind}[{index}] passes {', '.join(dict.fromkeys(names)) or 'connections'} on to {', '.join(to)} unopened,"
                " where nothing can be split or compared; end TLS at the Gateway (tls.mode: SIMPLE) and take"
                f" spec.{kind} out, or, if it is not to move, give it a VirtualService of its own"
            )


def _reach_problems(spec: Mapping[str, Any], plan: Plan, namespace: str) -> Iterator[str]:
    """Compare the VirtualService's hosts and gateways with the plan's, as it would move requests of others too."""
    gateways = qualified_gateways(plan)
    hosts, wanted = {host.lower() for host in spec.get("hosts") or ()}, set(plan.spec.traffic.istio.hosts)
    more = sorted(hosts - wanted)
    wildcards = [host for host in more if host.startswith("*")]
    inside = [host for host in more if _inside(host)]
    if wildcards:
        instead = [host for host in wildcards if host != "*"]
        yield (
            f"it routes {', '.join(wildcards)}, and so requests for hosts that are not the plan's; write hosts:"
            f" [{', '.join(plan.spec.traffic.istio.hosts)}], and give the other hosts a VirtualService of their own"
            + (f", or add {', '.join(instead)} to traffic.istio.hosts if all of it moves" if instead else "")
        )
    elif missing := sorted(wanted - hosts):
        yield f"it does not route {', '.join(missing)}; add it to its hosts or take it out of traffic.istio.hosts"
    if inside:
        yield (
            f"its hosts {', '.join(inside)} are names for callers inside the mesh; take them out, and give them a"
            " VirtualService of their own with gateways: [mesh]"
        )
    if others := [host for host in more if host not in (*wildcards, *inside)]:
        yield f"it routes {', '.join(others)} too; add it to traffic.istio.hosts, or give it a VirtualService of its own"
    bound = {
        gateway if gateway == "mesh" else qualified(gateway, namespace) for gateway in spec.get("gateways") or ["mesh"]
    }
    if "mesh" in bound:
        yield (
            "it is for callers inside the mesh too, whose requests cannot be compared (docs/in-mesh.md); give gateway mesh a"
            f" VirtualService of its own, and this one gateways: [{', '.join(gateways)}]"
        )
    elif missing := sorted(set(gateways) - bound):
        yield f"it is not bound to gateway {', '.join(missing)}; add it to its gateways"
    if more := sorted(bound - set(gateways) - {"mesh"}):
        yield f"it is bound to gateway {', '.join(more)} too; add it to traffic.istio.gateways"


def _inside(host: str) -> bool:
    """Tell whether a host is a Service's name inside the mesh: a short one, or one with ``.svc``."""
    return "*" not in host and ("." not in host or ".svc." in f"{host}.")
