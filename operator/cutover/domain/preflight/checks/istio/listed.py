"""What is kept of the objects that checks list: a mesh has thousands of them, and anybody's may be large.

Of the same kind all checks keep the same part, as one list serves the checks of all plans. It is flat: names that are
different, and no routes. How much is kept is bounded, see :mod:`cutover.domain.preflight.caps`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from typing import Any

from cutover.domain.marks import MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION, is_ours
from cutover.domain.preflight.caps import LONGEST_NAME, names, size_of
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.indexed import Hosts, Routes
from cutover.domain.preflight.checks.istio.kinds import SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.legs import is_probe
from cutover.domain.preflight.checks.istio.names import destination_key, qualified
from cutover.domain.resources import Json

#: What is kept of an object: hosts; Gateways, or namespaces that it is visible in; destinations, mirrors and delegates.
MOST_HOSTS, MOST_GATEWAYS, MOST_DESTINATIONS = 2000, 100, 2000
#: Routes that are looked at.
MOST_ROUTES = 5000

_MARKS = {"labels": (MANAGED_BY_LABEL, PLAN_LABEL), "annotations": (PLAN_UID_ANNOTATION,)}


def marked(body: Json) -> Json:
    """Return the metadata that say whose an object is."""
    metadata = body["metadata"]
    kept: Json = {"namespace": metadata["namespace"], "name": metadata["name"]}
    for part, wanted in _MARKS.items():
        given: Mapping[str, Any] = metadata.get(part) or {}
        if found := {name: str(given[name])[:LONGEST_NAME] for name in wanted if name in given}:
            kept[part] = found
    return kept


def route_claims(body: Json) -> Json:
    """Keep whose a VirtualService is, its hosts and Gateways, and where its routes send users' requests.

    ``hosts`` are in lower case, ``gateways`` ``namespace/name``, ``sends`` and ``mirrors`` as from :func:`destination_key`,
    ``delegates`` ``namespace/name``. ``cut`` says that some were left out, and ``unbound`` that Gateways were.
    """
    metadata, spec = marked(body), body.get("spec") or {}
    namespace, given, ours = metadata["namespace"], spec.get("http") or (), is_ours(body["metadata"])
    routes = [route for route in given[:MOST_ROUTES] if isinstance(route, Mapping) and not (ours and is_probe(route))]
    hosts, more_hosts = names(spec.get("hosts") or (), MOST_HOSTS)
    gateways, more_gateways = names(spec.get("gateways") or (), MOST_GATEWAYS)
    sends, more_sends = names(_sends(routes), MOST_DESTINATIONS)
    mirrors, more_mirrors = names(_mirrors(routes), MOST_DESTINATIONS)
    delegates, more_delegates = names(_delegates(routes, namespace), MOST_DESTINATIONS)
    flat = {
        "hosts": _each(host.lower() for host in hosts),
        "gateways": _each(qualified(name, namespace) for name in gateways),
        "sends": _each(destination_key(host, namespace) for host in sends),
        "mirrors": _each(destination_key(host, namespace) for host in mirrors),
        "delegates": delegates,
    }
    kept: Json = {"metadata": metadata, **{part: found for part, found in flat.items() if found}}
    if more_hosts or more_gateways or more_sends or more_mirrors or more_delegates or len(given) > MOST_ROUTES:
        kept["cut"] = "more routes, hosts or gateways than are looked at"
        kept["unbound"] = more_gateways
    return {**kept, "size": size_of(*flat.values())}


def _each(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(intern, dict.fromkeys(given)))


def _sends(routes: Iterable[Mapping[str, Any]]) -> Iterator[object]:
    for route in routes:
        destinations = route.get("route") or ()
        # Istio ignores the weight of a single destination.
        alone = len(destinations) == 1
        for one in destinations:
            if alone or one.get("weight"):
                yield (one.get("destination") or {}).get("host")


def _mirrors(routes: Iterable[Mapping[str, Any]]) -> Iterator[object]:
    for route in routes:
        if mirror := route.get("mirror"):
            yield mirror.get("host")
        for one in route.get("mirrors") or ():
            yield (one.get("destination") or {}).get("host")


def _delegates(routes: Iterable[Mapping[str, Any]], namespace: str) -> Iterator[str]:
    for route in routes:
        if delegate := route.get("delegate"):
            yield f"{delegate.get('namespace') or namespace}/{delegate.get('name', '')}"


def entry_claims(body: Json) -> Json:
    """Keep whose a ServiceEntry is, its hosts in lower case, and where it is visible."""
    spec = body.get("spec") or {}
    given, _ = names(spec.get("hosts") or (), MOST_HOSTS)
    hosts = _each(host.lower() for host in given)
    kept: Json = {"metadata": marked(body), "hosts": hosts}
    if "exportTo" in spec:
        # What is left out makes it visible in fewer namespaces, and so only claims less.
        kept["exportTo"], _ = names(spec["exportTo"] or (), MOST_GATEWAYS)
    return {**kept, "size": size_of(hosts, kept.get("exportTo", ()))}


ALL_VIRTUAL_SERVICES = Read(VIRTUAL_SERVICES, keep=route_claims, derived=(Routes.of,))
ALL_SERVICE_ENTRIES = Read(SERVICE_ENTRIES, keep=entry_claims, derived=(Hosts.of,))
