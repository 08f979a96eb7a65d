"""Check ``heroku-processes``: what runs on Heroku beside the web dynos, and that nobody's requests move."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check

#: Add-ons that start jobs by the clock. Their jobs are in no API.
SCHEDULERS = ("scheduler", "advanced-scheduler", "crontogo", "temporize", "process-scheduler")


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Find workers, clocks and schedulers."""
    found = "; ".join(_found(app))
    return warned(found) if found else PASSED


def _found(app: HerokuApp) -> Iterator[str]:
    running = [one for one in app.processes or () if one.kind not in ("web", "release") and one.quantity]
    if running:
        named = ", ".join(f"{one.kind} ({one.quantity})" for one in running)
        yield (
            f"{named} of {app.name} run on whatever the weight is: have a Deployment for each, and say which side does the work"
            " while both are up, or jobs are done twice"
        )
    if any(one.kind == "release" for one in app.processes or ()):
        yield (
            f"{app.name} has a release phase, and nothing runs its command for EKS: run it by a Job before each rollout there,"
            " and keep the code of both sides working on either schema"
        )
    if schedulers := [addon.service for addon in app.addons or () if addon.service in SCHEDULERS]:
        yield (
            f"add-on {', '.join(schedulers)} of {app.name} starts jobs on Heroku whatever the weight is, and its jobs are in no"
            " API: make them CronJobs, and remove them there when all users are on EKS"
        )


CHECK = heroku_check(
    "heroku-processes",
    "no dynos but web run, there is no release phase, and no scheduler starts jobs there; warns otherwise, as these are not"
    " part of the split",
    judge,
)
