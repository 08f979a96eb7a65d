"""What of a cluster a plan may reach beyond its own namespace: shared Gateways, hosts on them, names in the mesh.

Whoever may write a MigrationPlan has the operator's hands, and these may write VirtualServices in every namespace. So what
Istio leaves to the good will of those who write VirtualServices is asked here, before anything is written, and no plan can
skip it: a problem that concerns its own namespace only is not for here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cutover.domain.observation import Plan

Json = dict[str, Any]

#: Protocols of a Gateway's servers that VirtualServices' HTTP routes are for.
_HTTP = frozenset({"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"})


def covers(pattern: str, host: str) -> bool:
    """Tell whether a host of Istio's, which may begin with ``*``, is or includes a name."""
    pattern, host = pattern.lower(), host.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*") else pattern == host


def qualified(gateway: str, namespace: str) -> str:
    """Return a Gateway's ``namespace/name``, as an object of a namespace names it."""
    return gateway if "/" in gateway else f"{namespace}/{gateway}"


def serves(server: Mapping[str, Any], host: str, namespace: str | None = None, *, of: str = "") -> bool:
    """Tell whether a Gateway's server takes requests for a host from VirtualServices of a namespace.

    Parameters
    ----------
    namespace
        That of the VirtualService; ``None`` for any.
    of
        The Gateway's own namespace, which ``.`` stands for.
    """
    for entry in server.get("hosts") or ():
        open_to, _, name = entry.rpartition("/")
        if covers(name, host) and (
            namespace is None or open_to in ("", "*", namespace) or (open_to, of) == (".", namespace)
        ):
            return True
    return False


def closed_gateways(gateways: Iterable[str], namespace: str, allowed: Sequence[str]) -> str:
    """Say which of the gateways the operator's settings close to plans of a namespace; ``""`` if none.

    Parameters
    ----------
    gateways
        As ``namespace/name``.
    allowed
        Namespaces whose Gateways plans of other namespaces may use, with ``*`` and ``?``; any if empty.
    """
    owners = {gateway: gateway.split("/", 1)[0] for gateway in gateways}
    closed = [
        gateway
        for gateway, owner in owners.items()
        if allowed and owner != namespace and not any(fnmatchcase(owner, pattern) for pattern in allowed)
    ]
    if not closed:
        return ""
    return (
        f"the operator's settings close Gateway {', '.join(closed)} to plans of namespace {namespace}, which may use those"
        f" of {', '.join(allowed)} and of their own; write one of these, or have CUTOVER_GATEWAY_NAMESPACES changed"
    )


def unserved_hosts(plan: Plan, gateways: Mapping[str, Mapping[str, Any]]) -> str:
    """Say for which of its hosts no gateway of the plan has a server that is open to its namespace; ``""`` if none.

    Istio would not bind the route there, and answer 404.

    Parameters
    ----------
    gateways
        The plan's Gateways that exist, by ``namespace/name``. Of one that has no servers at all nothing is said.
    """
    missing = [
        host
        for host in plan.spec.traffic.istio.hosts
        if not any(_takes(gateway, body, host, plan.namespace) for gateway, body in gateways.items())
    ]
    if not missing or not any(map(_http_servers, gateways.values())):
        return ""
    return (
        f"no HTTP server of Gateway {', '.join(gateways)} takes {', '.join(missing)} from namespace {plan.namespace}; add"
        f" {plan.namespace}/{missing[0]} to its servers' hosts, or correct traffic.istio"
    )


def others_hosts(
    plan: Plan,
    virtual_services: Iterable[Json],
    gateways: Mapping[str, Mapping[str, Any]],
) -> str:
    """Say which hosts of the plan VirtualServices of other namespaces route on one of its gateways; ``""`` if none.

    Who routes the host itself has it. Who routes a wildcard has what it includes, as the plan's more specific route would
    take it away, with three exceptions: ``*`` is for what nobody else has; one in a gateway's own namespace is of whoever
    runs it, who shares it with others; and a server that names the plan's namespace, as in ``shop/pdf.example.com``, gives
    it the host.

    Parameters
    ----------
    virtual_services
        Of all namespaces.
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    """
    named = {qualified(name, plan.namespace) for name in plan.spec.traffic.istio.gateways}
    taken: dict[str, str] = {}
    for item in virtual_services:
        namespace, spec = item["metadata"]["namespace"], item.get("spec") or {}
        if namespace == plan.namespace:
            continue
        common = {qualified(name, namespace) for name in spec.get("gateways") or ()} & named
        for pattern in spec.get("hosts") or () if common else ():
            shared = pattern == "*" or any(name.split("/", 1)[0] == namespace for name in common)
            for host in plan.spec.traffic.istio.hosts:
                wildcard = pattern.startswith("*")
                if covers(pattern, host) and not (wildcard and (shared or _given(plan, host, gateways))):
                    taken.setdefault(host, f"{namespace}/{item['metadata']['name']} ({pattern})")
    if not taken:
        return ""
    claims = ", ".join(f"{host} by VirtualService {owner}" for host, owner in sorted(taken.items()))
    return (
        f"routed from another namespace: {claims}; have the host taken out of it first, or, of a wildcard, have"
        f" {plan.namespace}/{min(taken)} written into the Gateway's hosts"
    )


def _given(plan: Plan, host: str, gateways: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether a gateway's server gives the host to the plan's namespace by name."""
    return any(
        f"{plan.namespace}/{host}" in (server.get("hosts") or ())
        for body in gateways.values()
        for server in (body.get("spec") or {}).get("servers") or ()
    )


def asked_hosts(
    plan: Plan,
    before: Iterable[Json],
    gateways: Mapping[str, Mapping[str, Any]],
    allowed: Sequence[str],
) -> str:
    """Say which hosts of the plan another one is to have, whose turn is before it; ``""`` if none.

    This is for a plan with a route of its own; another one works with a route that has the hosts already. Who may not have a host on a gateway keeps nobody from it.

    Parameters
    ----------
    before
        Plans that may take over before this one.
    gateways
        The plan's Gateways that exist, by ``namespace/name``.
    allowed
        As for :func:`closed_gateways`.
    """
    for other in before:
        namespace = other["metadata"]["namespace"]
        common = {
            name: body
            for name, body in gateways.items()
            if name in other["gateways"] and not closed_gateways([name], namespace, allowed)
        }
        for host in plan.spec.traffic.istio.hosts:
            if host in other["hosts"] and any(_takes(name, body, host, namespace) for name, body in common.items()):
                return (
                    f"MigrationPlan {namespace}/{other['metadata']['name']}, which was made before, is to route {host};"
                    " take the host out of one of them, or delete one"
                )
    return ""


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


def _takes(gateway: str, body: Mapping[str, Any], host: str, namespace: str) -> bool:
    """Tell whether a Gateway has an HTTP server that takes a host from a namespace."""
    return any(serves(server, host, namespace, of=gateway.split("/", 1)[0]) for server in _http_servers(body))


def _http_servers(gateway: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    servers = (gateway.get("spec") or {}).get("servers") or ()
    return [server for server in servers if str((server.get("port") or {}).get("protocol", "")).upper() in _HTTP]


def others_names(plan: Plan, names: Iterable[str], entries: Iterable[Json]) -> str:
    """Say which names that the plan gives to the Heroku leg ServiceEntries of other namespaces have; ``""`` if none.

    The mesh would take both for one: which endpoints and TLS settings win depends on their age, and in the metrics their
    requests could not be told apart.

    Parameters
    ----------
    names
        Hosts of the plan's ServiceEntry.
    entries
        ServiceEntries of all namespaces.
    """
    wanted = {name.lower() for name in names}
    for item in entries:
        metadata = item["metadata"]
        if metadata["namespace"] == plan.namespace:
            continue
        if both := wanted.intersection(host.lower() for host in (item.get("spec") or {}).get("hosts") or ()):
            return (
                f"ServiceEntry {metadata['namespace']}/{metadata['name']} of another namespace has {min(both)} as well;"
                " have it removed first, or use another host name of the app"
            )
    return ""


def internal_name(hostname: str, cluster_domain: str) -> str:
    """Say that a name is one of the cluster's own; ``""`` if not.

    What is never a public name is refused by the API already; the cluster's domain is known here only.
    """
    domain = cluster_domain.lower().strip(".")
    if hostname == domain or hostname.endswith(f".{domain}"):
        return f"heroku.hostname: {hostname} is a name of this cluster; write the app's *.herokuapp.com name"
    return ""
