"""The soak: the last hold at 100 %, with a rollback still possible."""

from __future__ import annotations

from datetime import timedelta

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, Phase, format_duration
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.consume import watched_seconds
from cutover.domain.engine.context import Context
from cutover.domain.engine.estimate import requests_short
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import complete, enter
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.way_back import heroku_answers
from cutover.domain.evidence.judge import ALIVE_FRACTION, HARM_HOLD
from cutover.domain.evidence.numbers import numbers_of
from cutover.domain.evidence.sentences import counted
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.steps import current_step


def soak(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment) -> Outcome:
    """Hold at 100 % for the time of the soak, and end it only if no harm is suspected."""
    spec = context.spec
    if status.phase is Phase.SHIFTING:
        status = enter(context, status, Phase.SOAKING)
    step = current_step(spec, 100)
    length = max(spec.soak, step.hold if step else timedelta())
    left = length.total_seconds() - watched_seconds(checkpoint)
    if left > 0:
        where = "all traffic on EKS"
        if checkpoint.forwarded:
            where += " since Heroku was down" + ("; the way back is open again" if heroku_answers(context) else "")
        message = f"{where}; soaking for another {span(left)}"
        return Outcome(status, "Soaking", message, requeue=context.wait(left))
    if step is not None and requests_short(step, assessment.legs):
        message = (
            f"the soak is over, but EKS has answered only {assessment.legs.samples:,.0f} of at least"
            f" {step.min_requests:,} requests (minRequests)"
        )
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, message))
    if hold := _suspicion(assessment) or assessment.outside():
        return held(context, status, hold)
    if slo := assessment.without_verdict:
        message = f"the soak is over, but gate {slo.gate.name} has no verdict: {slo.sentence}"
        return Outcome(status, "Soaking", message, requeue=NEXT_BLOCK)
    if spec.suspend:
        message = "spec.suspend is set; set it to false to end the soak, which is over"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    return complete(context, status, f"all traffic is on EKS and the soak of {format_duration(length)} is over")


def _suspicion(assessment: Assessment) -> Hold | None:
    """Return the hold for suspected harm: the end of the soak also ends the judging."""
    legs = assessment.legs
    assert legs.alive is not None, "every plan is judged by alive"
    missing = legs.alive.eks_bad > (1 - ALIVE_FRACTION) * legs.alive.eks_total
    if legs.harm < HARM_HOLD and not missing:
        return None
    message = (
        f"the soak time is over, but EKS may harm users: evidence of harm {legs.harm:.0f} of {legs.harm_limit:.0f}; "
        f"{counted(numbers_of(legs.alive))}; the soak goes on until that is resolved"
    )
    return Hold(HoldReason.UNDECIDED, message)
