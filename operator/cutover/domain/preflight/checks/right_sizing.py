"""Check ``right-sizing``: the container's requests and limits fit to what the dynos use."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.baseline.used import NOTHING, with_record
from cutover.domain.dynos import DAYS, DynoUse
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned
from cutover.domain.preflight.sizing import sizing_for
from cutover.domain.preflight.workload import MEBIBYTE, WORKLOAD_READS, Container, workload_of

#: Part of what a dyno uses below which a request keeps too little.
LEAST_PART = 0.7
#: How many times what a dyno uses a request is at most.
MOST_TIMES = 3.0
#: CPUs below which nothing is said of the load: an idle app rounds to nothing.
LEAST_LOAD = 0.2


def judge(plan: Plan, facts: Facts) -> Finding:
    """Compare the app's container with the dynos."""
    workload = workload_of(plan, facts.inventory)
    use = with_record(facts.dynos, facts.record.most if facts.record is not None else NOTHING)
    if workload is None or use is None:
        return PASSED
    found = "; ".join(_found(workload.app, use))
    if not found:
        return PASSED
    since = f"the last {DAYS} days of the dynos" + (" and the record before them" if use != facts.dynos else "")
    return warned(f"by {since} {found}; to begin with: {sizing_for(use).yaml}")


def _found(app: Container, use: DynoUse) -> Iterator[str]:
    limit = app.resource("limits", "memory")
    request = app.resource("requests", "memory") or limit
    cpu = app.resource("requests", "cpu") or app.resource("limits", "cpu")
    if limit is not None and limit < use.most_memory:
        yield (
            f"container {app.name} is ended above {limit / MEBIBYTE:.0f} MiB, and a dyno has used {use.most_memory / MEBIBYTE:.0f}"
        )
    elif request is not None and request < LEAST_PART * use.memory:
        yield f"container {app.name} requests {request / MEBIBYTE:.0f} MiB, and a dyno uses {use.memory / MEBIBYTE:.0f}"
    elif request is not None and request > MOST_TIMES * max(use.most_memory, 128 * MEBIBYTE):
        yield (
            f"container {app.name} requests {request / MEBIBYTE:.0f} MiB, and a dyno has used {use.most_memory / MEBIBYTE:.0f}"
            " at most"
        )
    if use.load is not None and use.load >= LEAST_LOAD and cpu is not None and cpu < LEAST_PART * use.load:
        yield f"it requests {cpu:g} CPU, and {use.load:.2g} threads of a dyno want to run"
    if request is None and cpu is None:
        yield f"container {app.name} requests nothing, and a dyno uses {use.memory / MEBIBYTE:.0f} MiB"


CHECK = Check(
    name="right-sizing",
    passes_when="where [the drain](drain.md) records the dynos' memory and load: the container's requests and limits fit to"
    " them; the message has requests and limits to begin with ([how](audits.md#right-sizing))",
    judge=judge,
    reads=WORKLOAD_READS,
    advisory=True,
)
