"""Whether the soak is over. All traffic is on EKS, and the way back is still open."""

from __future__ import annotations

from datetime import timedelta

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, Phase, format_duration
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.consume import watched_seconds
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import complete, enter
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.numbers import numbers_of
from cutover.domain.evidence.sentences import counted
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.steps import current_step


def soak(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment) -> Outcome:
    """Hold at 100 % for the time of the soak, and end it only where nothing is suspected."""
    spec = context.spec
    if status.phase is Phase.SHIFTING:
        status = enter(context, status, Phase.SOAKING)
    step = current_step(spec, 100)
    length = max(spec.soak, step.hold if step else timedelta())
    left = length.total_seconds() - watched_seconds(checkpoint)
    if left > 0:
        message = f"all traffic on EKS; soaking for another {span(left)}"
        return Outcome(status, "Soaking", message, requeue=context.wait(left))
    if hold := _suspicion(judgement) or judgement.outside():
        return held(context, status, hold)
    if mute := judgement.mute:
        message = f"the soak is over, but gate {mute.gate.name} has no verdict: {mute.sentence}"
        return Outcome(status, "Soaking", message, requeue=NEXT_BLOCK)
    if spec.suspend:
        message = "spec.suspend is set; set it to false to end the soak, which is over"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    return complete(context, status, f"all traffic is on EKS and the soak of {format_duration(length)} is over")


def _suspicion(judgement: Assessment) -> Hold | None:
    """Hold while harm is suspected: the end of the soak ends the judging, too."""
    legs = judgement.legs
    assert legs.alive is not None, "every plan is judged by it"
    missing = legs.alive.eks_bad > (1 - gate.ALIVE_SHARE) * legs.alive.eks_total
    if legs.harm < gate.HARM_HOLD and not missing:
        return None
    message = (
        f"the soak is over, but not with evidence of harm {legs.harm:.0f} of {legs.harm_limit:.0f}; "
        f"{counted(numbers_of(legs.alive))}; it goes on until that is settled"
    )
    return Hold(HoldReason.UNDECIDED, message)
