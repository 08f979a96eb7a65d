"""The answer of a phase: the next status, the reason, and when the next reconcile comes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.actions import Event
from cutover.domain.holds import Hold


class _NextBlock(enum.Enum):
    NEXT_BLOCK = enum.auto()


#: Instead of seconds: before the plan's next block there is nothing new to decide.
NEXT_BLOCK: Final = _NextBlock.NEXT_BLOCK
Requeue = float | Literal[_NextBlock.NEXT_BLOCK]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer of a phase: the status without its derived fields, the reason, events and writes.

    Parameters
    ----------
    requeue
        Seconds until the next reconcile, or :data:`NEXT_BLOCK`.
    prepare
        Whether to write the objects that the route refers to.
    tries
        Whether to give the probes a route.
    gives_back
        Whether to give users the routes back that they had before the takeover.
    route
        Whether to write the route if it differs from the status.
    """

    status: MigrationPlanStatus
    reason: str
    message: str
    hold: Hold | None = None
    events: tuple[Event, ...] = ()
    requeue: Requeue = 60.0
    prepare: bool = False
    tries: bool = False
    gives_back: bool = False
    route: bool = True
