"""Check ``heroku-sessions``: Heroku's router keeps each user on one dyno."""

from __future__ import annotations

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check

FEATURE = "http-session-affinity"


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Find the router's session affinity."""
    if FEATURE not in (app.features or ()):
        return PASSED
    return warned(
        f"{app.name} has session affinity on: a dyno may keep sessions in its memory, which neither the other dynos nor EKS know;"
        " keep sessions in a store that both legs use"
    )


CHECK = heroku_check(
    "heroku-sessions", "Heroku's session affinity is off; warns of sessions in a dyno's memory", judge
)
