"""What keeps a plan where it is, and how a hold is told. A hold never keeps a rollback from happening."""

from __future__ import annotations

from typing import Literal

from cutover.api.durations import span
from cutover.api.v1alpha1 import Approval, Checkpoint, MigrationPlanStatus, Step
from cutover.domain.commands.annotations import APPROVE_ANNOTATION, approve, assignment
from cutover.domain.engine import schedule
from cutover.domain.engine.actions import Event
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.heroku import heroku_fails, probe_text
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import approval, refused, skip
from cutover.domain.engine.support import problems
from cutover.domain.engine.wanted import samples_wanted
from cutover.domain.evidence.confirmation import missing_capabilities
from cutover.domain.evidence.ingest import GAPS_UNTIL_NO_DATA
from cutover.domain.evidence.share import LEAST_REQUESTS as LEAST_SHARE_REQUESTS
from cutover.domain.evidence.share import Pool
from cutover.domain.holds import ALARMING, QUIET, Hold, HoldReason
from cutover.domain.journal.ledger import note_hold
from cutover.domain.revision import desired_revision
from cutover.domain.steps import next_step

#: Seconds (or eight blocks, if longer) after which a weight that cannot be seen at the gateway is a hold.
SHARE_DEADLINE_SECONDS = 120.0


def held(context: Context, status: MigrationPlanStatus, hold: Hold, *, requeue: float = 30.0) -> Outcome:
    """Stay where the plan is, for a stated reason.

    Parameters
    ----------
    requeue
        Seconds until the next look; a plan that is being judged is looked at with each block.
    """
    events: tuple[Event, ...] = ()
    if status.reason != hold.reason and hold.reason not in QUIET:
        kind: Literal["Normal", "Warning"] = "Warning" if hold.reason in ALARMING else "Normal"
        events = (Event(kind, hold.reason, hold.message),)
    noted = status.evolve(ledger=note_hold(status, hold, context.time))
    wait = context.wait(requeue) if samples_wanted(status) else requeue
    return Outcome(noted, hold.reason, hold.message, hold=hold, events=events, requeue=wait)


def too_early(context: Context, status: MigrationPlanStatus) -> bool:
    """Tell whether the phase has just begun, so that what is missing is on its way rather than a hold."""
    return context.waited(context.in_phase_since(status)) < SHARE_DEADLINE_SECONDS


def invalid(context: Context) -> Hold | None:
    """Hold what cannot be done as asked; traffic on EKS is still judged, and the way back stays open."""
    found: tuple[str, ...]
    if context.plan.unreadable:
        found = (context.plan.unreadable,)
    else:
        resolved = context.resolve()
        found = (*problems(context.spec, resolved.gates, context.seen.sources), *resolved.problems)
    return Hold(HoldReason.INVALID_SPEC, "; ".join(found)) if found else None


def incapable(context: Context) -> Hold | None:
    """Hold for want of what the traffic provider cannot do: without it no weight can be raised on evidence."""
    missing = missing_capabilities(context.seen.capabilities)
    return Hold(HoldReason.CAPABILITY_MISSING, missing) if missing else None


def blind(context: Context, checkpoint: Checkpoint) -> Hold | None:
    """Hold for want of data: without it nothing moves, in either direction."""
    samples = context.seen.samples
    if samples.error:
        return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, samples.error)
    overdue = late(context, max(checkpoint.consumed_until, checkpoint.weight_since, context.seen.since))
    if overdue or checkpoint.gaps >= GAPS_UNTIL_NO_DATA:
        gap = next((block.gap for block in reversed(samples.blocks) if block.gap), "")
        detail = f": {gap}" if gap else "; is the gateway scraped, and does operator and Prometheus time agree?"
        return Hold(HoldReason.NO_DATA, f"Prometheus has no usable counts of the gateway{detail}")
    return None


def late(context: Context, heard: float) -> bool:
    """Tell whether blocks should have come since then, or cannot come for long, as the clock was set back."""
    return abs(context.now - heard) > 4 * context.block_seconds + 5


def blocked(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment
) -> Hold | None:
    """Return what keeps the plan where it is, whatever the clock and the evidence of safety say."""
    weight = status.weight or 0
    if hold := invalid(context) or incapable(context) or blind(context, checkpoint):
        return hold
    if weight and checkpoint.observed_at is not None:
        if judgement.legs.both_unhealthy:
            return Hold(
                HoldReason.BOTH_LEGS_UNHEALTHY,
                "both legs fail far more than before: a shared incident; nothing moves",
            )
        if judgement.legs.heroku_dead:
            return Hold(
                HoldReason.HEROKU_CANNOT_TAKE_BACK,
                "Heroku answers far fewer requests than its weight: there is nothing to go back to",
            )
    if checkpoint.observed_at is None:
        return unseen(context, status, checkpoint)
    if heroku_fails(context):
        return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{probe_text(context)}: there is nothing to go back to")
    if missing := judgement.missing(context.now, started=weight > 0):
        return missing
    if weight and weight < 100 and judgement.legs.heroku_silent:
        return Hold(HoldReason.INSUFFICIENT_TRAFFIC, "the Heroku leg has no requests to compare with")
    return None


def unseen(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Hold | None:
    """Hold once a weight has not shown at the gateway for too long.

    Until then an edit of the route that was put back stays told.
    """
    can = context.seen.capabilities
    deadline = max(SHARE_DEADLINE_SECONDS, 8 * context.block_seconds, 2 * can.rollback_seconds)
    if context.waited(checkpoint.weight_since) < deadline:
        return Hold(HoldReason.DRIFT_DETECTED, status.message) if status.reason == HoldReason.DRIFT_DETECTED else None
    pooled, probe, wanted = Pool(*checkpoint.share_pool), context.seen.probe, desired_revision(status)
    since = f"{status.weight or 0} % was set {span(context.now - checkpoint.weight_since)} ago"
    elsewhere = probe is not None and probe.revision not in ("", wanted)
    if pooled.total < LEAST_SHARE_REQUESTS and not elsewhere:
        return Hold(
            HoldReason.INSUFFICIENT_TRAFFIC,
            f"{since}, and {pooled.total:.0f} requests are too few to see it at the gateway; it goes on with more "
            "traffic",
        )
    seen = f"{pooled.percent:.1f} % of {pooled.total:,.0f} requests" if pooled.percent is not None else "no requests"
    route = probe.revision or probe.detail if probe is not None else "unknown"
    return Hold(
        HoldReason.SHARE_NOT_OBSERVED,
        f"{since}, but EKS is seen with {seen}; the gateway's route is {route} (wanted: {wanted})"
        + (f"; see {can.where_to_look}" if can.where_to_look else ""),
    )


def gatekept(context: Context, status: MigrationPlanStatus, target: Step) -> Hold | None:
    """Return what people have put between a safe plan and its next step."""
    ceiling = context.spec.ceiling
    if target.weight > ceiling:
        return Hold(HoldReason.CEILING, f"ready for {target.weight} %; raise spec.ceiling ({ceiling}) to go on")
    if target.approval is Approval.MANUAL and approval(context, status, target) is None:
        command = assignment(approve(status.attempt, target.weight))
        message = f"ready for {target.weight} %; annotate the plan {command}"
        told = [str(refusal) for refusal in refused(context, status) if refusal.annotation == APPROVE_ANNOTATION]
        return Hold(HoldReason.AWAITING_APPROVAL, "; ".join((message, *told)))
    command_to_skip = skip(context, status, target)
    skipped = command_to_skip.holds if command_to_skip is not None else ()
    return next((hold for hold in calendar(context, target) if hold.reason not in skipped), None)


def calendar(context: Context, target: Step) -> tuple[Hold, ...]:
    """Return why the calendar does not let a step begin now."""
    plan = context.spec.schedule
    if plan is None:
        return ()
    found = []
    if freeze := schedule.active_freeze(plan, context.time):
        message = f"ready for {target.weight} %; frozen until {freeze.to:%F %R %Z}: {freeze.reason}"
        found.append(Hold(HoldReason.FROZEN, message))
    if not schedule.in_window(plan, context.time):
        opening = schedule.next_opening(plan, context.time)
        until = f"; the next window opens {opening:%a %F %R %Z}" if opening else ""
        message = f"ready for {target.weight} %, outside the windows{until}"
        found.append(Hold(HoldReason.OUTSIDE_WINDOW, message))
    return tuple(found)


def held_raise(context: Context, status: MigrationPlanStatus, before: int) -> Hold | None:
    """Return what would hold the raise from ``before`` to the status' weight if it were decided now."""
    if hold := invalid(context) or incapable(context):
        return hold
    if context.seen.samples.error:
        return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, context.seen.samples.error)
    if heroku_fails(context):
        return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, probe_text(context))
    if context.spec.suspend:
        return Hold(HoldReason.SUSPENDED, "spec.suspend is set")
    target = next_step(context.spec, before)
    return gatekept(context, status, target) if target is not None else None
