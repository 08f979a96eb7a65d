"""Reads what preflight's checks judge, with the person's own rights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cutover.adapters.kube.answers import NotServed
from cutover.cli.cluster import Cluster
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory, Key
from cutover.domain.resources import Json, Resource
from cutover.ports.errors import Gone, Unavailable


def read_inventory(cluster: Cluster, plan: Plan, reads: Sequence[Read]) -> Inventory:
    """Make the reads of a plan's checks. What the person may not read is marked so: its checks are Unknown."""
    objects: dict[Resource, dict[Key, Json | None]] = {}
    lists: dict[Resource, list[Json]] = {}
    unread: dict[Resource, str] = {}
    for read in reads:
        try:
            if read.names is None:
                kept = read.keep or (lambda body: body)
                lists[read.resource] = [kept(body) for body in cluster.objects(read.resource)]
            else:
                found = objects.setdefault(read.resource, {})
                found.update(_named(cluster, read, plan))
        except NotServed:
            unread[read.resource] = f"this cluster does not serve {read.resource}"
        except Unavailable as error:
            unread[read.resource] = str(error)
    return Inventory(objects, lists, unread)


def _named(cluster: Cluster, read: Read, plan: Plan) -> Iterator[tuple[Key, Json | None]]:
    for key in read.names(plan) if read.names is not None else ():
        try:
            body = cluster.get(read.resource, *key)
        except Gone:
            yield key, None
        else:
            yield key, read.keep(body) if read.keep is not None else body
