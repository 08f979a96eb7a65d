"""Whether EKS is worse, whether it is safe to go on, or whether it is time to wait, while traffic is shifted."""

from __future__ import annotations

from dataclasses import replace

from cutover.api.durations import span
from cutover.api.v1alpha1 import (
    Approval,
    Checkpoint,
    MigrationPlanStatus,
    OnTimeout,
    Phase,
    Step,
    format_duration,
)
from cutover.domain.commands.annotations import Skippable, assignment, rollback
from cutover.domain.engine import moves
from cutover.domain.engine.actions import Event
from cutover.domain.engine.assessment import Assessment, edits
from cutover.domain.engine.consume import assess_gates, consume_blocks, observed_share, watched_seconds
from cutover.domain.engine.context import Context
from cutover.domain.engine.heroku import await_probe, heroku_answers, probe_text
from cutover.domain.engine.holds import blocked, calendar, gatekept, held, late
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.people import approval, note_skips, skip
from cutover.domain.engine.phases.breach import breach
from cutover.domain.engine.phases.soak import soak
from cutover.domain.engine.route import put_back, repaired, withdrawn
from cutover.domain.engine.templates import await_templates, put_in_force, unchanged_while_reading
from cutover.domain.evidence import judge as gate
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.journal.ledger import note
from cutover.domain.steps import current_step, next_step
from cutover.domain.verdicts import Verdict

#: Holds that a step's timeout may end: the plan waits for evidence or for people, not for data or for Heroku.
TIMED_HOLDS = frozenset({HoldReason.INSUFFICIENT_TRAFFIC, HoldReason.SHARE_NOT_OBSERVED, HoldReason.DRIFT_DETECTED})
#: Gates that a message tells of; the status has an entry for each.
MOST_TOLD = 3


def judge(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Judge the newest blocks: go back on harm, move up on evidence of safety, hold otherwise."""
    if answer := withdrawn(context, status) or put_back(context, status):
        return answer
    status = repaired(context, status)
    checkpoint = consume_blocks(context, status)
    judgement = assess_gates(context, status, checkpoint)
    reading = unchanged_while_reading(context, status)
    status = _with_verdicts(context, status, checkpoint, judgement, complete=reading is None)
    weight, observed = status.weight or 0, checkpoint.observed_at is not None
    if weight and observed and (judgement.legs.worse or judgement.failing_bound):
        return breach(context, status, judgement)
    if reading is not None:
        # Gates whose templates are not read yet stay in the status: they would seem to be removed.
        return replace(reading, status=status.evolve(gates=reading.status.gates))
    hold = blocked(context, status, checkpoint, judgement)
    if hold is not None and hold.reason not in TIMED_HOLDS:
        return held(context, status, hold)
    if late(context, max(checkpoint.consumed_until, checkpoint.weight_since)):
        # The clock says that the hold is over, or the timeout; what happened meanwhile is not known yet.
        return Outcome(status, "CatchingUp", "reading what happened since the last checkpoint", requeue=1)
    # A step that has passed does not time out, however long people keep it from the next one. Nor does a step that lacks
    # data, or has a bound that is outside for a moment: that passes, or becomes a failure or a hold of its own.
    passed = hold is None and observed and (judgement.legs.safe or weight == 100)
    if not passed and judgement.mute is None and (ended := _timed_out(context, status, hold)):
        return ended
    if hold is not None:
        return held(context, status, hold)
    if not observed:
        return Outcome(status, "AwaitingShare", f"waiting for {weight} % to be seen at the gateway", requeue=1)
    if weight == 100:
        return soak(context, status, checkpoint, judgement)
    return _advance(context, status, checkpoint, judgement)


def _with_verdicts(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment, *, complete: bool
) -> MigrationPlanStatus:
    """Return the status with what the gates say, and a line in the ledger for gates that were edited.

    Parameters
    ----------
    complete
        Whether all templates are known, so that a missing gate is an edit.
    """
    weight, observed = status.weight or 0, checkpoint.observed_at is not None
    gates = judgement.status(context.seen.queries, mesh=weight > 0)
    if weight and complete and (edited := edits(status.gates, gates)):
        # No gate is weakened without a line.
        text = "; ".join(edited)
        ledger = note(status, "Gates", to=weight, reason="PlanEdited", message=text, now=context.time)
        status = status.evolve(ledger=ledger)
    return status.evolve(
        checkpoint=checkpoint,
        share=observed_share(checkpoint),
        templates=context.resolve().resolved,
        gates=gates,
        gate=judgement.summary(observed=observed, at_full=weight == 100) if weight else "",
        evidence=judgement.evidence() if weight else None,
    )


def _timed_out(context: Context, status: MigrationPlanStatus, hold: Hold | None) -> Outcome | None:
    """End a step that has not passed in its time, as the plan says."""
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
    # A timeout is no emergency: it does not go back to a leg that does not answer.
    if context.seen.probe is None:
        return await_probe(status, message)
    if not heroku_answers(context):
        hold = Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{message}; {probe_text(context)}")
        return held(context, status, hold)
    return moves.roll_back(context, status, HoldReason.STEP_TIMEOUT, message)


def _advance(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment) -> Outcome:
    """Move to the next step if its time has come, the evidence allows it and nobody holds it."""
    spec, weight = context.spec, status.weight or 0
    target = next_step(spec, weight)
    if target is None:  # the API server wants the last step to be 100, and 100 soaks
        message = "steps: the last step must have weight 100"
        return held(context, status, Hold(HoldReason.INVALID_SPEC, message))
    step, command = current_step(spec, weight), skip(context, status, target)
    left = step.hold.total_seconds() - watched_seconds(checkpoint) if step and weight else 0.0
    evidence = _evidence_text(judgement) if weight else "Heroku's baseline is recorded"
    skipped: list[tuple[str, str]] = []
    if left > 0 and judgement.safe and command is not None and Skippable.HOLD_TIME in command.holds:
        skipped.append((Skippable.HOLD_TIME, f"{weight} % for another {span(left)}"))
        left = 0.0
    if spec.suspend:
        message = f"spec.suspend is set; set it to false to go on; at {weight} %, {evidence}"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    if left > 0:
        message = f"{weight} % for another {span(left)}; {evidence}"
        return Outcome(status, "Judging", message, requeue=context.wait(left))
    if weight and not judgement.safe:
        return _not_safe(context, status, judgement, f"the hold at {weight} % is over; {evidence}")
    if not weight and (outside := judgement.outside()):
        return held(context, status, outside)
    if waiting := _not_clear(context, status, target, evidence):
        return waiting
    newest = context.resolve(frozen=False)
    if newest.problems:
        message = f"ready for {target.weight} %; {'; '.join(newest.problems)}"
        return await_templates(context, status) or held(context, status, Hold(HoldReason.INVALID_SPEC, message))
    message = f"{weight} % → {target.weight} %: {evidence}"
    if target.approval is Approval.MANUAL:
        message += f"; approved {approval(context, status, target)}"
    told: tuple[Event, ...] = ()
    if command is not None:
        skipped += [(hold.reason, hold.message) for hold in calendar(context, target) if hold.reason in command.holds]
        status, told = note_skips(context, status, command, skipped)
    status = put_in_force(context, status, newest)
    return moves.advance(context, status, target.weight, message, told)


def _not_safe(context: Context, status: MigrationPlanStatus, judgement: Assessment, message: str) -> Outcome:
    """Tell whether evidence is on its way, needs more traffic, or does not come although there is traffic."""
    legs, left = judgement.legs, judgement.legs.seconds_to_safe
    # A bound that alone is not met takes a moment, or becomes a failure.
    if legs.safe or (left is not None and left <= gate.PATIENCE_SECONDS):
        return Outcome(status, "AwaitingEvidence", message, requeue=NEXT_BLOCK)
    thin = legs.verdict is Verdict.INSUFFICIENT_TRAFFIC
    return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC if thin else HoldReason.UNDECIDED, message))


def _not_clear(context: Context, status: MigrationPlanStatus, target: Step, evidence: str) -> Outcome | None:
    """Wait where the way back or the route is not known to be in order, or people keep a step that is safe."""
    ready, traffic = f"ready for {target.weight} %", context.seen.traffic
    if not heroku_answers(context):
        return await_probe(status, f"{ready}; {evidence}")
    if traffic is None:  # somebody may have changed it, and it could not be written either
        detail = "; ".join(("the route cannot be read", *context.seen.errors))
        return Outcome(status, "Judging", f"{ready}; {detail}", requeue=2)
    if not traffic.current:
        detail = f"the route is being written anew at {status.weight or 0} % first"
        return Outcome(status, "Judging", f"{ready}; {detail}", requeue=1)
    hold = gatekept(context, status, target)
    return held(context, status, hold) if hold is not None else None


def _evidence_text(judgement: Assessment) -> str:
    """Say how much evidence there is, how much is needed, and what else does not let the next step begin."""
    legs = judgement.legs
    if judgement.safe:
        return f"every gate is within its margin; evidence of harm {legs.harm:.2g} of {legs.harm_limit:.0f}"
    text = f"evidence of safety {legs.safety:.2g} of {legs.safety_limit:.0f}"
    if legs.harm >= gate.HARM_HOLD:
        text += f", evidence of harm {legs.harm:.0f} of {legs.harm_limit:.0f}"
    if legs.seconds_to_safe:
        text += f", about {span(legs.seconds_to_safe)} at this traffic"
    unmet = [f"gate {custom.gate.name}: {custom.sentence}" for custom in judgement.unmet]
    more = [f"{len(unmet) - MOST_TOLD} more gates do not pass"] if len(unmet) > MOST_TOLD else []
    return "; ".join((text, *unmet[:MOST_TOLD], *more))
