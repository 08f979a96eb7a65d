"""Holds: what keeps a plan at its weight. No hold ever prevents a rollback."""

from __future__ import annotations

from typing import Literal

from cutover.api.v1alpha1 import Approval, Checkpoint, LegName, MigrationPlanStatus, Step
from cutover.domain import schedule
from cutover.domain.commands.annotations import APPROVE_ANNOTATION, Skippable, approve, assignment, skip_hold
from cutover.domain.engine.actions import Event
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import approval, refused, skip
from cutover.domain.engine.probes import eks_probes_fail, heroku_denies
from cutover.domain.engine.share_holds import SHARE_DEADLINE_SECONDS, share_off, share_over, unseen
from cutover.domain.engine.support import problems
from cutover.domain.engine.wanted import samples_wanted
from cutover.domain.engine.way_back import answers_too_little, heroku_fails, probe_text
from cutover.domain.evidence.confirmation import missing_capabilities
from cutover.domain.evidence.ingest import GAPS_UNTIL_NO_DATA, load_evidence
from cutover.domain.evidence.sentences import both_mixes, unequal
from cutover.domain.holds import ALARMING, QUIET, Hold, HoldReason
from cutover.domain.journal.ledger import note_hold
from cutover.domain.steps import next_step


def held(context: Context, status: MigrationPlanStatus, hold: Hold, *, requeue: float = 30.0) -> Outcome:
    """Keep the plan at its weight, and record the hold.

    Parameters
    ----------
    requeue
        Seconds until the next reconcile; a plan that is judged is reconciled with each block.
    """
    events: tuple[Event, ...] = ()
    if status.reason != hold.reason and hold.reason not in QUIET:
        kind: Literal["Normal", "Warning"] = "Warning" if hold.reason in ALARMING else "Normal"
        events = (Event(kind, hold.reason, hold.message),)
    noted = status.evolve(ledger=note_hold(status, hold, context.time))
    wait = context.wait(requeue) if samples_wanted(status) else requeue
    return Outcome(noted, hold.reason, hold.message, hold=hold, events=events, requeue=wait)


def too_early(context: Context, status: MigrationPlanStatus) -> bool:
    """Tell whether the phase has just begun, so that missing data is not a hold yet."""
    return context.waited(context.in_phase_since(status)) < SHARE_DEADLINE_SECONDS


def invalid(context: Context) -> Hold | None:
    """Return the hold for a spec that cannot be carried out. Traffic on EKS is still judged and can still roll back."""
    found: tuple[str, ...]
    if context.plan.unreadable:
        found = (context.plan.unreadable,)
    else:
        resolved = context.slos
        found = (*problems(context.spec, resolved.gates, context.seen.sources), *resolved.problems)
    return Hold(HoldReason.INVALID_SPEC, "; ".join(found)) if found else None


def incapable(context: Context) -> Hold | None:
    """Return the hold for a traffic provider that lacks a capability without which no weight can be raised."""
    missing = missing_capabilities(context.can)
    return Hold(HoldReason.CAPABILITY_MISSING, missing) if missing else None


def blind(context: Context, checkpoint: Checkpoint) -> Hold | None:
    """Return the hold for missing data: without data the gates move no weight; commands and a lowered ceiling still do."""
    samples = context.seen.samples
    if samples.error:
        return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, samples.error)
    if checkpoint.ambiguous:
        return Hold(HoldReason.AMBIGUOUS, checkpoint.gap)
    overdue = late(context, max(checkpoint.consumed_until, checkpoint.weight_since, context.seen.since))
    if overdue or checkpoint.gaps >= GAPS_UNTIL_NO_DATA:
        detail = (
            f": {checkpoint.gap}"
            if checkpoint.gap
            else "; does Prometheus scrape the gateway, and do its clock and the operator's agree?"
        )
        return Hold(HoldReason.NO_DATA, f"Prometheus has no usable counts of the gateway{detail}")
    return None


def late(context: Context, heard: float) -> bool:
    """Tell whether blocks are overdue since ``heard``, or will be missing for long because the clock was set back."""
    return abs(context.now - heard) > 4 * context.block_seconds + 5


def blocked(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment
) -> Hold | None:
    """Return the hold that comes before the clock and before the evidence of safety."""
    weight = status.weight or 0
    if hold := invalid(context) or incapable(context) or blind(context, checkpoint):
        return hold
    if weight and checkpoint.observed_at is not None:
        if assessment.legs.both_unhealthy:
            return Hold(
                HoldReason.BOTH_LEGS_UNHEALTHY,
                "both legs fail far more than before: a shared incident; nothing moves",
            )
        if answers_too_little(context, assessment.legs):
            return Hold(
                HoldReason.HEROKU_CANNOT_TAKE_BACK,
                "Heroku answers far fewer requests than its weight: there is nothing to go back to",
            )
    if checkpoint.observed_at is None:
        return unseen(context, status, checkpoint) or (
            no_way_back(context, status, checkpoint) if checkpoint.forwarded else None
        )
    if hold := no_way_back(context, status, checkpoint):
        return hold
    if fails := eks_probes_fail(context, status):
        return fails
    if missing := assessment.missing(context.now, started=weight > 0):
        return missing
    if weight and assessment.legs.share_off:
        return share_off(context, status)
    if weight and assessment.legs.share_over:
        return share_over(context, status)
    if weight and weight < 100 and assessment.legs.heroku_silent:
        return Hold(HoldReason.INSUFFICIENT_TRAFFIC, "the Heroku leg has no requests to compare with")
    skipped = holds_skipped(context, status, next_step(context.spec, weight))
    holds = (legs_differ(context, status), unequal_answers(context, status, checkpoint, assessment))
    return next((hold for hold in holds if hold is not None and hold.reason not in skipped), None)


def legs_differ(context: Context, status: MigrationPlanStatus) -> Hold | None:
    """Return the hold for code or configuration that changed on one leg only, and for a rollout of EKS that is under way."""
    releases, weight = status.releases, status.weight or 0
    upcoming = next_step(context.spec, weight)
    if releases is None or upcoming is None or not (releases.rolling or releases.ahead):
        return None
    command = assignment(skip_hold(status.attempt, upcoming.weight, Skippable.LEGS_DIFFER))
    if releases.rolling:
        rollout = context.seen.rollout
        progress = f": {rollout.progress}" if rollout is not None else ""
        said = f"EKS is rolling out ({' and '.join(releases.rolling)}){progress}; it goes on once all Pods are new"
    elif releases.ahead is LegName.HEROKU:
        said = f"Heroku changed and EKS did not since: {releases.change}; it goes on once EKS has rolled out, too"
    else:
        said = f"EKS changed and Heroku did not since: {releases.change}; it goes on once there is a release on Heroku, too"
    return Hold(HoldReason.LEGS_DIFFER, f"{said}; if that is as it should be: {command}")


def unequal_answers(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment
) -> Hold | None:
    """Return the hold for answers that differ between the legs, or from before the first step, and are no harm."""
    found, upcoming = assessment.legs.differences, next_step(context.spec, status.weight or 0)
    if found.largest < found.limit or upcoming is None:
        return None
    codes = load_evidence(checkpoint).codes
    if found.sessions >= found.limit:
        reason = Skippable.SESSIONS_NOT_SHARED
        said = (
            "both legs refuse or redirect more than Heroku did before the first step, as if one did not accept the other's "
            f"sessions: {both_mixes(codes)}"
        )
    else:
        reason, said = Skippable.ANSWERS_DIFFER, unequal(found, codes)
    command = assignment(skip_hold(status.attempt, upcoming.weight, reason))
    return Hold(HoldReason(reason), f"{said}; it goes on once that is over; to go on in spite of it: {command}")


def holds_skipped(context: Context, status: MigrationPlanStatus, upcoming: Step | None) -> frozenset[str]:
    """Return the holds that a person skips before a step."""
    command = skip(context, status, upcoming) if upcoming is not None else None
    return command.holds if command is not None else frozenset()


def no_way_back(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Hold | None:
    """Return the hold for a Heroku that cannot take the traffic back; it says whether all traffic is on EKS for that."""
    if not heroku_fails(context):
        return heroku_denies(context, status)
    went = ""
    if checkpoint.forwarded and checkpoint.observed_at is None:
        went = "all traffic goes to EKS because Heroku is down, which the gateway has not shown yet; "
    elif checkpoint.forwarded:
        went = "all traffic was sent to EKS because Heroku was down; "
    return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{went}{probe_text(context)}: there is nothing to go back to")


def policy_hold(context: Context, status: MigrationPlanStatus, upcoming: Step) -> Hold | None:
    """Return the hold by which people keep a safe plan from its next step: ceiling, approval or calendar."""
    ceiling = context.spec.ceiling
    if upcoming.weight > ceiling:
        return Hold(HoldReason.CEILING, f"ready for {upcoming.weight} %; raise spec.ceiling ({ceiling}) to go on")
    if upcoming.approval is Approval.MANUAL and approval(context, status, upcoming) is None:
        command = assignment(approve(status.attempt, upcoming.weight))
        message = f"ready for {upcoming.weight} %; annotate the plan {command}"
        told = [str(refusal) for refusal in refused(context, status) if refusal.annotation == APPROVE_ANNOTATION]
        return Hold(HoldReason.AWAITING_APPROVAL, "; ".join((message, *told)))
    skipped = holds_skipped(context, status, upcoming)
    return next((hold for hold in calendar(context, upcoming) if hold.reason not in skipped), None)


def calendar(context: Context, upcoming: Step) -> tuple[Hold, ...]:
    """Return the holds of the calendar, freezes and windows, for the next step."""
    plan = context.spec.schedule
    if plan is None:
        return ()
    found = []
    if freeze := schedule.active_freeze(plan, context.wall_time):
        message = f"ready for {upcoming.weight} %; frozen until {freeze.to:%F %R %Z}: {freeze.reason}"
        found.append(Hold(HoldReason.FROZEN, message))
    if not schedule.in_window(plan, context.wall_time):
        opening = schedule.next_opening(plan, context.wall_time)
        until = f"; the next window opens {opening:%a %F %R %Z}" if opening else ""
        message = f"ready for {upcoming.weight} %, outside the windows{until}"
        found.append(Hold(HoldReason.OUTSIDE_WINDOW, message))
    return tuple(found)


def held_raise(context: Context, status: MigrationPlanStatus, before: int) -> Hold | None:
    """Return the hold that the raise from ``before`` to the status' weight would meet if it were decided now."""
    if hold := invalid(context) or incapable(context):
        return hold
    if context.spec.suspend:
        return Hold(HoldReason.SUSPENDED, "spec.suspend is set")
    if status.checkpoint is not None and status.checkpoint.forwarded:
        # It was decided because Heroku is down, and asks neither for an approval nor for the calendar.
        ceiling = context.spec.ceiling
        return Hold(HoldReason.CEILING, f"spec.ceiling is {ceiling}") if ceiling < (status.weight or 0) else None
    if context.seen.samples.error:
        return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, context.seen.samples.error)
    if heroku_fails(context):
        return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, probe_text(context))
    upcoming = next_step(context.spec, before)
    if upcoming is None:
        return None
    differ = legs_differ(context, status.evolve(weight=before))
    if differ is not None and differ.reason not in holds_skipped(context, status, upcoming):
        return differ
    return policy_hold(context, status, upcoming)
