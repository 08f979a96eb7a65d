"""What a traffic provider can do. Decisions ask for these, and never which provider it is."""

from __future__ import annotations

from dataclasses import dataclass


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
