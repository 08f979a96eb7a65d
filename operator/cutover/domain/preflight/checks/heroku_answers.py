"""Check ``heroku-answers``: Heroku answers through the gateway, on the route that the takeover wrote."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Stage, judged, unknown


def judge(plan: Plan, facts: Facts) -> Finding:  # noqa: ARG001
    """Judge the newest probe, if it was answered on the new route."""
    probe = facts.probe
    if probe is None:
        return unknown("not asked yet")
    if probe.revision != facts.revision:
        seen = f"revision {probe.revision}" if probe.revision else "no revision"
        return unknown(f"the gateway does not have the route yet ({seen}; {probe.detail})")
    return judged("" if probe.healthy else f"Heroku's answer through the gateway: {probe.detail}")


CHECK = Check(
    name="heroku-answers",
    passes_when='Heroku answers through the gateway, over the operator\'s route: no 5xx, no "no such app", no fault of'
    " its router",
    stage=Stage.AFTER_TAKEOVER,
    judge=judge,
    awaited=True,
)
