"""What a traffic provider can do, and what is seen of the traffic. Decisions never ask which provider it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider declares of itself; by default it can do nothing.

    Parameters
    ----------
    provider
        Its name, for people.
    confirms_share
        Whether the split shows in the counts of both legs: their share follows the weight, request by request.
    stamps_revision
        Whether each answer carries the revision of the route that served it.
    common_vantage
        Whether the same observer counts both legs. Counts of two observers cannot be compared.
    probes_leg
        Whether a request can be sent to the Heroku leg by the plan's own route.
    rollback_seconds
        Seconds from the write of a route until the requests follow it, be it up or back.
    where_to_look
        What to look at where they do not, for people; ``""`` if there is no advice.
    """

    provider: str = "unknown"
    confirms_share: bool = False
    stamps_revision: bool = False
    common_vantage: bool = False
    probes_leg: bool = False
    rollback_seconds: float = 0.0
    where_to_look: str = ""


#: Of a provider that is not known.
NOTHING = Capabilities()


@dataclass(frozen=True, slots=True)
class TrafficState:
    """The plan's route as it is: what the provider's objects say.

    Parameters
    ----------
    weight
        Percent of requests that the route sends to EKS, or ``None`` where it is missing or not of the operator's shape.
    revision
        The revision stamped into it (see :mod:`cutover.domain.revision`), ``""`` if it has none.
    current
        Whether all routing objects are exactly what the operator would write for the plan's desired weight.
    foreign
        Field managers other than the operator that own a part of the objects' spec: who edited them.
    written_at
        Unix seconds at which the operator wrote the route last; ``None`` if that is not known.
    version
        Which state of the route this is, ``""`` where it is missing: what is decided on it is to be written over it, and
        over no other.
    in_the_way
        Before the takeover, where not all requests go to Heroku: what sends them elsewhere and what to do about it, in
        the provider's words.
    """

    weight: int | None
    revision: str
    current: bool
    foreign: tuple[str, ...] = ()
    written_at: float | None = field(default=None, compare=False)
    version: str = field(default="", compare=False)
    in_the_way: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to one request through the gateway that the route pins to the Heroku leg.

    Parameters
    ----------
    at
        Unix seconds.
    revision
        Value of the ``x-cutover-revision`` response header: which version of the route the gateway has; ``""`` if
        the response had none.
    healthy
        Whether Heroku answered as an app does: no 5xx, no routing fault, no "no such app" page.
    detail
        What came back, for people: ``HTTP 503 (H10)``, ``connection refused``.
    failures
        Unhealthy answers in a row, up to this one.
    """

    at: float
    revision: str
    healthy: bool
    detail: str
    failures: int = 0
