"""Check ``heroku-unshared``: only this plan uses the app's host name in the mesh, and it is no name of the cluster."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from cutover.domain.marks import is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused
from cutover.domain.preflight.checks.istio.indexed import Hosts, Routes, owner_of
from cutover.domain.preflight.checks.istio.kinds import SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import ALL_SERVICE_ENTRIES, ALL_VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    LEG_PREFIX,
    PROBE_PREFIX,
    ROUTE_PREFIX,
    gateway_keys,
    generates,
    probe_host,
    route_name,
    uses_istio,
)
from cutover.domain.preflight.checks.istio.turns import OTHER_PLANS, plans_before
from cutover.domain.preflight.inventory import Key, key_of
from cutover.domain.resources import SERVICES, Json


def judge(plan: Plan, facts: Facts) -> Finding:
    """Refuse names of the cluster and of other namespaces; then find another plan with the same app."""
    inventory, hostname = facts.inventory, plan.spec.heroku.hostname
    entries = inventory.derived(SERVICE_ENTRIES, Hosts.of)
    routed = inventory.derived(VIRTUAL_SERVICES, Routes.of).owners
    # With Delegate and Adopt the leg has a separate name, so that the team may have a ServiceEntry for the host name.
    names = (*((hostname,) if generates(plan.spec) else ()), probe_host(hostname))
    services = [key for key in services_named(plan) if inventory.get(SERVICES, *key) is not None]
    problem = internal_name(hostname, inventory.settings.cluster_domain, services) or others_names(
        plan, names, entries
    )
    if problem:
        return refused(problem)
    other = heroku_shared_with(plan, entries, routed) or asked_app(plan, plans_before(plan, inventory))
    if not other:
        return judged("")
    return judged(
        f"plan {other} routes to {hostname} too, and the gates could not tell them apart; give one plan both hosts, or"
        " move them one after the other"
    )


def services_named(plan: Plan) -> list[Key]:
    """Return namespace and name of each Service that the proxies may take the Heroku host name for.

    Inside the cluster the resolver tries the name with the cluster's domains behind it first: ``reviews.prod`` is Service
    ``reviews`` of namespace ``prod``, or Pod ``reviews`` of a Service ``prod`` of the proxies' namespace, and
    ``db-0.db.prod`` is a Pod of Service ``db``. Names of Heroku's own domains are not looked up.
    """
    labels = plan.spec.heroku.hostname.split(".")
    if labels[-2:] in (["herokuapp", "com"], ["herokudns", "com"]):
        return []
    if len(labels) == 2:
        proxies = sorted({namespace for namespace, _ in gateway_keys(plan)})
        return [(labels[1], labels[0]), *((namespace, labels[1]) for namespace in proxies)]
    return [(labels[2], labels[1])] if len(labels) == 3 else []


def internal_name(hostname: str, cluster_domain: str, services: Sequence[Key]) -> str:
    """Return the problem with a name of the cluster; ``""`` if it is none.

    The API already refuses names that are never public; only this check knows the cluster's domain and its Services.

    Parameters
    ----------
    services
        Namespace and name of the Services from :func:`services_named` that exist.
    """
    domain, what = cluster_domain.lower().strip("."), ""
    if hostname == domain or hostname.endswith(f".{domain}"):
        what = "a name of this cluster"
    elif services:
        what = f"a name of Service {'/'.join(services[0])} of this cluster"
    return f"heroku.hostname: {hostname} is {what}; write the app's *.herokuapp.com name" if what else ""


def others_names(plan: Plan, names: Iterable[str], entries: Hosts) -> str:
    """Return the problem with Heroku leg names that a ServiceEntry of another namespace has; ``""`` if none.

    The mesh would merge the two: their age decides whose endpoints and TLS settings win, and metrics could not tell their
    requests apart. Beside a wildcard, the plan's more specific name would take requests from it, wherever both are visible.

    Parameters
    ----------
    names
        Hosts of the plan's ServiceEntry. Nobody else asks for those with the operator's prefixes, so a wildcard loses
        nothing to them.
    entries
        ServiceEntries of all namespaces.
    """
    where = {plan.namespace, *(namespace for namespace, _ in gateway_keys(plan))}
    for wanted in (name.lower() for name in names):
        asked = not wanted.startswith((LEG_PREFIX, PROBE_PREFIX))
        for host, item in entries.overlapping(wanted):
            namespace, name = key_of(item)
            if namespace == plan.namespace:
                continue
            if host == wanted:
                return (
                    f"ServiceEntry {namespace}/{name} of another namespace has {wanted} as well; have it removed first, or"
                    " use another host name of the app"
                )
            if asked and any(_visible(item, namespace, there) for there in where):
                return (
                    f"ServiceEntry {namespace}/{name} of another namespace has {host}, and would lose"
                    f" {wanted} to the plan; have it exported (exportTo) to none of {', '.join(sorted(where))}, or use"
                    " ownership: Delegate, where the leg has a name of its own"
                )
    return ""


def _visible(item: Json, namespace: str, there: str) -> bool:
    """Tell whether a ServiceEntry of a namespace is visible in another; without ``exportTo`` it is in all."""
    return any(
        target in ("*", there) or (target == "." and namespace == there) for target in item.get("exportTo") or ("*",)
    )


def heroku_shared_with(plan: Plan, entries: Hosts, routed: Container[tuple[str, str | None]]) -> str:
    """Return another plan, as ``namespace/name``, whose ServiceEntry has the plan's Heroku host name; ``""`` if none.

    ServiceEntries that the operator wrote for plans of the namespace that have no route do not count: two plans that were
    created together may both have them before it is clear which of them takes over.

    Parameters
    ----------
    routed
        Namespace and plan of each VirtualService.
    """
    others = (
        f"{item['metadata']['namespace']}/{item['metadata']['name'].removeprefix(ROUTE_PREFIX)}"
        # Every plan's ServiceEntry has the name for probes; the leg's name depends on the ownership.
        for item in entries.named(probe_host(plan.spec.heroku.hostname))
        if key_of(item) != (plan.namespace, route_name(plan))
        and (
            item["metadata"]["namespace"] != plan.namespace
            or not is_ours(item["metadata"])
            or owner_of(item) in routed
        )
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
    " their requests could not be told apart. No ServiceEntry of another namespace has the name, or a wildcard for it that"
    " is visible to the plan or its gateways, and it is no name of the cluster or of a Service; these cannot be skipped",
    # The plans first: a plan that finishes preflight meanwhile has its route when the routes are read.
    reads=(OTHER_PLANS, ALL_VIRTUAL_SERVICES, ALL_SERVICE_ENTRIES, Read(SERVICES, names=services_named)),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
