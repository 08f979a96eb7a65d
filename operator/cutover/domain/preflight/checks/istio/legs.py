"""Find a plan's routes in a VirtualService, and their destinations that are its legs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import LEG_PREFIX, PROBE_PREFIX
from cutover.domain.resources import Json


@dataclass(frozen=True, slots=True)
class Legs:
    """The destinations of a route that goes to a leg, and the indices of each leg's destinations.

    Parameters
    ----------
    weights
        Weight of each destination. A single destination has 100, because Istio ignores its weight.
    """

    destinations: Sequence[Json]
    weights: Sequence[int]
    heroku: Sequence[int]
    eks: Sequence[int]

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

    @property
    def others(self) -> list[int]:
        """Indices of destinations that are no leg."""
        return [index for index in range(len(self.weights)) if index not in (*self.heroku, *self.eks)]


def legs_of(route: Mapping[str, Any], plan: Plan) -> Legs | None:
    """Return the plan's legs in a route; ``None`` if the route neither sends requests to a leg nor was adopted."""
    destinations = route.get("route") or ()
    hosts = [str((item.get("destination") or {}).get("host", "")).lower() for item in destinations]
    weights = [100] if len(destinations) == 1 else [item.get("weight") or 0 for item in destinations]
    hostname, service = plan.spec.heroku.hostname.lower(), plan.spec.eks.service.name
    cluster = f"{service}.{plan.namespace}.svc."
    legs = Legs(
        destinations,
        weights,
        [index for index, host in enumerate(hosts) if host == hostname or host.startswith(LEG_PREFIX)],
        [index for index, host in enumerate(hosts) if host == service or host.startswith(cluster)],
    )
    # A route without weight on a leg is not the plan's, unless the operator adopted it and its weights were edited later.
    return legs if legs.total > 0 or is_adopted(legs) else None


def is_probe(route: Mapping[str, Any]) -> bool:
    """Tell whether a route is that of the operator's probes."""
    return any(
        str((item.get("destination") or {}).get("host", "")).startswith(PROBE_PREFIX)
        for item in route.get("route") or ()
    )


def is_adopted(legs: Legs) -> bool:
    """Tell whether the operator wrote a route, by the prefix of its Heroku destination.

    The host name after the prefix is not compared: it may have changed since, at weight 0.
    """
    return any(legs.destinations[index]["destination"]["host"].startswith(LEG_PREFIX) for index in legs.heroku)


def plans_routes(spec: Mapping[str, Any], plan: Plan) -> Iterator[tuple[int, Json, Legs]]:
    """Yield the routes of a VirtualService that go to a leg of the plan, each with its index."""
    for index, route in enumerate(spec.get("http") or ()):
        legs = None if is_probe(route) else legs_of(route, plan)
        if legs is not None:
            yield index, route, legs
