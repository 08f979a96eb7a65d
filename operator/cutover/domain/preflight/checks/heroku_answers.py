"""Check ``heroku-answers``: Heroku answers through the gateway, over the operator's own way to it."""

from __future__ import annotations

from cutover.api.v1alpha1 import HostHeader
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Stage
from cutover.domain.preflight.probed import answered
from cutover.domain.traffic import Leg


def judge(plan: Plan, facts: Facts) -> Finding:
    """Judge the newest probe of Heroku."""
    public = plan.spec.heroku.host_header is HostHeader.PUBLIC
    advice = "with hostHeader: Public each host has to be a custom domain of the app, with a certificate"
    return answered(facts, Leg.HEROKU, advice=advice if public else "")


CHECK = Check(
    name="heroku-answers",
    passes_when='Heroku answers through the gateway, over the operator\'s route: no 5xx, no "no such app", no fault of'
    " its router. Asked before users have that route, and again once they have it",
    stage=Stage.TRIAL,
    judge=judge,
    awaited=True,
    volatile=True,
)
