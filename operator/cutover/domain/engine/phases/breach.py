"""Evidence of harm: whether to roll back, or to hold because a rollback would not help."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanStatus, OnBreach
from cutover.domain.commands.annotations import assignment, rollback
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import roll_back
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.way_back import await_probe, heroku_answers, probe_text
from cutover.domain.holds import Hold, HoldReason


def breach(context: Context, status: MigrationPlanStatus, assessment: Assessment) -> Outcome:
    """Roll back, unless Heroku is unhealthy too or the plan says to hold."""
    legs, bound = assessment.legs, assessment.failing_bound
    if legs.worse:
        culprit = legs.main_metric
        reason, detail = "EvidenceOfHarm", f"EKS is worse ({culprit}): {assessment.sentence(culprit)}"
        without_control = status.weight == 100 or legs.heroku_silent
    else:
        assert bound is not None, "a breach is a leg that is worse, or a bound that fails"
        culprit = bound.gate.name
        reason, detail = HoldReason.BOUND_EXCEEDED, f"gate {culprit}: {bound.sentence}"
        without_control = True  # a bound does not measure Heroku
    if legs.heroku_dead:
        return _no_rescue(
            context, status, f"{detail}; Heroku answers far fewer requests than its weight: mend one of them"
        )
    if legs.both_unhealthy and not legs.worse:
        return _no_rescue(context, status, f"{detail}; both legs fail far more than before: mend what they share")
    if context.spec.on_breach is OnBreach.HOLD:
        how = f"annotate the plan {assignment(rollback(status.attempt))} to go back"
        message = f"{detail}; held, because spec.onBreach is Hold; {how}"
        return held(context, status, Hold(HoldReason.BREACH, message))
    if without_control and context.seen.probe is None:
        return await_probe(status, detail)
    if without_control and not heroku_answers(context):
        return _no_rescue(context, status, f"{detail}; {probe_text(context)}: mend one of them")
    return roll_back(context, status, reason, detail, culprit=culprit)


def _no_rescue(context: Context, status: MigrationPlanStatus, message: str) -> Outcome:
    return held(context, status, Hold(HoldReason.BOTH_LEGS_UNHEALTHY, message))
