"""Audit ``cpu-request``: the CPU that a node keeps for the app, from which autoscalers compute percentages."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: A limit that is so many times the request is what the app is known to need at times, and nothing keeps it.
MOST_OVER_REQUEST = 10.0
#: CPUs below which a request says nothing about a web app.
LEAST = 0.05


def find(workload: Workload) -> Iterator[str]:
    """Find a request that is missing, or so small that nothing can be computed from it."""
    app = workload.app
    request, limit = app.resource("requests", "cpu"), app.resource("limits", "cpu")
    if request is None and limit is None:
        yield (
            f"container {app.name} requests no CPU: on a busy node it gets only CPU that other Pods leave; request what a dyno used"
        )
        return
    if request is None:
        return  # the limit is the request
    tiny = request < LEAST or (limit is not None and limit > MOST_OVER_REQUEST * request)
    if not tiny:
        return
    beside = f" beside a limit of {limit:g}" if limit is not None else ""
    scaled = (
        f", and HorizontalPodAutoscaler {workload.autoscaler['metadata']['name']} counts its percentages from it"
        if workload.autoscaler is not None
        else ", and an autoscaler would count its percentages from it"
    )
    yield (
        f"container {app.name} requests {request:g} CPU{beside}: on a busy node it may get no more{scaled}: request what the app"
        " uses in a busy hour"
    )


CHECK = audit("cpu-request", "the app's container requests the CPU that it needs, at least a tenth of its limit", find)
