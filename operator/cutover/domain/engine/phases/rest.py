"""The Completed and RolledBack phases: the late way back, another attempt, and where a deleted plan's traffic stays."""

from __future__ import annotations

from collections.abc import Mapping

from cutover.api.v1alpha1 import MigrationPlanStatus, OnBreach, OnDelete, Phase
from cutover.domain.decommission import checklist, still_open
from cutover.domain.engine.actions import Decision, EndTrial, Event, RestingPlace
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import retry
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.probe_intervals import asked_back
from cutover.domain.engine.way_back import heroku_answers, heroku_fails, probe_text
from cutover.domain.engine.writes import finalize
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.journal.ledger import led_to_weight
from cutover.domain.plan import Plan
from cutover.domain.texts import listed

#: Seconds after which a probe is too old to show that Heroku answers now, such as the last probe of the soak. A probe that
#: hangs takes 10 s.
FRESH_SECONDS = 15.0


def completed(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Stay on EKS, and say what is left to switch off on Heroku."""
    seen, known = context.seen, status.decommission
    # An outage of Heroku's API takes nothing back of what it said before.
    asking = seen.heroku is not None and seen.heroku.app is None and (bool(known) or not seen.heroku.problem)
    items = known if asking else checklist(context.plan, seen.heroku, seen.dns, seen.last_requests)
    left = list(still_open(items))
    more = f"; still on Heroku, see status.decommission: {listed(left, len(left))}" if left else ""
    message = f"all traffic is on EKS and the soak is over{more}"
    return Outcome(status.evolve(decommission=items), "Completed", message, requeue=300)


def rolled_back(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Stay on Heroku, with the reason in the status, until ``spec.attempt`` is raised."""
    if context.spec.attempt > status.attempt:
        return retry(context, status)
    reason, cause = last_rollback(status)
    return Outcome(status, reason, cause, requeue=300)


def last_rollback(status: MigrationPlanStatus) -> tuple[str, str]:
    """Return the reason and the message of the last rollback, as far as the ledger still has them."""
    told = ((entry.reason, entry.message) for entry in reversed(status.ledger) if entry.decision == "RollBack")
    return next(told, (str(Phase.ROLLED_BACK), "newer entries have replaced the reason in the ledger"))


def once_heroku_answers(context: Context, status: MigrationPlanStatus, asked: Outcome) -> Outcome:
    """Take a Completed plan back as it was asked, once Heroku answers: its dynos may have been gone for months.

    Before that a rollback waits for nothing, as Heroku is asked all along, and no step begins while it does not answer.

    Parameters
    ----------
    asked
        What was asked for: a rollback, or a lower weight.
    """
    probe = context.seen.probe
    fresh = probe is not None and abs(context.now - probe.at) <= FRESH_SECONDS
    if status.phase is not Phase.COMPLETED or not context.can.probes_leg or (fresh and heroku_answers(context)):
        return asked
    if not (fresh and heroku_fails(context)):
        message = f"{asked.message}; waiting for a probe of Heroku first, as its dynos may be gone"
        return Outcome(status, "AskingHeroku", message, requeue=1)
    message = (
        f"{asked.message}; not done, as users would get no answer ({probe_text(context)}): all traffic stays on EKS until"
        " Heroku answers; start its dynos, or take the request back"
    )
    return held(context, status, Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, message), requeue=2)


def put_to_rest(plan: Plan) -> Decision:
    """Decide where the traffic of a deleted plan stays."""
    end, declared = _resting_place(plan), plan.spec.on_delete
    events: tuple[Event, ...] = ()
    if declared is OnDelete.REST and plan.status.weight is not None:
        why = "" if end is OnDelete.LEAVE else ", where evidence has put it"
        events = (Event("Normal", "AtRest", f"traffic {_RESTS[end]}{why}"),)
    elif end is not declared and declared is not OnDelete.REST:
        message = f"traffic {_RESTS[end]}: onDelete EKS is for a plan whose evidence has put all of it on EKS"
        events = (Event("Warning", "RestsElsewhere", message),)
    route = plan.status.route
    # Another object than the present one, if the spec was edited in the trial.
    ends = (EndTrial(route.trial),) if route is not None and route.trial else ()
    return Decision(status=plan.status, actions=(*ends, finalize(plan, end)), events=events)


_RESTS: Mapping[RestingPlace, str] = {
    OnDelete.HEROKU: "goes to Heroku",
    OnDelete.EKS: "stays on EKS",
    OnDelete.LEAVE: "stays where it is",
}


def _resting_place(plan: Plan) -> RestingPlace:
    """Return where a deleted plan's traffic stays: as declared, but on EKS only if evidence has moved all of it there."""
    status, declared = plan.status, plan.spec.on_delete
    if declared is OnDelete.HEROKU or declared is OnDelete.LEAVE:
        return declared
    if status.phase is Phase.COMPLETED or (declared is OnDelete.EKS and status.weight == 100):
        # Somebody may have written this into the status, or has asked for a rollback that may be in the route already.
        # Then the route stays as it is.
        proven = status.weight == 100 and led_to_weight(status) and not asked_back(plan)
        return OnDelete.EKS if proven else OnDelete.LEAVE
    # A route that this plan never took over may belong to an earlier plan, and stays as that plan left it. With onBreach
    # Hold there is no way back for the data, and a Heroku that was down when all users left it may still be, so the
    # traffic does not go back by itself.
    forwarded = status.checkpoint is not None and status.checkpoint.forwarded
    stays = status.weight is None or (status.weight > 0 and (plan.spec.on_breach is OnBreach.HOLD or forwarded))
    return OnDelete.LEAVE if stays else OnDelete.HEROKU
