"""Audit ``memory``: the memory that a node keeps for the app, and where the app is killed."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import MEBIBYTE, Workload

#: A limit that is so many times the request lets a node promise the same memory to several Pods.
MOST_OVER_REQUEST = 4.0


def find(workload: Workload) -> Iterator[str]:
    """Find memory that nobody keeps for the app."""
    app = workload.app
    request, limit = app.resource("requests", "memory"), app.resource("limits", "memory")
    if request is None and limit is None:
        yield (
            f"container {app.name} requests no memory: a node that runs out of it ends such Pods first; request the dyno's"
            " quota"
        )
    elif request is not None and limit is not None and limit > MOST_OVER_REQUEST * request:
        yield (
            f"container {app.name} requests {request / MEBIBYTE:.0f} MiB and may use {limit / MEBIBYTE:.0f} MiB: the node"
            " runs out of memory when several do, and there is no swap as on a dyno; request what it uses"
        )


CHECK = audit("memory", "the app's container requests memory, at least a quarter of its limit", find)
