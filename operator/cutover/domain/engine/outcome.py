"""What a phase answers: the next status, why, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.actions import Event
from cutover.domain.holds import Hold


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a look at a plan leads: its status, but for what is derived from it, and what is said and done about it."""

    status: MigrationPlanStatus
    reason: str
    message: str
    hold: Hold | None = None
    events: tuple[Event, ...] = ()
    requeue: float = 60.0
    prepare: bool = False
    route: bool = True
