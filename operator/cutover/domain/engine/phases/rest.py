"""The Completed and RolledBack phases: how another attempt begins, and where the traffic of a deleted plan stays."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanStatus, OnBreach, OnDelete, Phase
from cutover.domain.engine.actions import Decision, Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.moves import retry
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.writes import finalize
from cutover.domain.plan import Plan


def completed(status: MigrationPlanStatus) -> Outcome:
    """Stay on EKS."""
    return Outcome(status, "Completed", "all traffic is on EKS and the soak is over", requeue=300)


def rolled_back(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Stay on Heroku, with the reason in the status, until ``spec.attempt`` is raised."""
    if context.spec.attempt > status.attempt:
        return retry(context, status)
    reason, cause = last_rollback(status)
    return Outcome(status, reason, cause, requeue=300)


def last_rollback(status: MigrationPlanStatus) -> tuple[str, str]:
    """Return the reason and the message of the last rollback."""
    told = ((entry.reason, entry.message) for entry in reversed(status.ledger) if entry.decision == "RollBack")
    return next(told, (str(Phase.ROLLED_BACK), ""))


def put_to_rest(plan: Plan) -> Decision:
    """Decide where the traffic of a deleted plan stays."""
    end = _resting_place(plan)
    actions = (finalize(plan, end),)
    if end is plan.spec.on_delete:
        return Decision(status=plan.status, actions=actions)
    rests = "goes to Heroku" if end is OnDelete.HEROKU else "stays where it is"
    message = f"traffic {rests}: onDelete EKS is for a plan whose evidence has put all of it on EKS"
    event = Event("Warning", "RestsElsewhere", message)
    return Decision(status=plan.status, actions=actions, events=(event,))


def _resting_place(plan: Plan) -> OnDelete:
    """Return where a deleted plan's traffic stays: as declared, but on EKS only if evidence has moved all of it there."""
    status, declared = plan.status, plan.spec.on_delete
    if declared is not OnDelete.EKS or status.weight == 100:
        return declared
    # A route that this plan never took over may belong to an earlier plan, and stays as that plan left it. With onBreach
    # Hold there is no way back for the data, so the traffic does not go back by itself.
    stays = status.weight is None or plan.spec.on_breach is OnBreach.HOLD
    return OnDelete.LEAVE if stays else OnDelete.HEROKU
