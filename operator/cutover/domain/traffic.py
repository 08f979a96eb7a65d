"""The capabilities of a traffic provider. Decisions ask for capabilities, never for a provider."""

from __future__ import annotations

from dataclasses import dataclass


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
    rollback_seconds: float = 0.0
    where_to_look: str = ""


#: Of an unknown provider.
NOTHING = Capabilities()
