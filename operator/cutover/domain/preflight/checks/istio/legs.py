"""Which routes of a VirtualService are a plan's, and which of their destinations are its legs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import LEG_PREFIX, PROBE_PREFIX
from cutover.domain.resources import Json


@dataclass(frozen=True, slots=True)
class Legs:
    """Destinations of one route that goes to a leg, as indices into them.

    Parameters
    ----------
    weights
        Of each destination; Istio takes all of a lone one, whatever it says.
    """

    destinations: Sequence[Json]
    weights: Sequence[int]
    heroku: Sequence[int]
    eks: Sequence[int]

    @property
    def total(self) -> int:
        """Weight of both legs."""
        return sum(self.weights[index] for index in (*self.heroku, *self.eks))

    @property
    def eks_percent(self) -> int | None:
        """Percent of both legs' weight that the EKS leg has, ``None`` where it is no whole number."""
        if self.total == 0:
            return None
        percent, rest = divmod(100 * sum(self.weights[index] for index in self.eks), self.total)
        return None if rest else percent

    @property
    def others(self) -> list[int]:
        """Third destinations."""
        return [index for index in range(len(self.weights)) if index not in (*self.heroku, *self.eks)]


def legs_of(route: Mapping[str, Any], plan: Plan) -> Legs | None:
    """Return the legs of a route of the plan, ``None`` for one that is none of its business."""
    destinations = route.get("route") or ()
    hosts = [str((one.get("destination") or {}).get("host", "")).lower() for one in destinations]
    weights = [100] if len(destinations) == 1 else [one.get("weight") or 0 for one in destinations]
    hostname, service = plan.spec.heroku.hostname.lower(), plan.spec.eks.service.name
    cluster = f"{service}.{plan.namespace}.svc."
    legs = Legs(
        destinations,
        weights,
        [index for index, host in enumerate(hosts) if host == hostname or host.startswith(LEG_PREFIX)],
        [index for index, host in enumerate(hosts) if host == service or host.startswith(cluster)],
    )
    # A leg without weight in a route to elsewhere gets no request of it, unless somebody has taken it away from us.
    return legs if legs.total > 0 or is_adopted(legs) else None


def is_probe(route: Mapping[str, Any]) -> bool:
    """Tell the route of the operator's probes."""
    return any(
        str((one.get("destination") or {}).get("host", "")).startswith(PROBE_PREFIX)
        for one in route.get("route") or ()
    )


def is_adopted(legs: Legs) -> bool:
    """Tell a route that the operator has written from one that somebody has put back.

    The app may have got another host name since, at weight 0.
    """
    return any(legs.destinations[index]["destination"]["host"].startswith(LEG_PREFIX) for index in legs.heroku)


def plans_routes(spec: Mapping[str, Any], plan: Plan) -> Iterator[tuple[int, Json, Legs]]:
    """Yield the routes of a VirtualService that go to a leg of the plan, each with its place in the list."""
    for index, route in enumerate(spec.get("http") or ()):
        legs = None if is_probe(route) else legs_of(route, plan)
        if legs is not None:
            yield index, route, legs
