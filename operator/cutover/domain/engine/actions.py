"""What a decision asks for: actions in the order in which they are made, and when to look again.

A decision is executed literally. The order, what an action may wait for and what it needs are decided in
:mod:`cutover.domain.engine.writes`, and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete
from cutover.domain.revision import Split


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the plan's status, fenced by its resourceVersion.

    Parameters
    ----------
    may_wait
        Whether all there is to write is the evidence since the last checkpoint: nothing waits for that write, so it
        lets the decisions of other plans go first.
    """

    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """Write what the route refers to, and not the route: it changes no user's request."""


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Make the routing objects say what was decided.

    Parameters
    ----------
    split
        What the route says: attempt, weight and the revision that names it.
    over
        Version of the route that was decided on; any other is a conflict. ``None`` where it is not known.
    supersedes
        Names a raise that may still be on its way to the route and has to fail when it arrives; ``""`` for none.
    confirm
        Whether to read first that the plan is still what was decided on: the write raises the weight, and no status
        is written before it.
    expires
        Unix seconds, by the time the plan is judged by, after which the evidence for the write is too old.
    repairs
        Whether it only puts back what the status has asked for before.
    """

    split: Split
    over: str | None = None
    supersedes: str = ""
    confirm: bool = False
    expires: float = math.inf
    repairs: bool = False


@dataclass(frozen=True, slots=True)
class Finalize:
    """Put traffic to rest as the plan is deleted.

    Parameters
    ----------
    end
        Where traffic rests.
    route
        The write that puts it there; ``None`` where the route stays as it is.
    """

    end: OnDelete
    route: SetWeight | None = None


Action = WriteStatus | Prepare | SetWeight | Finalize


@dataclass(frozen=True, slots=True)
class WakeAfter:
    """Look again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WakeAtBlock:
    """Look again with the plan's next block, whose arrival wakes the plan.

    Parameters
    ----------
    at_latest
        Seconds after which to look without it.
    """

    at_latest: float


Wake = WakeAfter | WakeAtBlock


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
        Executed in order. If an action fails the rest is left, and the next reconcile decides again from the old status.
    events
        Told after the actions have succeeded.
    wake
        When the next reconcile comes if nothing wakes the plan before.
    """

    status: MigrationPlanStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake: Wake = WakeAfter(60.0)
