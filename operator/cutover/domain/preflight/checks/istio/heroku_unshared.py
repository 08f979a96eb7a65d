"""The app's host name: whether it is the plan's alone in the mesh, and not a name of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cutover.domain.marks import PLAN_LABEL, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused
from cutover.domain.preflight.checks.istio.host_unclaimed import ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.kinds import SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import ROUTE_PREFIX, generates, probe_host, route_name, uses_istio
from cutover.domain.preflight.checks.istio.turns import OTHER_PLANS, plans_before
from cutover.domain.preflight.inventory import key_of
from cutover.domain.resources import Json


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse names of the cluster and of other namespaces; then look for another plan with the same app."""
    inventory, hostname = facts.inventory, plan.spec.heroku.hostname
    entries = claiming(plan, inventory.all(SERVICE_ENTRIES), inventory.all(VIRTUAL_SERVICES))
    # With Delegate and Adopt the leg has a name of its own, so that the team may have an entry for the host name.
    names = (*((hostname,) if generates(plan.spec) else ()), probe_host(hostname))
    problem = internal_name(hostname, inventory.settings.cluster_domain) or others_names(plan, names, entries)
    if problem:
        return refused(problem)
    other = heroku_shared_with(plan, entries) or asked_app(plan, plans_before(plan, inventory))
    if not other:
        return judged("")
    return judged(
        f"plan {other} routes to {hostname} too, and the gates could not tell them apart; give one plan both hosts, or"
        " move them one after the other"
    )


def internal_name(hostname: str, cluster_domain: str) -> str:
    """Say that a name is one of the cluster's own; ``""`` if not.

    What is never a public name is refused by the API already; the cluster's domain is known here only.
    """
    domain = cluster_domain.lower().strip(".")
    if hostname == domain or hostname.endswith(f".{domain}"):
        return f"heroku.hostname: {hostname} is a name of this cluster; write the app's *.herokuapp.com name"
    return ""


def others_names(plan: Plan, names: Iterable[str], entries: Iterable[Json]) -> str:
    """Say which names that the plan gives to the Heroku leg ServiceEntries of other namespaces have; ``""`` if none.

    The mesh would take both for the same: which endpoints and TLS settings win depends on their age, and in the metrics
    their requests could not be told apart.

    Parameters
    ----------
    names
        Hosts of the plan's ServiceEntry.
    entries
        ServiceEntries of all namespaces.
    """
    wanted = {name.lower() for name in names}
    for item in entries:
        namespace, name = key_of(item)
        if namespace == plan.namespace:
            continue
        if both := wanted.intersection(host.lower() for host in (item.get("spec") or {}).get("hosts") or ()):
            return (
                f"ServiceEntry {namespace}/{name} of another namespace has {min(both)} as well; have it removed first, or"
                " use another host name of the app"
            )
    return ""


def claiming(plan: Plan, entries: Iterable[Json], virtual_services: Iterable[Json]) -> list[Json]:
    """Leave out the ServiceEntries that the operator made for plans of the namespace that have no route.

    Those of two plans that were made together may be there before it is clear which of them takes over.
    """

    def owner(item: Json) -> tuple[str, str | None]:
        metadata = item["metadata"]
        return metadata["namespace"], (metadata.get("labels") or {}).get(PLAN_LABEL)

    routed = {owner(item) for item in virtual_services}
    return [
        item
        for item in entries
        if item["metadata"]["namespace"] != plan.namespace or not is_ours(item["metadata"]) or owner(item) in routed
    ]


def heroku_shared_with(plan: Plan, entries: Sequence[Json]) -> str:
    """Find another plan, as ``namespace/name``, whose ServiceEntry has the plan's Heroku host name."""
    others = (
        f"{item['metadata']['namespace']}/{item['metadata']['name'].removeprefix(ROUTE_PREFIX)}"
        for item in entries
        if key_of(item) != (plan.namespace, route_name(plan))
        # Each has the name for probes; that of the leg depends on the ownership.
        and probe_host(plan.spec.heroku.hostname) in (item.get("spec", {}).get("hosts") or ())
    )
    return min(others, default="")


def asked_app(plan: Plan, before: Iterable[Json]) -> str:
    """Return a plan with the same Heroku host name whose turn is before this one's, as ``namespace/name``."""
    return min(
        (
            f"{other['metadata']['namespace']}/{other['metadata']['name']}"
            for other in before
            if other["hostname"] == plan.spec.heroku.hostname
        ),
        default="",
    )


CHECK = Check(
    name="heroku-unshared",
    passes_when="no other plan routes, or as one made earlier and not suspended is to route, to the same Heroku host name,"
    " as their requests could not be told apart. That no ServiceEntry of another namespace has it, and that it is not in"
    " the cluster's domain, cannot be skipped",
    # The plans first: one that is past preflight by then has its route.
    reads=(OTHER_PLANS, ALL_VIRTUAL_SERVICES, Read(SERVICE_ENTRIES)),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
