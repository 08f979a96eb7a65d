"""Check ``heroku-unshared``: only this plan uses the app's host name in the mesh, and it is no name of the cluster."""

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
    """Refuse names of the cluster and of other namespaces; then find another plan with the same app."""
    inventory, hostname = facts.inventory, plan.spec.heroku.hostname
    entries = claiming(plan, inventory.all(SERVICE_ENTRIES), inventory.all(VIRTUAL_SERVICES))
    # With Delegate and Adopt the leg has a separate name, so that the team may have a ServiceEntry for the host name.
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
    """Return the problem with a name in the cluster's domain; ``""`` if it is not in it.

    The API already refuses names that are never public; only this check knows the cluster's domain.
    """
    domain = cluster_domain.lower().strip(".")
    if hostname == domain or hostname.endswith(f".{domain}"):
        return f"heroku.hostname: {hostname} is a name of this cluster; write the app's *.herokuapp.com name"
    return ""


def others_names(plan: Plan, names: Iterable[str], entries: Iterable[Json]) -> str:
    """Return the problem with Heroku leg names that a ServiceEntry of another namespace has; ``""`` if none.

    The mesh would merge the two: their age decides whose endpoints and TLS settings win, and metrics could not tell their
    requests apart.

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
    """Leave out ServiceEntries that the operator wrote for plans of the namespace that have no route.

    Two plans that were created together may both have ServiceEntries before it is clear which of them takes over.
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
    """Return another plan, as ``namespace/name``, whose ServiceEntry has the plan's Heroku host name; ``""`` if none."""
    others = (
        f"{item['metadata']['namespace']}/{item['metadata']['name'].removeprefix(ROUTE_PREFIX)}"
        for item in entries
        if key_of(item) != (plan.namespace, route_name(plan))
        # Every plan's ServiceEntry has the name for probes; the leg's name depends on the ownership.
        and probe_host(plan.spec.heroku.hostname) in (item.get("spec", {}).get("hosts") or ())
    )
    return min(others, default="")


def asked_app(plan: Plan, before: Iterable[Json]) -> str:
    """Return an earlier plan, as ``namespace/name``, with the same Heroku host name; ``""`` if none."""
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
    passes_when="no other plan routes to the same Heroku host name, and no earlier plan that is not suspended waits to, as"
    " their requests could not be told apart. No ServiceEntry of another namespace has the name, and it is not in the"
    " cluster's domain; these two cannot be skipped",
    # The plans first: a plan that finishes preflight meanwhile has its route when the routes are read.
    reads=(OTHER_PLANS, ALL_VIRTUAL_SERVICES, Read(SERVICE_ENTRIES)),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
