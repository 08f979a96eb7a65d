"""The result of a decision: actions in their order, events, and when the next reconcile comes.

A decision is executed literally. Only :mod:`cutover.domain.engine.writes` decides on the order of the actions, what an
action may wait for and what it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete
from cutover.domain.revision import Split, Trial


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the plan's status, fenced by its resourceVersion.

    Parameters
    ----------
    may_wait
        Whether the write only stores the evidence since the last checkpoint. Nothing waits for such a write, so the
        decisions of other plans go first.
    """

    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class Prepare:
    """Write the objects that the route refers to, but not the route: no user's request changes."""


@dataclass(frozen=True, slots=True)
class Try:
    """Give the probes of both legs a route, and nobody else: no user's request changes.

    Parameters
    ----------
    trial
        What the route says: attempt, and the revision that names it.
    over
        Version of the route that the decision was made on; any other version is a conflict.
    """

    trial: Trial
    over: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Give users the routes back that they had before the takeover; the probes keep theirs.

    Parameters
    ----------
    trial
        What the probes' route says from then on.
    over
        Version of the route that the decision was made on; any other version is a conflict.
    """

    trial: Trial
    over: str


@dataclass(frozen=True, slots=True)
class EndTrial:
    """Take the probes' route away again, so that all is as it was before the trial.

    Parameters
    ----------
    name
        Kind and name of the object that has the probes' route.
    """

    name: str


@dataclass(frozen=True, slots=True)
class SetWeight:
    """Write the route that was decided on.

    Parameters
    ----------
    split
        What the route says: attempt, weight and the revision that names it.
    over
        Version of the route that the decision was made on; any other version is a conflict. ``None`` if unknown.
    supersedes
        Name of a raise that may still be on its way to the route and must fail when it arrives; ``""`` for none.
    confirm
        Whether to read the plan first and stop if it has changed: needed for a raise that no write of the status
        precedes.
    expires
        Unix seconds, by the clock that the plan is judged by, after which the evidence for the write is too old.
    repairs
        Whether the write only restores what the status already asked for.
    """

    split: Split
    over: str | None = None
    supersedes: str = ""
    confirm: bool = False
    expires: float = math.inf
    repairs: bool = False


#: Where the traffic of a deleted plan stays. ``onDelete: Rest`` is decided to be one of these.
RestingPlace = Literal[OnDelete.HEROKU, OnDelete.EKS, OnDelete.LEAVE]


@dataclass(frozen=True, slots=True)
class Finalize:
    """Move the traffic of a deleted plan to where it stays. Where only the probes have a route, it is taken away instead.

    Parameters
    ----------
    end
        Where the traffic stays.
    route
        The write that moves it there; ``None`` if the route stays as it is.
    """

    end: RestingPlace
    route: SetWeight | None = None


Action = WriteStatus | Prepare | Try | GiveBack | EndTrial | SetWeight | Finalize


@dataclass(frozen=True, slots=True)
class WakeAfter:
    """Reconcile again after some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WakeAtBlock:
    """Reconcile again when the plan's next block arrives.

    Parameters
    ----------
    at_latest
        Seconds after which to reconcile without it.
    """

    at_latest: float


Wake = WakeAfter | WakeAtBlock


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a transition."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and the plan's status once it is done.

    Parameters
    ----------
    status
        The new working status.
    actions
        Executed in order. If an action fails, the rest is dropped and the next reconcile decides again from the old
        status.
    events
        Sent after the actions have succeeded.
    wake
        When the next reconcile comes if nothing wakes the plan before.
    """

    status: MigrationPlanStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake: Wake = WakeAfter(60.0)
