"""A step whose hold is over without evidence of safety: whether to wait, to hold, or to accept something in its place."""

from __future__ import annotations

from typing import NamedTuple

from cutover.api.v1alpha1 import Checkpoint, Estimate, InsufficientTraffic, MigrationPlanStatus, Step
from cutover.domain.commands.annotations import PROCEED_ANNOTATION, assignment, proceed
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import AdvanceReason
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.people import proceeding
from cutover.domain.engine.probes import proof_by_probes, safe_by_probes
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.judge import ALIVE_FRACTION, HARM_HOLD, PATIENCE_SECONDS, Evidence
from cutover.domain.evidence.mix import good_answers
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.verdicts import Verdict


class InPlace(NamedTuple):
    """What decides on the next step in place of evidence from users' requests.

    Parameters
    ----------
    reason
        What it is, for the ledger.
    message
        The same in words.
    by
        Who asked for it; ``""`` for nobody.
    """

    reason: AdvanceReason
    message: str
    by: str = ""


def unproven(
    context: Context,
    status: MigrationPlanStatus,
    checkpoint: Checkpoint,
    assessment: Assessment,
    upcoming: Step,
    message: str,
) -> Outcome | InPlace:
    """Wait for evidence if it comes soon; otherwise hold for more traffic, or because traffic does not bring it.

    Where the plan allows it and nothing speaks against EKS, a person or pairs of probes may decide in its place.
    """
    legs, left = assessment.legs, assessment.legs.seconds_to_safe
    # A bound that is the only gate not met soon passes or fails.
    if legs.safe or (left is not None and left <= PATIENCE_SECONDS):
        return Outcome(status, "AwaitingEvidence", message, requeue=NEXT_BLOCK)
    if legs.verdict is not Verdict.INSUFFICIENT_TRAFFIC:
        return held(context, status, Hold(HoldReason.UNDECIDED, message))
    allowed = context.spec.gates.insufficient_traffic
    if allowed is InsufficientTraffic.HOLD:
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, message))
    by_probes = allowed is InsufficientTraffic.ACCEPT_PROBES
    if against := against_proceeding(assessment, load_evidence(checkpoint), status.estimate):
        who = "probes cannot replace evidence" if by_probes else "a person cannot let the step begin"
        message = f"{message}; {who} now: {against}"
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, message))
    if by_probes:
        proof = proof_by_probes(context)
        if safe_by_probes(context):
            return InPlace(AdvanceReason.PROBES_OF_SAFETY, f"{proof}, in place of users' requests")
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, f"{message}; {proof}"))
    if word := proceeding(context, status, upcoming):
        asked = f"asked for by the annotation {PROCEED_ANNOTATION} {word.who} in place of evidence"
        return InPlace(AdvanceReason.REQUESTED, asked, word.who)
    command = assignment(proceed(status.attempt, upcoming.weight))
    message = f"{message}; nothing speaks against EKS: to go on without evidence, annotate the plan {command}"
    return held(context, status, Hold(HoldReason.AWAITING_DECISION, message))


def against_proceeding(assessment: Assessment, evidence: Evidence, expected: Estimate | None) -> str:
    """Return what keeps a person from deciding in place of evidence: anything but too few requests; ``""`` for nothing.

    Parameters
    ----------
    assessment
        What the gates say.
    evidence
        The judge's evidence in this step.
    expected
        When the evidence would be enough.
    """
    legs = assessment.legs
    if legs.harm >= HARM_HOLD:
        return f"evidence of harm is {legs.harm:.0f} of {legs.harm_limit:.0f}"
    if legs.heroku_dead or legs.heroku_silent or legs.both_unhealthy:
        return "Heroku does not answer as it should"
    eks = evidence.total[1]
    good = good_answers(evidence.reference)
    well = good.of(eks)
    if well < 1 or well < ALIVE_FRACTION * good.share * eks.requests:
        return f"EKS has answered {well:,.0f} of {eks.requests:,.0f} requests well in this step"
    if expected is None or expected.seconds is None:
        return "with as many failures as so far, more requests would not prove EKS good enough either"
    verdicts = [(metric.name, metric.verdict) for metric in legs.metrics if metric.enforced]
    verdicts += [(slo.gate.name, slo.verdict) for slo in assessment.custom_slos if slo.gate.enforced]
    for name, verdict in verdicts:
        if verdict not in (Verdict.PASS, Verdict.INSUFFICIENT_TRAFFIC):
            return f"gate {name} says {verdict}"
    return ""
