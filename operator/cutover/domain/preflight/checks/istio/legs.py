"""Find a plan's routes in a VirtualService, and their destinations that are its legs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import (
    LEG_PREFIX,
    PINNED_ROUTES,
    PREVIEW_PREFIX,
    PROBE_HEADER,
    PROBE_PREFIX,
)
from cutover.domain.resources import Json


@dataclass(frozen=True, slots=True)
class Legs:
    """The destinations of a route that goes to a leg, and the indices of each leg's destinations.

    Parameters
    ----------
    weights
        Weight of each destination. A single destination has 100, because Istio ignores its weight.
    others
        Indices of the destinations that are no leg.
    """

    destinations: Sequence[Json]
    weights: Sequence[int]
    heroku: Sequence[int]
    eks: Sequence[int]
    others: Sequence[int]

    @property
    def total(self) -> int:
        """Sum of the weights of both legs."""
        return sum(self.weights[index] for index in (*self.heroku, *self.eks))

    @property
    def eks_percent(self) -> int | None:
        """EKS' percent of the legs' weight; ``None`` if it is not a whole number."""
        if self.total == 0:
            return None
        percent, rest = divmod(100 * sum(self.weights[index] for index in self.eks), self.total)
        return None if rest else percent


def legs_of(route: Mapping[str, Any], plan: Plan) -> Legs | None:
    """Return the plan's legs in a route; ``None`` if the route neither sends requests to a leg nor was adopted."""
    destinations = route.get("route") or ()
    hosts = [str((item.get("destination") or {}).get("host", "")).lower() for item in destinations]
    weights = [100] if len(destinations) == 1 else [item.get("weight") or 0 for item in destinations]
    hostname, service = plan.spec.heroku.hostname.lower(), plan.spec.eks.service.name
    cluster = f"{service}.{plan.namespace}.svc."
    heroku = [index for index, host in enumerate(hosts) if host == hostname or host.startswith(LEG_PREFIX)]
    eks = [index for index, host in enumerate(hosts) if host == service or host.startswith(cluster)]
    of_a_leg = {*heroku, *eks}
    legs = Legs(destinations, weights, heroku, eks, [index for index in range(len(hosts)) if index not in of_a_leg])
    # A route without weight on a leg is not the plan's, unless the operator adopted it and its weights were edited later.
    return legs if legs.total > 0 or is_adopted(legs) else None


def is_probe(route: Mapping[str, Any]) -> bool:
    """Tell whether a route is for the operator's probes of one of the legs."""
    return any(PROBE_HEADER in (match.get("headers") or {}) for match in route.get("match") or ()) or any(
        str((item.get("destination") or {}).get("host", "")).startswith(PROBE_PREFIX)
        for item in route.get("route") or ()
    )


def is_operators(route: Mapping[str, Any]) -> bool:
    """Tell whether a whole route is the operator's: for its probes, or for requests that are not drawn."""
    hosts = (str((item.get("destination") or {}).get("host", "")) for item in route.get("route") or ())
    # Of a team's own route of such a name no destination has a name of the operator's.
    return is_probe(route) or (
        route.get("name") in PINNED_ROUTES and any(host.startswith((LEG_PREFIX, PREVIEW_PREFIX)) for host in hosts)
    )


def is_adopted(legs: Legs) -> bool:
    """Tell whether the operator wrote a route, by the prefix of its Heroku destination.

    The host name after the prefix is not compared: it may have changed since, at weight 0.
    """
    return any(legs.destinations[index]["destination"]["host"].startswith(LEG_PREFIX) for index in legs.heroku)


def plans_routes(spec: Mapping[str, Any], plan: Plan) -> Iterator[tuple[int, Json, Legs]]:
    """Yield the routes of a VirtualService that go to a leg of the plan, each with its index."""
    for index, route in enumerate(spec.get("http") or ()):
        legs = None if is_operators(route) else legs_of(route, plan)
        if legs is not None:
            yield index, route, legs


def shadowed(routes: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Return the routes that no request reaches, each with the earlier routes that together match all of its requests.

    Only equal conditions and routes for all requests count. A route that delegates hides none, as its delegate may match
    fewer, or not exist.
    """
    first: dict[str, int] = {}
    hidden = dict[int, list[int]]()
    for number, route in enumerate(routes):
        conditions = _conditions(route)
        found = [first.get(condition, first.get(_ALL)) for condition in conditions]
        if None not in found:
            hidden[number] = sorted({one for one in found if one is not None})
        if not route.get("delegate"):
            for condition in conditions:
                first.setdefault(condition, number)
    return hidden


def _conditions(route: Mapping[str, Any]) -> list[str]:
    """Return each of a route's matches in one spelling, without the fields that match nothing."""
    matches: Sequence[Mapping[str, Any]] = route.get("match") or ({},)
    kept = [{name: value for name, value in one.items() if name not in ("name", "statPrefix")} for one in matches]
    found = [json.dumps(one, sort_keys=True) for one in kept]
    return [_ALL if one in _ANY_PATH else one for one in found]


#: The condition of a match for all requests, and the other ways to write it.
_ALL, _ANY_PATH = "{}", tuple(json.dumps({"uri": uri}) for uri in ({"prefix": "/"}, {"regex": ".*"}))
