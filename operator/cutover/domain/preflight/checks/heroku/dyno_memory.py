"""Check ``dyno-memory``: a container gets no less memory than its dyno had."""

from __future__ import annotations

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.workload import MEBIBYTE, WORKLOAD_READS, workload_of

#: Memory of a dyno in MiB by its size (https://devcenter.heroku.com/articles/dyno-types).
QUOTA = {
    "eco": 512,
    "basic": 512,
    "standard-1x": 512,
    "standard-2x": 1024,
    "performance-m": 2560,
    "performance-l": 14 * 1024,
    "performance-l-ram": 30 * 1024,
    "performance-xl": 62 * 1024,
    "performance-2xl": 126 * 1024,
    "private-s": 1024,
    "private-m": 2560,
    "private-l": 14 * 1024,
}


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Compare the container's limit with the web dynos' quota."""
    workload = workload_of(plan, facts.inventory)
    limit = workload.app.resource("limits", "memory") if workload is not None else None
    web = next((one for one in app.processes or () if one.kind == "web" and one.quantity), None)
    quota = QUOTA.get(web.size.lower()) if web is not None else None
    if workload is None or web is None or limit is None or quota is None or limit >= quota * MEBIBYTE:
        return PASSED
    return warned(
        f"container {workload.app.name} is ended above {limit / MEBIBYTE:.0f} MiB, and a {web.size} dyno has {quota} MiB and swaps"
        " above: raise the limit, or know from memory_total in Heroku's log that the app stays below"
    )


CHECK = heroku_check(
    "dyno-memory",
    "the app's container may use as much memory as a web dyno has",
    judge,
    reads=WORKLOAD_READS,
)
