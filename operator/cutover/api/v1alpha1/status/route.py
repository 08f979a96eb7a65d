"""The route that the operator has written."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from cutover.api.model import COMPACT


@dataclass(config=COMPACT, frozen=True, slots=True)
class RouteRecord:
    """What is known of the route that the operator has written. Labels and annotations of the route itself may be edited."""

    name: str = Field(
        default="",
        description="Kind and name of the object with the weights, once the operator has written it. The operator writes"
        " it again after any edit, also if its labels and annotations are gone.",
    )
    originals: tuple[str, ...] = Field(
        default=(),
        description="Digests of the original routes that the operator keeps in an adopted object, the newest first. What"
        " has another digest is not restored.",
    )
    trial: str = Field(
        default="",
        description="Kind and name of the object in which the operator's probes have a route while users have none of the"
        " operator's.",
    )
    undoable: bool = Field(
        default=False,
        description="Whether users get their own route back if Heroku does not answer over the operator's: from the takeover"
        " until it is confirmed, where they had one.",
    )
