"""Evidence of harm: whether to roll back, or to hold because a rollback would not help."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanStatus, OnBreach
from cutover.domain.commands.annotations import assignment, rollback
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import roll_back
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.way_back import answers_too_little, await_probe, heroku_answers, probe_text
from cutover.domain.evidence.rules import ALIVE, ANSWERS
from cutover.domain.evidence.sentences import both_mixes
from cutover.domain.holds import Hold, HoldReason

#: Gates whose harm shows in the codes of the answers.
_BY_CODE = (ALIVE, "errors", *ANSWERS)


def breach(context: Context, status: MigrationPlanStatus, assessment: Assessment) -> Outcome:
    """Roll back, unless Heroku is unhealthy too or the plan says to hold."""
    legs, bound = assessment.legs, assessment.failing_bound
    if legs.worse:
        culprit = legs.main_metric
        reason, detail = "EvidenceOfHarm", f"EKS is worse ({culprit}): {assessment.sentence(culprit)}"
        if culprit in _BY_CODE and (answers := _newest_answers(context)):
            detail = f"{detail}; {answers}"
        without_control = status.weight == 100 or legs.heroku_silent
    else:
        assert bound is not None, "a breach is a leg that is worse, or a bound that fails"
        culprit = bound.gate.name
        reason, detail = HoldReason.BOUND_EXCEEDED, f"gate {culprit}: {bound.sentence}"
        without_control = True  # a bound does not measure Heroku
    if answers_too_little(context, legs):
        return no_rescue(
            context, status, f"{detail}; Heroku answers far fewer requests than its weight: mend one of them"
        )
    if legs.both_unhealthy and not legs.worse:
        return no_rescue(context, status, f"{detail}; both legs fail far more than before: mend what they share")
    if context.spec.on_breach is not OnBreach.HOLD and without_control:
        if context.seen.probe is None:
            return await_probe(status, detail)
        if not heroku_answers(context):
            return no_rescue(context, status, f"{detail}; {probe_text(context)}: mend one of them")
    return back_or_hold(context, status, reason, detail, culprit=culprit)


def back_or_hold(context: Context, status: MigrationPlanStatus, reason: str, detail: str, *, culprit: str) -> Outcome:
    """Roll back from harm to a Heroku that answers, unless the plan says to hold.

    Parameters
    ----------
    reason, detail
        What proves the harm, in a word and in a sentence.
    culprit
        The gate that found it.
    """
    if context.spec.on_breach is OnBreach.HOLD:
        how = f"annotate the plan {assignment(rollback(status.attempt))} to go back"
        message = f"{detail}; held, because spec.onBreach is Hold; {how}"
        return held(context, status, Hold(HoldReason.BREACH, message))
    return roll_back(context, status, reason, detail, culprit=culprit)


def _newest_answers(context: Context) -> str:
    """Return both legs' answers in the newest block by code; ``""`` without one. The step's would hide a new fault."""
    for block in reversed(context.seen.samples.blocks):
        if block.usable and (block.heroku_codes or block.eks_codes):
            mixes = both_mixes((block.heroku_codes, block.eks_codes))
            return f"in the last {span(block.end - block.start)} {mixes}"
    return ""


def no_rescue(context: Context, status: MigrationPlanStatus, message: str) -> Outcome:
    """Hold: EKS is harmed, and Heroku is no rescue."""
    return held(context, status, Hold(HoldReason.BOTH_LEGS_UNHEALTHY, message))
