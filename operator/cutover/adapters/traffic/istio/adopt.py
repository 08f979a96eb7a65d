"""Changes the team's VirtualService for the ownership ``Adopt``: adopts its routes, and restores them.

The functions are pure: objects in, objects out. Preflight checks the preconditions.

``Adopt`` works on the live object, not on a copy: a plan's routes are recognised by their destinations, and only the
fields that the split needs are changed. Other changes of the team stay. Adopting an adopted object changes nothing, and
so *current* means that adopting changes nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from cutover.adapters.traffic.istio.pinned import Pinned, drawn, is_ours, pinned
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.legs import Legs, is_adopted, is_operators, legs_of, plans_routes
from cutover.domain.preflight.checks.istio.names import HOST_HEADERS, LEG_HEADER, PREVIEW_ROUTE
from cutover.domain.preflight.checks.istio.route_writers import FLUX
from cutover.domain.resources import Json
from cutover.domain.revision import HEADER, Split
from cutover.domain.traffic import Leg

#: The fields that the operator writes in an adopted route, and restores from the original.
_TOUCHED = ("route", "headers", "retries", "rewrite")

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
        Destinations of the legs, with headers.
    preview
        Destination of testers' requests.
    probes
        The routes of the operator's probes of Heroku and of EKS, which come first.
    keeps_host
        Whether requests reach Heroku by the name that users ask for, so that no destination on Heroku may set another.
    retries
        Retries of a route that does not say how many: otherwise the mesh's default applies. Time-outs are not added, as a
        team's route without them lets answers take as long as they take.
    """

    heroku: Json
    eks: Json
    preview: Json
    probes: tuple[Json, Json]
    revision: str
    retries: Json
    keeps_host: bool = False


def adopt(spec: Json, plan: Plan, split: Split, shape: Shape, kept: Sequence[Json]) -> tuple[Json, list[Json]]:
    """Return the spec with the plan's routes at a split, and the original routes.

    Never raises, whatever others changed in the object meanwhile: a rollback must not depend on it.

    Parameters
    ----------
    spec
        Spec of the VirtualService, adopted already or not.
    split
        How the legs' requests are split; other destinations keep their part of all requests.
    kept
        Original routes of the previous adoption.
    """
    originals, known = list[Json](), _Kept(kept)
    routes = [route for route in spec.get("http") or () if not is_operators(route)]
    undrawn = dict[int, list[Json]]()
    for index, route, legs in list(plans_routes({"http": routes}, plan)):
        original = known.next_of(route) if is_adopted(legs) else route
        if original is not None:
            originals.append(original)
        # All weights of the route are the operator's: other destinations keep their original part, whatever was edited since.
        before = legs_of(original, plan) if original is not None else None
        if before is None or len(before.others) != len(legs.others):
            before = legs
        ours = _destinations(legs, shape)
        routes[index] = _adopted(route, legs, before, plan, shape, drawn(ours, plan, split))
        undrawn[index] = [
            {
                **_adopted(route, legs, before, plan, shape, _on_one(one, ours, shape)),
                "name": one.name,
                "match": matches,
            }
            for one in pinned(plan, split)
            if (matches := one.of(route.get("match")))
        ]
    heroku, eks = shape.probes
    all_of_them = [one for index, route in enumerate(routes) for one in (*undrawn.get(index, ()), route)]
    return {**spec, "http": [heroku, as_users(eks, routes, plan), *all_of_them]}, originals


def as_users(probe: Json, routes: Sequence[Json], plan: Plan) -> Json:
    """Return the route of EKS' probes with the users' own destination, such as the team's subset, if it is known."""
    (destination,) = probe["route"]
    for _, _, legs in plans_routes({"http": routes}, plan):
        if legs.eks:
            theirs = legs.destinations[legs.eks[0]]["destination"]
            return {**probe, "route": [{**destination, "destination": theirs}]}
    return probe


def restore(spec: Json, plan: Plan, kept: Sequence[Json]) -> Json:
    """Return the spec with the plan's original routes, and everything else unchanged.

    A route whose name or match was edited meanwhile is not recognised and stays unchanged.
    """
    known = _Kept(kept)
    routes = [route for route in spec.get("http") or () if not is_operators(route)]
    for index, route, legs in list(plans_routes({"http": routes}, plan)):
        original = known.next_of(route) if is_adopted(legs) else None
        if original is not None:
            rest = {name: value for name, value in route.items() if name not in _TOUCHED}
            routes[index] = rest | {name: original[name] for name in _TOUCHED if name in original}
    return {**spec, "http": routes}


class _Kept:
    """Original routes by name and match; of several with the same, each is found once, in their order."""

    def __init__(self, kept: Sequence[Json]) -> None:
        self._routes: dict[str, deque[Json]] = {}
        for route in kept:
            self._routes.setdefault(self._identity(route), deque()).append(route)

    def next_of(self, route: Mapping[str, Any]) -> Json | None:
        there = self._routes.get(self._identity(route))
        return there.popleft() if there else None

    @staticmethod
    def _identity(route: Mapping[str, Any]) -> str:
        return json.dumps([route.get("name"), route.get("match")], sort_keys=True)


def _adopted(
    route: Json, legs: Legs, before: Legs, plan: Plan, shape: Shape, parts: Mapping[Leg, Sequence[Json]]
) -> Json:
    # In a unit that makes all weights whole, and those of third destinations equal at every step: with a tenth elsewhere,
    # 25 % are 9*75 to Heroku, 9*25 to EKS and 100 elsewhere.
    total, others = before.total or 100, [100 * before.weights[index] for index in before.others]
    unit = gcd(total, *others)
    heroku, eks = (
        [{**part, "weight": total // unit * part["weight"]} for part in parts[leg]] for leg in (Leg.HEROKU, Leg.EKS)
    )
    destinations, shares, no_legs = list[Json](), iter(others), frozenset(legs.others)
    for index, there in enumerate(legs.destinations):
        # A missing leg is inserted beside the other one.
        if index in legs.heroku[:1]:
            destinations += heroku if legs.eks else [*heroku, *eks]
        elif index in legs.eks[:1]:
            destinations += eks if legs.heroku else [*heroku, *eks]
        elif index in no_legs:
            share = next(shares) // unit
            destinations.append({**there, "weight": share} if share or there.get("weight") else there)
    result = {"retries": shape.retries, **route, "route": destinations}
    stamp = {"response": {"set": {HEADER: shape.revision}}}
    result["headers"] = _merged_headers(_without_host(route.get("headers") or {}, plan), stamp)
    if (route.get("rewrite") or {}).get("authority", "").lower() == plan.spec.heroku.hostname.lower():
        # Only the Heroku destination sets Heroku's Host: the EKS leg gets the public host.
        rest = {name: value for name, value in route["rewrite"].items() if name != "authority"}
        result.pop("rewrite")
        if rest:
            result["rewrite"] = rest
    return result


def _destinations(legs: Legs, shape: Shape) -> dict[Leg, Json]:
    """Return a route's destinations for both legs, without weights.

    The team's subset or spelling of the EKS leg stays; Heroku's leg gets the operator's own name. Where the team wrote no
    port, it is the plan's: Istio would take the listener's own if the Service has several.
    """
    theirs = legs.destinations[legs.eks[0]]["destination"] if legs.eks else {}
    wanted = {**shape.eks, "destination": {**shape.eks["destination"], **theirs}}
    return {
        Leg.HEROKU: _leg(legs, legs.heroku, shape.heroku, keeps_host=shape.keeps_host),
        Leg.EKS: _leg(legs, legs.eks, wanted),
    }


def _on_one(pinned: Pinned, ours: Mapping[Leg, Json], shape: Shape) -> dict[Leg, list[Json]]:
    """Return the destinations of requests that all go to one leg. The other one is listed too, so that they can be told."""
    parts = {leg: [{**there, "weight": 100 if leg is pinned.leg else 0}] for leg, there in ours.items()}
    if pinned.name == PREVIEW_ROUTE:
        parts[Leg.EKS][0]["destination"] = shape.preview["destination"]
    return parts


def _leg(legs: Legs, where: Sequence[int], wanted: Json, *, keeps_host: bool = False) -> Json:
    there = legs.destinations[where[0]] if where else {}
    # They may be there from before they were switched off.
    theirs = _without(there.get("headers") or {}, "response", lambda name, _: name == LEG_HEADER)
    theirs = _without(theirs, "response", is_ours, operation="add")
    if keeps_host:
        theirs = _without(theirs, "request", lambda name, _: name in HOST_HEADERS)
    headers = _merged_headers(theirs, wanted["headers"])
    return {**there, "destination": wanted["destination"], "headers": headers}


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
    """Return a route's headers without Heroku's Host, which only the Heroku destination sets."""
    hostname = plan.spec.heroku.hostname.lower()
    return _without(headers, "request", lambda name, value: name in HOST_HEADERS and value.lower() == hostname)


def _without(headers: Json, direction: str, dropped: Callable[[str, str], bool], *, operation: str = "set") -> Json:
    """Return headers without some that are set (or added), by their name in lower case and their value."""
    wanted = (headers.get(direction) or {}).get(operation) or {}
    kept = {name: value for name, value in wanted.items() if not dropped(name.lower(), str(value))}
    if kept == wanted:
        return headers
    operations = {name: value for name, value in headers[direction].items() if name != operation}
    if kept:
        operations[operation] = kept
    rest = {name: value for name, value in headers.items() if name != direction}
    return {**rest, direction: operations} if operations else rest
