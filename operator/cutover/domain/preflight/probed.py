"""How the checks of the trial judge a probe of a leg."""

from __future__ import annotations

from cutover.domain.preflight.check import Facts, Finding, judged, unknown
from cutover.domain.traffic import Leg


def answered(facts: Facts, leg: Leg, *, advice: str = "") -> Finding:
    """Judge the newest probe of a leg, if it met the route that it should meet.

    Parameters
    ----------
    advice
        What to do if the leg does not answer.
    """
    probe = facts.probes.get(leg)
    if probe is None:
        return unknown("not asked yet")
    # A leg that hangs sends no revision. That the gateway has the route is known from the other leg then.
    there = any(one.revision == facts.revision for one in facts.probes.values())
    if probe.revision != facts.revision and (probe.revision or not there):
        seen = f"revision {probe.revision}" if probe.revision else "no revision"
        return unknown(f"the gateway does not have the route yet ({seen}; {probe.detail})")
    if probe.healthy:
        return judged("")
    return judged(f"{_NAMES[leg]}'s answer through the gateway: {probe.detail}{f'; {advice}' if advice else ''}")


_NAMES = {Leg.HEROKU: "Heroku", Leg.EKS: "EKS"}
