"""The Shifting and Soaking phases: whether to roll back, to move up, or to wait."""

from __future__ import annotations

from dataclasses import replace

from cutover.api.durations import span
from cutover.api.v1alpha1 import (
    Approval,
    Checkpoint,
    Estimate,
    MigrationPlanStatus,
    OnTimeout,
    Phase,
    Step,
    format_duration,
)
from cutover.domain.commands.annotations import (
    Skippable,
    assignment,
    rollback,
)
from cutover.domain.engine import moves
from cutover.domain.engine.actions import Event
from cutover.domain.engine.assessment import Assessment, edits
from cutover.domain.engine.consume import assess_gates, consume_blocks, observed_share, watched_seconds
from cutover.domain.engine.context import Context
from cutover.domain.engine.estimate import estimate, requests_short
from cutover.domain.engine.holds import (
    blind,
    blocked,
    calendar,
    held,
    late,
    legs_differ,
    policy_hold,
    unequal_answers,
)
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.people import approval, note_skips, skip
from cutover.domain.engine.phases.breach import back_or_hold, breach
from cutover.domain.engine.phases.forward import forward, watch_heroku
from cutover.domain.engine.phases.full import at_full
from cutover.domain.engine.phases.soak import soak
from cutover.domain.engine.phases.unproven import unproven
from cutover.domain.engine.probes import await_pair, pairs_text, probes_status, proven_by_probes
from cutover.domain.engine.route import put_back, repaired, withdrawn
from cutover.domain.engine.templates import await_templates, put_in_force, unchanged_while_reading
from cutover.domain.engine.way_back import await_probe, heroku_answers, probe_text
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.judge import HARM_HOLD
from cutover.domain.evidence.numbers import answers_of
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.journal.ledger import note
from cutover.domain.releases import level
from cutover.domain.steps import current_step, next_step

#: Holds that a step's timeout may end. In them the plan waits for evidence, not for data or for Heroku.
TIMED_HOLDS = frozenset(
    {
        HoldReason.INSUFFICIENT_TRAFFIC,
        HoldReason.SHARE_NOT_OBSERVED,
        HoldReason.DRIFT_DETECTED,
        HoldReason.ANSWERS_DIFFER,
        HoldReason.SESSIONS_NOT_SHARED,
    }
)
#: Most gates in a message; the status has an entry for each gate.
MOST_TOLD = 3


def judge(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Judge the newest blocks: roll back on harm, move up on evidence of safety, hold otherwise."""
    if answer := withdrawn(context, status) or put_back(context, status):
        return answer
    status = repaired(context, status)
    checkpoint = consume_blocks(context, status)
    assessment = assess_gates(context, status, checkpoint)
    reading = unchanged_while_reading(context, status)
    weight, observed = status.weight or 0, checkpoint.observed_at is not None
    checkpoint = watch_heroku(context, checkpoint, assessment, weight)
    status = _with_verdicts(context, status, checkpoint, assessment, complete=reading is None)
    forwarding = forward(context, status, checkpoint, assessment)
    if forwarding.move is not None:
        return forwarding.move
    status = forwarding.status
    if weight == 100 and observed and (answer := at_full(context, status, checkpoint, assessment)):
        return answer
    if weight and observed and (assessment.legs.worse or assessment.failing_bound):
        return breach(context, status, assessment)
    if observed and proven_by_probes(context, status, checkpoint):
        return back_or_hold(context, status, "EvidenceOfHarm", pairs_text(context), culprit="probes")
    if reading is not None:
        # Gates whose templates are not read yet stay in the status, or they would look removed.
        return replace(reading, status=status.evolve(gates=reading.status.gates))
    hold = blocked(context, status, checkpoint, assessment)
    if hold is not None and forwarding.waits:
        hold = replace(hold, message=f"{hold.message}; {forwarding.waits}")
    if hold is not None and hold.reason not in TIMED_HOLDS:
        return held(context, status, hold)
    if late(context, max(checkpoint.consumed_until, checkpoint.weight_since)):
        # By the clock the hold or the timeout may be over, but what happened meanwhile is not known yet.
        return Outcome(status, "CatchingUp", "reading what happened since the last checkpoint", requeue=1)
    # A step that has passed does not time out, however long people keep the plan from the next step. Nor does a step that
    # lacks data or has a bound outside for a moment: either ends by itself, or becomes a failure or another hold.
    enough = not requests_short(current_step(context.spec, weight), assessment.legs)
    passed = hold is None and observed and ((assessment.legs.safe and enough) or weight == 100)
    if not passed and assessment.without_verdict is None and (ended := _timed_out(context, status, hold)):
        return ended
    if hold is not None:
        return held(context, status, hold)
    if not observed:
        return Outcome(status, "AwaitingShare", f"waiting for {weight} % to be seen at the gateway", requeue=1)
    if weight == 100:
        return soak(context, status, checkpoint, assessment)
    return _advance(context, status, checkpoint, assessment)


def _with_verdicts(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment, *, complete: bool
) -> MigrationPlanStatus:
    """Return the status with the gates' verdicts, and a ledger entry for gates that were edited.

    Parameters
    ----------
    complete
        Whether all gate templates are known. Only then is a missing gate an edit.
    """
    weight, observed = status.weight or 0, checkpoint.observed_at is not None
    gates = assessment.status(context.seen.queries, mesh=weight > 0)
    if weight and complete and (edited := edits(status.gates, gates)):
        # No gate is weakened without a ledger entry.
        ledger = note(
            status,
            "Gates",
            to=weight,
            reason="PlanEdited",
            message="; ".join(one.text for one in edited),
            now=context.time,
            edited=tuple(dict.fromkeys(f"gates.{one.gate}" for one in edited)),
        )
        status = status.evolve(ledger=ledger)
    return status.evolve(
        checkpoint=checkpoint,
        share=observed_share(checkpoint),
        probes=probes_status(context),
        templates=context.slos.resolved,
        gates=gates,
        answers=answers_of(load_evidence(checkpoint).codes),
        # What was judged before the data ended is no news.
        gate=assessment.summary(observed=observed, at_full=weight == 100)
        if weight and blind(context, checkpoint) is None
        else "",
        evidence=assessment.evidence() if weight else None,
        estimate=_estimate(context, checkpoint, assessment, weight) if 0 < weight < 100 and observed else None,
    )


def _estimate(context: Context, checkpoint: Checkpoint, assessment: Assessment, weight: int) -> Estimate:
    return estimate(assessment.legs, checkpoint, current_step(context.spec, weight), weight)


def _timed_out(context: Context, status: MigrationPlanStatus, hold: Hold | None) -> Outcome | None:
    """End a step that has not passed within its timeout, as ``onTimeout`` says."""
    step = current_step(context.spec, status.weight or 0)
    if status.phase is not Phase.SHIFTING or step is None or step.timeout is None:
        return None
    if context.now - context.in_phase_since(status) < step.timeout.total_seconds():
        return None
    message = f"the step at {status.weight or 0} % has not passed within {format_duration(step.timeout)}"
    if hold is not None:
        message += f" ({hold.reason}: {hold.message})"
    if step.on_timeout is OnTimeout.HOLD:
        how = f"annotate the plan {assignment(rollback(status.attempt))} to go back"
        return held(context, status, Hold(HoldReason.STEP_TIMEOUT, f"{message}; it goes on once it has; {how}"))
    # A timeout is no emergency: it does not roll back to a leg that gives no answer.
    if context.seen.probe is None:
        return await_probe(status, message)
    if not heroku_answers(context):
        hold = Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{message}; {probe_text(context)}")
        return held(context, status, hold)
    return moves.roll_back(context, status, HoldReason.STEP_TIMEOUT, message)


def _advance(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment) -> Outcome:
    """Move to the next step if the hold is over, the evidence allows it and no other hold applies."""
    spec, weight = context.spec, status.weight or 0
    upcoming = next_step(spec, weight)
    if upcoming is None:  # the API server requires a last step of 100, and 100 soaks
        message = "steps: the last step must have weight 100"
        return held(context, status, Hold(HoldReason.INVALID_SPEC, message))
    step, command = current_step(spec, weight), skip(context, status, upcoming)
    left = step.hold.total_seconds() - watched_seconds(checkpoint) if step and weight else 0.0
    evidence = _evidence_text(assessment, status, step) if weight else "Heroku's baseline is recorded"
    skipped: list[tuple[str, str]] = []
    if left > 0 and assessment.safe and command is not None and Skippable.HOLD_TIME in command.holds:
        skipped.append((Skippable.HOLD_TIME, f"{weight} % for another {span(left)}"))
        left = 0.0
    if spec.suspend:
        message = f"spec.suspend is set; set it to false to go on; at {weight} %, {evidence}"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    if left > 0:
        message = f"{weight} % for another {span(left)}; {evidence}"
        return Outcome(status, "Judging", message, requeue=context.wait(left))
    over = f"the hold at {weight} % is over; {evidence}"
    if weight and requests_short(step, assessment.legs):
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, over))
    reason = moves.AdvanceReason.EVIDENCE_OF_SAFETY if weight else moves.AdvanceReason.BASELINE_RECORDED
    by = ""
    if weight and not assessment.safe:
        answer = unproven(context, status, checkpoint, assessment, upcoming, over)
        if isinstance(answer, Outcome):
            return answer
        reason, evidence, by = answer.reason, f"{answer.message}; {evidence}", answer.by
    if not weight and (outside := assessment.outside()):
        return held(context, status, outside)
    differ = unequal_answers(context, status, checkpoint, assessment) if weight else None
    if differ is None and weight and assessment.legs.differences.largest >= HARM_HOLD:
        message = f"the hold at {weight} % is over; the legs' answers may differ: {_differences_text(assessment)}"
        return Outcome(status, "AwaitingEvidence", message, requeue=NEXT_BLOCK)
    if waiting := _not_clear(context, status, upcoming, evidence):
        return waiting
    newest = context.newest_slos
    if newest.problems:
        message = f"ready for {upcoming.weight} %; {'; '.join(newest.problems)}"
        return await_templates(context, status) or held(context, status, Hold(HoldReason.INVALID_SPEC, message))
    message = f"{weight} % → {upcoming.weight} %: {evidence}"
    if upcoming.approval is Approval.MANUAL:
        approved = approval(context, status, upcoming) or ""
        message += f"; approved {approved}"
        by = "; ".join(filter(None, (by, approved)))
    told: tuple[Event, ...] = ()
    if command is not None:
        releases, alike = status.releases, legs_differ(context, status)
        if releases is not None and alike is not None:
            skipped.append((alike.reason, alike.message))
            status = status.evolve(releases=level(releases))
        if differ is not None:
            skipped.append((differ.reason, differ.message))
        skipped += [
            (hold.reason, hold.message) for hold in calendar(context, upcoming) if hold.reason in command.holds
        ]
        status, told = note_skips(context, status, command, skipped)
    status = put_in_force(context, status, newest)
    return moves.advance(context, status, upcoming.weight, reason, message, told, by=by)


def _differences_text(assessment: Assessment) -> str:
    found = assessment.legs.differences
    return f"evidence {found.largest:.0f} of {found.limit:.0f}"


def _not_clear(context: Context, status: MigrationPlanStatus, upcoming: Step, evidence: str) -> Outcome | None:
    """Wait if Heroku or the route is not known to be in order, or if people keep a safe plan from its next step."""
    ready, traffic = f"ready for {upcoming.weight} %", context.seen.traffic
    if not heroku_answers(context):
        return await_probe(status, f"{ready}; {evidence}")
    if await_pair(context, status):
        return Outcome(status, "Judging", f"{ready}; {evidence}; asking EKS", requeue=1)
    if traffic is None:  # it may have been edited, and could not be written either
        detail = "; ".join(("the route cannot be read", *context.seen.errors))
        return Outcome(status, "Judging", f"{ready}; {detail}", requeue=2)
    if not traffic.current:
        detail = f"the route is being written anew at {status.weight or 0} % first"
        return Outcome(status, "Judging", f"{ready}; {detail}", requeue=1)
    hold = policy_hold(context, status, upcoming)
    return held(context, status, hold) if hold is not None else None


def _evidence_text(assessment: Assessment, status: MigrationPlanStatus, step: Step | None) -> str:
    """Return the evidence, what is needed, and which gates keep the next step from beginning."""
    legs, expected = assessment.legs, status.estimate
    few = ""
    if requests_short(step, legs) and step is not None and step.min_requests:
        few = f"; {legs.samples:,.0f} of at least {step.min_requests:,} EKS requests (minRequests)"
    if assessment.safe:
        text = f"every gate is within its margin; evidence of harm {legs.harm:.2g} of {legs.harm_limit:.0f}{few}"
        return f"{text}, {expected.text}" if few and expected is not None else text
    text = f"evidence of safety {legs.safety:.2g} of {legs.safety_limit:.0f}"
    if legs.harm >= HARM_HOLD:
        text += f", evidence of harm {legs.harm:.0f} of {legs.harm_limit:.0f}"
    text += few
    if expected is not None and expected.seconds:
        text += f", {expected.text}"
    unmet = [f"gate {custom.gate.name}: {custom.sentence}" for custom in assessment.unmet]
    more = [f"{len(unmet) - MOST_TOLD} more gates do not pass"] if len(unmet) > MOST_TOLD else []
    return "; ".join((text, *unmet[:MOST_TOLD], *more))
