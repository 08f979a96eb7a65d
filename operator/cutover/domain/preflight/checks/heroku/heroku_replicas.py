"""Check ``heroku-replicas``: EKS can have about as much of the app running as Heroku has."""

from __future__ import annotations

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.checks.heroku.dyno_memory import QUOTA
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.workload import MEBIBYTE, WORKLOAD_READS, workload_of

#: Part of Heroku's dynos, and of their memory, below which something is taken to be wrong.
LEAST_PART = 0.5


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Compare the most replicas, and their memory together, with the web dynos."""
    workload = workload_of(plan, facts.inventory)
    web = next((one for one in app.processes or () if one.kind == "web" and one.quantity), None)
    quota = QUOTA.get(web.size.lower()) if web is not None else None
    if workload is None or web is None or quota is None or workload.most_replicas >= LEAST_PART * web.quantity:
        return PASSED
    memory = workload.app.resource("limits", "memory") or workload.app.resource("requests", "memory")
    # Fewer and larger replicas are as good.
    if memory is not None and workload.most_replicas * memory >= LEAST_PART * web.quantity * quota * MEBIBYTE:
        return PASSED
    return warned(
        f"EKS can have {workload.most_replicas} replicas, and {app.name} runs on {web.quantity} {web.size} dynos: all users"
        " need about as much; raise replicas, or maxReplicas of the HorizontalPodAutoscaler, before the last steps"
    )


CHECK = heroku_check(
    "heroku-replicas",
    "EKS can have at least half as many replicas as there are web dynos, or half of their memory",
    judge,
    reads=WORKLOAD_READS,
)
