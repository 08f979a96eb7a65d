"""Audit ``cpu-limit``: what the kernel's CPU quota leaves of each 100 ms."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.parallel import processes, threads
from cutover.domain.preflight.workload import Container, Workload

#: Milliseconds of a period of the kernel's CFS quota, the default of kubelet's ``--cpu-cfs-quota-period``.
PERIOD_MS = 100


def find(workload: Workload) -> Iterator[str]:
    """Find a limit that one busy moment uses up."""
    app = workload.app
    limit = app.resource("limits", "cpu")
    if limit is None or limit <= 0:
        return
    busy = _busy(app)
    if limit >= busy:
        return
    quota = limit * PERIOD_MS
    used_in = quota / busy
    who = "one busy thread" if busy == 1 else f"its {busy} processes or threads, if all are busy,"
    stands = "then stands" if busy == 1 else "then stand"
    yield (
        f"container {app.name} may use {limit:g} CPU, which is {quota:g} ms in each {PERIOD_MS} ms: {who} can use that up in"
        f" {used_in:.3g} ms and {stands} still for {PERIOD_MS - used_in:.3g} ms, which shows in the slowest requests only:"
        " remove the limit and keep the request, or raise the limit to"
        f" {busy} or more"
    )


def _busy(app: Container) -> int:
    """Return how many threads can be busy at the same time, at least."""
    return max(1, (processes(app) or 1) * (threads(app) or 1))


CHECK = audit(
    "cpu-limit",
    "the app's container has no CPU limit, or one that its processes and threads cannot use up in a part of each 100 ms",
    find,
)
