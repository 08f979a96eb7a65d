"""What a phase answers: the next status, why, and when to look again."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.actions import Event
from cutover.domain.holds import Hold


class _NextBlock(enum.Enum):
    NEXT_BLOCK = enum.auto()


#: In place of seconds: there is nothing new to decide on before the plan's next block.
NEXT_BLOCK: Final = _NextBlock.NEXT_BLOCK
Requeue = float | Literal[_NextBlock.NEXT_BLOCK]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a phase answers: the status, but for what is derived from it, and what is said and done about it.

    Parameters
    ----------
    requeue
        Seconds until the next look, or :data:`NEXT_BLOCK`.
    prepare
        Whether to write what the route refers to.
    route
        Whether the route is written where it differs.
    """

    status: MigrationPlanStatus
    reason: str
    message: str
    hold: Hold | None = None
    events: tuple[Event, ...] = ()
    requeue: Requeue = 60.0
    prepare: bool = False
    route: bool = True
