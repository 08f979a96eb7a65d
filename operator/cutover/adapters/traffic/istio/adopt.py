"""Changes the team's VirtualService for the ownership ``Adopt``: adopts its routes, and restores them.

The functions are pure: objects in, objects out. Preflight checks the preconditions.

``Adopt`` works on the live object, not on a copy: a plan's routes are recognised by their destinations, and only the
fields that the split needs are changed. Other changes of the team stay. Adopting an adopted object changes nothing, and
so *current* means that adopting changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.legs import Legs, is_adopted, is_probe, legs_of, plans_routes
from cutover.domain.preflight.checks.istio.names import HOST_HEADERS
from cutover.domain.preflight.checks.istio.route_writers import FLUX
from cutover.domain.resources import Json
from cutover.domain.revision import HEADER

#: The fields that the operator writes in an adopted route, and restores from the original.
_TOUCHED = ("route", "headers", "timeout", "retries", "rewrite")

#: Annotations of an adopted VirtualService. Flux reads them from the live object, and neither applies nor prunes it then.
HANDS_OFF: Mapping[str, str] = {f"{FLUX}/reconcile": "disabled"}

# ------------------------------------------------------------------------------------------------------------ the legs


def live_weight(spec: Mapping[str, Any], plan: Plan) -> int | None:
    """Return the percent of the plan's requests that go to EKS; ``None`` where its routes differ or are missing."""
    shares = {legs.eks_percent for _, _, legs in plans_routes(spec, plan)}
    return shares.pop() if len(shares) == 1 else None


def eks_at_most(spec: Mapping[str, Any], plan: Plan) -> int:
    """Return the highest percent that any of the plan's routes sends to EKS, rounded up."""
    return max(
        (
            -(-100 * sum(legs.weights[one] for one in legs.eks) // (legs.total or 1))
            for _, _, legs in plans_routes(spec, plan)
        ),
        default=0,
    )


def live_revision(spec: Mapping[str, Any], plan: Plan) -> str:
    """Return the revision that all of the plan's routes stamp on responses; ``""`` if they differ."""
    stamps = {_response_set(route).get(HEADER, "") for _, route, _ in plans_routes(spec, plan)}
    return str(stamps.pop()) if len(stamps) == 1 else ""


def _response_set(route: Mapping[str, Any]) -> Mapping[str, Any]:
    headers = ((route.get("headers") or {}).get("response") or {}).get("set") or {}
    return headers if isinstance(headers, dict) else {}


# ------------------------------------------------------------------------------------------------- taking, giving back


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts that adoption puts into routes.

    Parameters
    ----------
    heroku, eks
        Destinations of the legs, with headers and without weights.
    probe
        The route of the operator's probes, which comes first.
    defaults
        Time-out and retries of a route that does not set them itself.
    """

    heroku: Json
    eks: Json
    probe: Json
    revision: str
    defaults: Json


def adopt(spec: Json, plan: Plan, weight: int, shape: Shape, kept: Sequence[Json]) -> tuple[Json, list[Json]]:
    """Return the spec with the plan's routes at a weight, and the original routes.

    Never raises, whatever others changed in the object meanwhile: a rollback must not depend on it.

    Parameters
    ----------
    spec
        Spec of the VirtualService, adopted already or not.
    weight
        Percent of the legs' requests to EKS; other destinations keep their part of all requests.
    kept
        Original routes of the previous adoption.
    """
    originals, known = list[Json](), {_identity(route): route for route in kept}
    routes = [route for route in spec.get("http") or () if not is_probe(route)]
    for index, route, legs in list(plans_routes({"http": routes}, plan)):
        original = known.get(_identity(route)) if is_adopted(legs) else route
        if original is not None:
            originals.append(original)
        # All weights of the route are the operator's: other destinations keep their original part, whatever was edited since.
        before = legs_of(original, plan) if original is not None else None
        if before is None or len(before.others) != len(legs.others):
            before = legs
        routes[index] = _adopted(route, legs, before, plan, weight, shape)
    return {**spec, "http": [shape.probe, *routes]}, originals


def restore(spec: Json, plan: Plan, kept: Sequence[Json]) -> Json:
    """Return the spec with the plan's original routes, and everything else unchanged.

    A route whose name or match was edited meanwhile is not recognised and stays unchanged.
    """
    known = {_identity(route): route for route in kept}
    routes = [route for route in spec.get("http") or () if not is_probe(route)]
    for index, route, legs in list(plans_routes({"http": routes}, plan)):
        original = known.get(_identity(route))
        if original is not None and is_adopted(legs):
            rest = {name: value for name, value in route.items() if name not in _TOUCHED}
            routes[index] = rest | {name: original[name] for name in _TOUCHED if name in original}
    return {**spec, "http": routes}


def _identity(route: Mapping[str, Any]) -> str:
    return json.dumps([route.get("name"), route.get("match")], sort_keys=True)


def _adopted(route: Json, legs: Legs, before: Legs, plan: Plan, weight: int, shape: Shape) -> Json:
    # In a unit that makes all weights whole, and those of third destinations equal at every step: with a tenth elsewhere,
    # 25 % are 9*75 to Heroku, 9*25 to EKS and 100 elsewhere.
    total, others = before.total or 100, [100 * before.weights[index] for index in before.others]
    unit = gcd(total, *others)
    # The team's subset or spelling of the EKS leg stays; Heroku's leg gets the operator's own name.
    theirs = {"destination": legs.destinations[legs.eks[0]]["destination"]} if legs.eks else {}
    heroku = _leg(legs, legs.heroku, shape.heroku, total // unit * (100 - weight))
    eks = _leg(legs, legs.eks, {**shape.eks, **theirs}, total // unit * weight)
    destinations = list[Json]()
    for index, there in enumerate(legs.destinations):
        # A missing leg is inserted beside the other one.
        if index in legs.heroku[:1]:
            destinations += [heroku] if legs.eks else [heroku, eks]
        elif index in legs.eks[:1]:
            destinations += [eks] if legs.heroku else [heroku, eks]
        elif index in legs.others:
            share = others.pop(0) // unit
            destinations.append({**there, "weight": share} if share or there.get("weight") else there)
    result = {**shape.defaults, **route, "route": destinations}
    stamp = {"response": {"set": {HEADER: shape.revision}}}
    result["headers"] = _merged_headers(_without_host(route.get("headers") or {}, plan), stamp)
    if (route.get("rewrite") or {}).get("authority", "").lower() == plan.spec.heroku.hostname.lower():
        # Only the Heroku destination sets Heroku's Host: the EKS leg gets the public host.
        rest = {name: value for name, value in route["rewrite"].items() if name != "authority"}
        result.pop("rewrite")
        if rest:
            result["rewrite"] = rest
    return result


def _leg(legs: Legs, where: Sequence[int], wanted: Json, weight: int) -> Json:
    there = legs.destinations[where[0]] if where else {}
    headers = _merged_headers(there.get("headers") or {}, wanted["headers"])
    return {**there, "destination": wanted["destination"], "headers": headers, "weight": weight}


def _merged_headers(theirs: Json, ours: Json) -> Json:
    """Set our headers in theirs. Header names are case-insensitive: another spelling would be a second value."""
    merged = dict(theirs)
    for direction, operations in ours.items():
        there = dict(merged.get(direction) or {})
        names = {name.lower() for name in operations["set"]}
        kept = {name: value for name, value in (there.get("set") or {}).items() if name.lower() not in names}
        there["set"] = kept | operations["set"]
        merged[direction] = there
    return merged


def _without_host(headers: Json, plan: Plan) -> Json:
    wanted = (headers.get("request") or {}).get("set") or {}
    hostname = plan.spec.heroku.hostname.lower()
    kept = {n: v for n, v in wanted.items() if n.lower() not in HOST_HEADERS or str(v).lower() != hostname}
    if kept == wanted:
        return headers
    request = {name: value for name, value in headers["request"].items() if name != "set"}
    if kept:
        request["set"] = kept
    rest = {name: value for name, value in headers.items() if name != "request"}
    return {**rest, "request": request} if request else rest
