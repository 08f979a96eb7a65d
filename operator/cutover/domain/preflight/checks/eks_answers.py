"""Check ``eks-answers``: EKS answers through the gateway, by the destination that users will have."""

from __future__ import annotations

from cutover.api.v1alpha1 import CheckResult
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Stage
from cutover.domain.preflight.probed import answered
from cutover.domain.traffic import Leg


def judge(plan: Plan, facts: Facts) -> Finding:
    """Judge the newest probe of EKS. Any answer of the app will do, also 404: this is about the way to it."""
    if not facts.asks_eks:
        return Finding(CheckResult.SKIPPED, "skipped: the traffic provider cannot ask EKS")
    service = plan.spec.eks.service
    advice = (
        f"check that Service {service.name} has ready endpoints, that its port {service.port} leads to the port that the app"
        " listens on and is named for its protocol (http, http2, grpc), and that no NetworkPolicy, AuthorizationPolicy or"
        " DestinationRule keeps the gateway out"
    )
    return answered(facts, Leg.EKS, advice=advice)


CHECK = Check(
    name="eks-answers",
    passes_when="EKS answers through the gateway, by the Service, port and policies that users will meet: no 5xx. Other"
    " answers will do, such as 404. Asked before users have the route, and again once they have it",
    stage=Stage.TRIAL,
    judge=judge,
    awaited=True,
    volatile=True,
)
