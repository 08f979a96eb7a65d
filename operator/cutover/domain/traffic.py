"""Capabilities of a traffic provider, the state of a route, and probes. Decisions never ask for the provider itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a traffic provider can do; by default nothing.

    Parameters
    ----------
    provider
        Name of the provider, for people.
    confirms_share
        Whether the counts of both legs show the split, request by request.
    stamps_revision
        Whether each answer carries the revision of the route that served it.
    common_vantage
        Whether the same observer counts both legs. Counts of two observers cannot be compared.
    probes_leg
        Whether a request can be sent to the Heroku leg through the plan's route.
    probes_eks
        Whether a request can also be sent to the EKS leg, on the way that users' requests take. Such requests count as
        the users' in the metrics.
    tries
        Whether the probes can have a route of both legs before users' requests follow any route of the operator's.
    rollback_seconds
        Seconds from a write of the route, up or down, until all requests follow it.
    where_to_look
        Where people look if the requests do not follow; ``""`` if there is no advice.
    """

    provider: str = "unknown"
    confirms_share: bool = False
    stamps_revision: bool = False
    common_vantage: bool = False
    probes_leg: bool = False
    probes_eks: bool = False
    tries: bool = False
    rollback_seconds: float = 0.0
    where_to_look: str = ""


#: Of an unknown provider.
NOTHING = Capabilities()


@dataclass(frozen=True, slots=True)
class TrafficState:
    """The plan's route in the cluster, as the provider's objects have it.

    Parameters
    ----------
    weight
        Percent of requests that the route sends to EKS; ``None`` if the route is missing or has another shape.
    revision
        The revision stamped into the route (see :mod:`cutover.domain.revision`); ``""`` if it has none.
    current
        Whether all routing objects are exactly what the operator would write for the plan's desired weight, or for a trial.
    foreign
        Field managers other than the operator that own a part of the objects' spec, because they edited it.
    written_at
        Unix seconds at which the operator wrote the route last; ``None`` if that is not known.
    version
        Version of the route that was read, ``""`` if it is missing. A decision made on this version is written only
        over this version.
    name
        Kind and name of the object with the weights, for the status; ``""`` if the provider has no such object.
    originals
        Digests of the original routes that the operator keeps, as ``status.route.originals`` should have them.
    trial
        Before the takeover, whether the plan's probes have a route.
    gives_back
        Before the takeover, whether users have a route that is not the operator's and can come back after it.
    in_the_way
        Before the takeover, if not all requests go to Heroku: which object routes them elsewhere and what to do about
        it, in the provider's words.
    """

    weight: int | None
    revision: str
    current: bool
    foreign: tuple[str, ...] = ()
    written_at: float | None = field(default=None, compare=False)
    version: str = field(default="", compare=False)
    name: str = field(default="", compare=False)
    originals: tuple[str, ...] = field(default=(), compare=False)
    trial: bool = field(default=False, compare=False)
    gives_back: bool = field(default=False, compare=False)
    in_the_way: str = field(default="", compare=False)


class Leg(StrEnum):
    """A leg of the migration."""

    HEROKU = "heroku"
    EKS = "eks"


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to one request through the gateway that the route pins to one leg.

    Parameters
    ----------
    at
        Unix seconds.
    revision
        Value of the ``x-cutover-revision`` response header: which version of the route the gateway has; ``""`` if
        the response had none.
    healthy
        Whether an app answered: no 5xx, and of Heroku no routing fault and no "no such app" page. What the answer is worth
        to users is another question, which :func:`cutover.domain.evidence.worth.worth` answers by its status.
    detail
        The answer, for people: ``HTTP 503 (H10)``, ``connection refused``.
    failures
        Unhealthy answers in a row, this one included.
    refusals
        The same, of those alone that show the leg itself: the gateway had a route of the plan, or gave no answer in time.
    hung
        Whether the gateway took the request and gave no answer in time.
    status
        HTTP status of the answer; 0 if there was none, or none by way of the plan's route.
    seconds
        Seconds until the answer, or until it was given up.
    """

    at: float
    revision: str
    healthy: bool
    detail: str
    failures: int = 0
    status: int = 0
    seconds: float = 0.0
    refusals: int = 0
    hung: bool = False
