"""What is kept of the objects that checks list: a mesh has thousands of them, and anybody's may be large.

Of the same kind all checks keep the same part, as one list serves the checks of all plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.domain.marks import MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION, is_ours
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.kinds import SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.legs import is_probe
from cutover.domain.resources import Json

_MARKS = {"labels": (MANAGED_BY_LABEL, PLAN_LABEL), "annotations": (PLAN_UID_ANNOTATION,)}


def marked(body: Json) -> Json:
    """Return the metadata that say whose an object is."""
    metadata = body["metadata"]
    kept: Json = {"namespace": metadata["namespace"], "name": metadata["name"]}
    for part, names in _MARKS.items():
        given: Mapping[str, Any] = metadata.get(part) or {}
        if found := {name: given[name] for name in names if name in given}:
            kept[part] = found
    return kept


def route_claims(body: Json) -> Json:
    """Keep whose a VirtualService is, its hosts and Gateways, and where its routes send users' requests."""
    kept, ours = _claims(body, "hosts", "gateways"), is_ours(body["metadata"])
    routes = [
        _sent(route)
        for route in (body.get("spec") or {}).get("http") or ()
        if isinstance(route, Mapping) and not (ours and is_probe(route))
    ]
    if found := [route for route in routes if route]:
        kept["spec"]["http"] = found
    return kept


def entry_claims(body: Json) -> Json:
    """Keep whose a ServiceEntry is, its hosts, and where it is visible."""
    return _claims(body, "hosts", "exportTo")


def _claims(body: Json, *names: str) -> Json:
    spec = body.get("spec") or {}
    return {"metadata": marked(body), "spec": {name: spec[name] for name in names if name in spec}}


def _sent(route: Mapping[str, Any]) -> Json:
    kept: Json = {name: route[name] for name in ("delegate", "mirror") if name in route}
    for name in ("route", "mirrors"):
        if given := route.get(name):
            kept[name] = [{part: one[part] for part in ("destination", "weight") if part in one} for one in given]
    return kept


ALL_VIRTUAL_SERVICES = Read(VIRTUAL_SERVICES, keep=route_claims)
ALL_SERVICE_ENTRIES = Read(SERVICE_ENTRIES, keep=entry_claims)
