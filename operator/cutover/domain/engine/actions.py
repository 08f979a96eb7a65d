"""What a decision asks the reconciler to do, in the order in which it must be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the plan's status, fenced by its resourceVersion."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Write what the route refers to, and not the route: it changes no user's request."""


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Make the routing objects what the decided status asks for."""

    weight: int


@dataclass(frozen=True, slots=True)
class Finalize:
    """Put traffic to rest as the plan is deleted."""

    end: OnDelete


Action = WriteStatus | Prepare | SetWeight | Finalize


@dataclass(frozen=True, slots=True)
class Event:
    """A transition that people should hear of."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and what the plan's status is once it is done.

    Parameters
    ----------
    status
        The new working status.
    actions
        To be done in order; if one fails the rest is left, and the next pass decides again from the old status.
    events
        Told after the actions have succeeded.
    requeue_after
        Seconds until the next pass if nothing wakes the plan before.
    routine
        Whether all there is to do is to write down the evidence since the last checkpoint, which nothing waits for.
    """

    status: MigrationPlanStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float = 60.0
    routine: bool = False
