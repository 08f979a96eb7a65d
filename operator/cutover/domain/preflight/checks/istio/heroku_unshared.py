"""Check ``heroku-unshared``: only this plan uses the app's host name in the mesh, and it is no name of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cutover.api.hosts import covers
from cutover.domain.marks import PLAN_LABEL, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, refused
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
    entries = claiming(plan, inventory.all(SERVICE_ENTRIES), inventory.all(VIRTUAL_SERVICES))
    # With Delegate and Adopt the leg has a separate name, so that the team may have a ServiceEntry for the host name.
    names = (*((hostname,) if generates(plan.spec) else ()), probe_host(hostname))
    services = [key for key in services_named(plan) if inventory.get(SERVICES, *key) is not None]
    problem = internal_name(hostname, inventory.settings.cluster_domain, services) or others_names(
        plan, names, entries
    )
    if problem:
        return refused(problem)
    other = heroku_shared_with(plan, entries) or asked_app(plan, plans_before(plan, inventory))
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


def others_names(plan: Plan, names: Iterable[str], entries: Iterable[Json]) -> str:
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
    wanted = {name.lower() for name in names}
    asked = {name for name in wanted if not name.startswith((LEG_PREFIX, PROBE_PREFIX))}
    where = {plan.namespace, *(namespace for namespace, _ in gateway_keys(plan))}
    for item in entries:
        namespace, name = key_of(item)
        if namespace == plan.namespace:
            continue
        spec = item.get("spec") or {}
        hosts = [host.lower() for host in spec.get("hosts") or ()]
        wildcards = [host for host in hosts if host.startswith("*") and any(covers(host, one) for one in asked)]
        if wildcards and any(_visible(spec, namespace, there) for there in where):
            return (
                f"ServiceEntry {namespace}/{name} of another namespace has {wildcards[0]}, and would lose"
                f" {min(asked)} to the plan; have it exported (exportTo) to none of {', '.join(sorted(where))}, or use"
                " ownership: Delegate, where the leg has a name of its own"
            )
        if both := wanted.intersection(hosts):
            return (
                f"ServiceEntry {namespace}/{name} of another namespace has {min(both)} as well; have it removed first, or"
                " use another host name of the app"
            )
    return ""


def _visible(spec: Mapping[str, Any], namespace: str, there: str) -> bool:
    """Tell whether a ServiceEntry of a namespace is visible in another; without ``exportTo`` it is in all."""
    return any(
        target in ("*", there) or (target == "." and namespace == there) for target in spec.get("exportTo") or ("*",)
    )


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
    " their requests could not be told apart. No ServiceEntry of another namespace has the name, or a wildcard for it that"
    " is visible to the plan or its gateways, and it is no name of the cluster or of a Service; these cannot be skipped",
    # The plans first: a plan that finishes preflight meanwhile has its route when the routes are read.
    reads=(OTHER_PLANS, ALL_VIRTUAL_SERVICES, ALL_SERVICE_ENTRIES, Read(SERVICES, names=services_named)),
    applies=uses_istio,
    judge=judge,
    guarded=True,
)
