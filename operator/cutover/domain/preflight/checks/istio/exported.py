"""Check ``exported``: the objects of the team that a plan needs are visible to its gateways (``exportTo``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged
from cutover.domain.preflight.checks.istio.names import gateway_keys, uses_istio
from cutover.domain.preflight.checks.istio.team_route import THE_TEAMS_ROUTE, team_route
from cutover.domain.preflight.inventory import Key, key_of
from cutover.domain.resources import SERVICES

#: Annotation of a Service with the namespaces that see it.
EXPORT_ANNOTATION = "networking.istio.io/exportTo"


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find what hides the Service and the team's VirtualService from the namespaces of the plan's Gateways."""
    return judged("; ".join(_hidden(plan, facts)))


def _hidden(plan: Plan, facts: Facts) -> Iterator[str]:
    key = plan.namespace, plan.spec.eks.service.name
    service, route = facts.inventory.get(SERVICES, *key), team_route(plan, facts.inventory)
    annotation = ((service or {}).get("metadata", {}).get("annotations") or {}).get(EXPORT_ANNOTATION, "")
    if missing := unseeing(plan, key, [one.strip() for one in annotation.split(",") if one.strip()]):
        yield (
            f"Service {key[1]} has the annotation {EXPORT_ANNOTATION}: {annotation}, so that the gateways in"
            f" {', '.join(missing)} do not see it; add {', '.join(missing)} to it"
        )
    if route is None or key_of(route)[0] != plan.namespace:
        # What is in another team's object is not told. A root in a Gateway's namespace is there for its gateways.
        return
    targets = [str(target) for target in (route.get("spec") or {}).get("exportTo") or ()]
    if missing := unseeing(plan, key_of(route), targets):
        yield (
            f"VirtualService {'/'.join(key_of(route))} has exportTo: [{', '.join(targets)}], so that the gateways in"
            f" {', '.join(missing)} do not see it; add {', '.join(missing)} to it"
        )


def unseeing(plan: Plan, key: Key, targets: Iterable[str]) -> list[str]:
    """Return the namespaces of the plan's Gateways that do not see an object.

    Parameters
    ----------
    key
        Namespace and name of the object.
    targets
        Its ``exportTo``: namespaces, ``.`` for its own, ``*`` for all, ``~`` for none. If empty, the mesh's default
        applies, which is not read; Istio's is ``*``.
    """
    named = {key[0] if target == "." else target for target in targets}
    if not named or "*" in named:
        return []
    return sorted({namespace for namespace, _ in gateway_keys(plan)} - named)


CHECK = Check(
    name="exported",
    passes_when="no `exportTo` hides the Service or the team's VirtualService from the namespaces of the plan's Gateways."
    " Skip it where a Gateway's proxies run in another namespace than the Gateway. [The mesh's"
    " defaults](ownership.md#exportto) are not read",
    reads=(Read(SERVICES, names=lambda plan: [(plan.namespace, plan.spec.eks.service.name)]), THE_TEAMS_ROUTE),
    applies=uses_istio,
    judge=judge,
)
