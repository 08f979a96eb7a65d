"""Order and time of writes: what a decision writes, in which order, under which conditions, and the next reconcile.

When the weight rises, the status is written first: its resourceVersion is the fence against a second operator. When the
weight falls, for any reason, the route is written first and waits on nothing: no status may say that a raise is off while
that raise may still reach the route. A route whose write failed also comes first until the write succeeds: its weight has
been in the status since the first try.

A decision that changes nothing writes nothing; evidence alone is written as a checkpoint, at most once a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any
from zlib import crc32

from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete, Phase
from cutover.domain.engine.actions import (
    Action,
    Decision,
    EndTrial,
    Finalize,
    GiveBack,
    Prepare,
    RestingPlace,
    SetWeight,
    Try,
    Wake,
    WakeAfter,
    WakeAtBlock,
    WriteStatus,
)
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome, Requeue
from cutover.domain.engine.wanted import samples_wanted
from cutover.domain.engine.way_back import PROBE_LIFETIME_SECONDS
from cutover.domain.evidence.lengths import in_force
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.preflight.registry import PROBED
from cutover.domain.revision import Trial, desired_revision, desired_split, raise_called_off, revision
from cutover.domain.traffic import TrafficState

#: Seconds within which a checkpoint of the evidence is written while judging.
CHECKPOINT_SECONDS = 60.0
#: Seconds for which a raise may be written to the route; then its evidence is too old.
RAISE_LIFETIME_SECONDS = 60.0
#: Blocks after which the next one is overdue, and is looked for without being woken by it.
OVERDUE_BLOCKS = 1.5


def decision_of(plan: Plan, seen: Observation, outcome: Outcome, status: MigrationPlanStatus, now: float) -> Decision:
    """Return the writes for an outcome, in the order in which they are made.

    Parameters
    ----------
    plan
        The plan before the decision.
    seen
        The observation that the decision was made on.
    outcome
        The answer of the phase.
    status
        The status that follows.
    now
        Unix seconds.
    """
    before = plan.status
    changed = _significant(status) != _significant(before)
    due = _checkpoint_due(plan, outcome, status, now)
    if (changed or due) and status.checkpoint is not None:
        status = status.evolve(checkpoint=status.checkpoint.evolve(at=now))
    route_first = outcome.gives_back or goes_first(before, status, seen)
    stored = changed or due
    routing: tuple[Action, ...] = (
        *(set_weight(before, status, seen.traffic, now, fenced=stored and not route_first) if outcome.route else ()),
        *((Prepare(),) if outcome.prepare else ()),
        *(_trial(status, seen.traffic) if outcome.tries else ()),
        *(_given_back(status, seen.traffic) if outcome.gives_back else ()),
    )
    ended = _ended_trial(plan, seen.traffic)
    write = (WriteStatus(may_wait=not (changed or routing or outcome.events)),) if stored else ()
    # A trial elsewhere ends before the status forgets where it was.
    actions = (*ended, *((*routing, *write) if route_first else (*write, *routing)))
    if not stored and seen.remember_in is not None and seen.remember_in <= 0:
        # Last: no decision waits for the record of the notifications that were sent.
        actions = (*actions, WriteStatus())
    return Decision(
        status=status, actions=actions, events=outcome.events, wake=wake(plan, seen, status, outcome.requeue)
    )


def claims(plan: Plan, decision: Decision) -> bool:
    """Tell whether a decision writes routing objects for a plan that has not taken over, and so claims hosts and names."""
    return plan.status.weight is None and any(
        isinstance(action, Prepare | Try | SetWeight) for action in decision.actions
    )


def finalize(plan: Plan, end: RestingPlace) -> Finalize:
    """Return the write that moves the traffic of a deleted plan to where it stays."""
    status = plan.status
    match end:
        case OnDelete.HEROKU:
            # Written even if the route looks right: a raise may be on its way.
            return Finalize(
                end, SetWeight(desired_split(status, 0), supersedes=raise_called_off(status) if status.weight else "")
            )
        case OnDelete.EKS:
            return Finalize(end, SetWeight(desired_split(status, 100)))
        case OnDelete.LEAVE:
            return Finalize(end)


# ---------------------------------------------------------------------------------------------------------------- order


def goes_first(before: MigrationPlanStatus, status: MigrationPlanStatus, seen: Observation) -> bool:
    """Tell whether the route is written before the status."""
    return status.phase is Phase.ROLLING_BACK or lowers(before, status) or seen.unwritten


def lowers(before: MigrationPlanStatus, status: MigrationPlanStatus) -> bool:
    """Tell whether a decision takes users off EKS."""
    return (status.weight or 0) < (before.weight or 0)


def set_weight(
    before: MigrationPlanStatus, status: MigrationPlanStatus, traffic: TrafficState | None, now: float, *, fenced: bool
) -> tuple[SetWeight, ...]:
    """Return the write of the route if the status asks for a new route, or if the cluster has another one.

    Parameters
    ----------
    before, status
        The status before and after the decision.
    traffic
        The route as it was read; ``None`` if it could not be read.
    now
        Unix seconds.
    fenced
        Whether the status is written before the route.
    """
    if status.weight is None:
        return ()
    asked_anew = before.weight != status.weight or desired_revision(before) != desired_revision(status)
    differs = traffic is not None and not traffic.current
    if not (asked_anew or differs):
        return ()
    raises = traffic is not None and (traffic.weight or 0) < status.weight
    # Not in a rollback: it changes the route's version, and a raise in flight fails on that.
    calls_off = lowers(before, status) and status.phase is not Phase.ROLLING_BACK
    return (
        SetWeight(
            desired_split(status),
            over=traffic.version if traffic is not None else None,
            supersedes=raise_called_off(before) if calls_off else "",
            confirm=raises and not fenced,
            expires=raise_expires(status, traffic, now) if raises else math.inf,
            repairs=desired_revision(before) == desired_revision(status),
        ),
    )


def _trial(status: MigrationPlanStatus, traffic: TrafficState | None) -> tuple[Try, ...]:
    """Return the write of the probes' route."""
    return (Try(Trial(status.attempt), over=traffic.version),) if traffic is not None else ()


def _given_back(status: MigrationPlanStatus, traffic: TrafficState | None) -> tuple[GiveBack, ...]:
    """Return the write of the routes that users had before the takeover."""
    trial = Trial(status.attempt, given_back=True)
    return (GiveBack(trial, over=traffic.version),) if traffic is not None else ()


def _ended_trial(plan: Plan, traffic: TrafficState | None) -> tuple[EndTrial, ...]:
    """Return the end of a trial that should not be: the plan is suspended, or its edited spec names another object."""
    known = plan.status.route.trial if plan.status.route is not None else ""
    if plan.status.weight is not None or traffic is None or not plan.has_spec:
        return ()
    names = [known] if known not in ("", traffic.name) else []
    names += [traffic.name] if traffic.trial and plan.spec.suspend else []
    return tuple(map(EndTrial, names))


# ----------------------------------------------------------------------------------------------------------------- time


def raise_in_flight(status: MigrationPlanStatus, traffic: TrafficState | None) -> bool:
    """Tell whether the status asks for a raise that has not reached the route yet, as far as is known."""
    checkpoint = status.checkpoint
    if checkpoint is None or traffic is None or (checkpoint.live_at, checkpoint.observed_at) != (None, None):
        return False
    before = checkpoint.previous_weight
    there = (traffic.weight, traffic.revision)
    return before < (status.weight or 0) and there == (before, revision(status.attempt, before))


def raise_expires(status: MigrationPlanStatus, traffic: TrafficState | None, now: float) -> float:
    """Return the Unix seconds until which a raise of the route may be written.

    The lifetime of a raise in flight begins when its weight is decided on. A weight that was at the gateway before is only
    put back; its lifetime begins with the observation that finds the route at another weight.
    """
    in_flight = status.checkpoint is not None and raise_in_flight(status, traffic)
    decided_at = status.checkpoint.weight_since if status.checkpoint is not None and in_flight else now
    return decided_at + RAISE_LIFETIME_SECONDS


def wake(plan: Plan, seen: Observation, status: MigrationPlanStatus, requeue: Requeue) -> Wake:
    """Return when the next reconcile comes if nothing wakes the plan before."""
    judged = plan.has_spec and samples_wanted(status)
    if requeue is NEXT_BLOCK:
        seconds = in_force(plan.spec, status).seconds * (OVERDUE_BLOCKS if judged else 1)
    else:
        seconds = requeue
    if judged:
        # The next probe is sent once a reconcile has seen the last one, and has to be young at the next block.
        seconds = min(seconds, PROBE_LIFETIME_SECONDS / 2)
    if seen.remember_in is not None and seen.remember_in > 0:
        seconds = min(seconds, seen.remember_in)
    return WakeAtBlock(seconds) if requeue is NEXT_BLOCK and judged else WakeAfter(seconds)


def _checkpoint_due(plan: Plan, outcome: Outcome, status: MigrationPlanStatus, now: float) -> bool:
    """Tell whether there is something new for a checkpoint, and whether it is time for one."""
    before = plan.status
    learned = samples_wanted(status) and status.checkpoint != before.checkpoint
    # The same hold may have another cause now.
    news = learned or (outcome.hold is not None and status.message != before.message)
    return (
        news
        and status.checkpoint is not None
        and before.checkpoint is not None
        and _checkpoint_period(plan, now) != _checkpoint_period(plan, before.checkpoint.at)
    )


def _checkpoint_period(plan: Plan, at: float) -> int:
    """Return the number of the checkpoint period that a time is in. Each plan's periods begin at another moment.

    Otherwise plans that were created together would all write at the end of the same block.
    """
    return int((at + crc32(plan.uid.encode())) // CHECKPOINT_SECONDS)


def _significant(status: MigrationPlanStatus) -> Iterable[Any]:
    """Return the fields whose change is written at once; numbers that change with every block wait for the checkpoint."""
    return (
        status.observed_generation,
        status.phase,
        status.attempt,
        status.step,
        status.weight,
        status.since,
        status.reason,
        status.checkpoint is None or (status.checkpoint.weight_since, status.checkpoint.observed_at is None),
        tuple(
            (check.check, check.result, check.message if check.check not in PROBED else "")
            for check in status.preflight
        ),
        status.audit,
        status.decommission,
        status.baseline,
        status.templates,
        status.blocks,
        status.route,
        status.releases,
        len(status.ledger),
        status.ledger[-1:],
        status.void,
        tuple((c.type, c.status, c.reason, c.observed_generation) for c in status.conditions),
    )
