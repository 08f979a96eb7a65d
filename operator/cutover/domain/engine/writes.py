"""The order of writes: what a decision writes, and when.

Going up, the status is written first: its resourceVersion is the fence against a second operator. Going back, the route
is written first and waits on nothing. A decision that changes nothing writes nothing; evidence alone is written as a
checkpoint, at most once a minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.engine.actions import Action, Decision, Prepare, SetWeight, WriteStatus
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import samples_wanted
from cutover.domain.observation import Observation, Plan
from cutover.domain.preflight.checks import heroku_answers
from cutover.domain.revision import desired_revision

#: Seconds within which a checkpoint of the evidence is written while judging.
CHECKPOINT_SECONDS = 60.0


def decision_of(plan: Plan, seen: Observation, outcome: Outcome, status: MigrationPlanStatus, now: float) -> Decision:
    """Return what has to be written for an outcome, in the order in which it is written.

    Parameters
    ----------
    plan
        The plan before it.
    seen
        What the decision was made on.
    outcome
        Where it leads.
    status
        The status that follows from it.
    now
        Unix seconds.
    """
    before = plan.status
    changed = _significant(status) != _significant(before)
    learned = samples_wanted(status) and status.checkpoint != before.checkpoint
    # The same reason to hold may have another cause by now.
    news = learned or (outcome.hold is not None and status.message != before.message)
    due = (
        news
        and status.checkpoint is not None
        and before.checkpoint is not None
        and _checkpoint_period(plan, now) != _checkpoint_period(plan, before.checkpoint.at)
    )
    if (changed or due) and status.checkpoint is not None:
        status = status.model_copy(update={"checkpoint": status.checkpoint.model_copy(update={"at": now})})
    write: tuple[Action, ...] = (WriteStatus(),) if changed or due else ()
    actions: tuple[Action, ...] = (
        *_ordered(
            write,
            _route(before, status, seen) if outcome.route else (),
            back=status.phase is Phase.ROLLING_BACK,
        ),
        *((Prepare(),) if outcome.prepare else ()),
    )
    return Decision(
        status=status,
        actions=actions,
        events=outcome.events,
        requeue_after=outcome.requeue,
        routine=not changed and actions == (WriteStatus(),) and not outcome.events,
    )


def _checkpoint_period(plan: Plan, at: float) -> int:
    """Return which period of checkpoints a time is in. They are due at another moment for each plan.

    Plans that were made together would otherwise all write at the end of the same block.
    """
    return int((at + crc32(plan.uid.encode())) // CHECKPOINT_SECONDS)


def _route(before: MigrationPlanStatus, status: MigrationPlanStatus, seen: Observation) -> tuple[Action, ...]:
    """Write the route where the status asks for another one, or where the world has another one."""
    if status.weight is None:
        return ()
    traffic = seen.traffic
    asked_anew = before.weight != status.weight or desired_revision(before) != desired_revision(status)
    differs = traffic is not None and not traffic.current
    return (SetWeight(status.weight),) if asked_anew or differs else ()


def _ordered(write: tuple[Action, ...], route: tuple[Action, ...], *, back: bool) -> tuple[Action, ...]:
    return (*route, *write) if back else (*write, *route)


def _significant(status: MigrationPlanStatus) -> Iterable[Any]:
    """Return what makes a write worth it by itself; numbers that move with every block wait for the checkpoint."""
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
            # What a probe says changes with every probe.
            (check.check, check.result, check.message if check.check != heroku_answers.CHECK.name else "")
            for check in status.preflight
        ),
        status.baseline,
        status.templates,
        len(status.ledger),
        status.ledger[-1:],
        tuple((c.type, c.status, c.reason, c.observed_generation) for c in status.conditions),
    )
