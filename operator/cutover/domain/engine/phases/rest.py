"""What begins a plan anew that is at rest, on EKS or on Heroku, and where the traffic of a deleted plan stays."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanStatus, OnBreach, OnDelete, Phase
from cutover.domain.engine.actions import Decision, Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.moves import retry
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.writes import finalize
from cutover.domain.plan import Plan


def completed(status: MigrationPlanStatus) -> Outcome:
    """Rest on EKS."""
    return Outcome(status, "Completed", "all traffic is on EKS and the soak is over", requeue=300)


def rolled_back(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Rest on Heroku, and keep telling why, until another attempt is asked for."""
    if context.spec.attempt > status.attempt:
        return retry(context, status)
    reason, cause = last_rollback(status)
    return Outcome(status, reason, cause, requeue=300)


def last_rollback(status: MigrationPlanStatus) -> tuple[str, str]:
    """Return reason and message of what led back last."""
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
    """Return where a deleted plan's traffic rests: as declared, but on EKS only if evidence has put all of it there."""
    status, declared = plan.status, plan.spec.on_delete
    if declared is not OnDelete.EKS or status.weight == 100:
        return declared
    # What was never taken over may be the route of an earlier plan, and rests where that plan left it. Nothing goes back
    # by itself where the plan says that there is no way back for the data.
    stays = status.weight is None or plan.spec.on_breach is OnBreach.HOLD
    return OnDelete.LEAVE if stays else OnDelete.HEROKU
