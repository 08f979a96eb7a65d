"""Check ``answers-alike``: users get from Heroku through the gateway what they get now, and the same from EKS."""

from __future__ import annotations

from cutover.api.v1alpha1 import CheckResult
from cutover.domain.alike.findings import findings, findings_of_legs, summary
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, Stage, judged, unknown, warned

NAME = "answers-alike"


def judge(plan: Plan, facts: Facts) -> Finding:
    """Judge the answers to the plan's paths. Once users have the operator's route, only the legs can be compared."""
    if plan.status.weight is not None:
        if facts.answers is not None:
            differ = findings_of_legs(facts.answers, plan.spec.traffic.asked_host)
            return warned(summary(differ)) if differ else PASSED
        before = (one for one in plan.status.preflight if one.check == NAME)
        return next(
            (Finding(one.result, one.message) for one in before if one.result is not CheckResult.UNKNOWN),
            Finding(CheckResult.SKIPPED, "skipped: users have the operator's route already"),
        )
    if not facts.asks_eks:
        return Finding(CheckResult.SKIPPED, "skipped: the traffic provider cannot ask EKS")
    if facts.answers is None:
        return unknown("the answers that users get have not been asked for yet")
    found = findings(facts.answers, plan.spec.traffic.asked_host, plan.spec.heroku)
    if any(one.fails for one in found):
        return judged(summary(found))
    return warned(summary(found)) if found else PASSED


CHECK = Check(
    name=NAME,
    passes_when="users get from Heroku through the gateway what they get now: status, redirects, content type, cookies."
    " [What is compared, and what to do](answers-alike.md). It warns where EKS answers otherwise than Heroku. Asked"
    " before users have the operator's route, and of both legs when somebody asks for it later",
    stage=Stage.TRIAL,
    judge=judge,
    awaited=True,
)
