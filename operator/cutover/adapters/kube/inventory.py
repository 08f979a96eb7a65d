"""Reads the objects that preflight's checks judge: objects by name, and each list once for all plans that need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import ClusterSettings, Inventory, Key
from cutover.domain.resources import Json, Resource
from cutover.ports.errors import Gone

Keep = Callable[[Json], Json]


class KubernetesInventories:
    """:class:`cutover.ports.inventories.Inventories` in the API server.

    Parameters
    ----------
    cluster
        The API server.
    settings
        Settings of the cluster that the checks need.
    """

    def __init__(self, cluster: Cluster, settings: ClusterSettings | None = None) -> None:
        self._cluster = cluster
        self._settings = settings or ClusterSettings()
        self._lists: dict[Resource, asyncio.Task[list[Json]]] = {}  # under way
        self._following: dict[Resource, asyncio.Task[list[Json]]] = {}

    async def inventory(self, plan: Plan, reads: Sequence[Read] | None = None) -> Inventory:
        """Make reads for a plan, by default those that its checks declare. Raises Unavailable.

        A kind that the operator may not read is marked as unread: only the checks that need it are Unknown.
        """
        if reads is None:
            reads = registry.reads(plan)
        unread: dict[Resource, str] = {}
        objects = await self._objects({read: read.names(plan) for read in reads if read.names is not None}, unread)
        known = Inventory(objects, unread=unread)
        following = {read: read.follows(plan, known) for read in reads if read.follows is not None}
        objects |= await self._objects(following, unread)
        lists: dict[Resource, list[Json]] = {}
        # One after the other: checks declare the order in which lists have to be read.
        for read in reads:
            if read.verb == "list":
                try:
                    lists[read.resource] = await self._list(read.resource, read.keep)
                except Forbidden as refusal:
                    unread[read.resource] = str(refusal)
        return Inventory(objects, lists, unread, self._settings)

    async def _objects(
        self, wanted: Mapping[Read, Iterable[Key]], unread: dict[Resource, str]
    ) -> dict[Resource, dict[Key, Json | None]]:
        keep = {(read.resource, key): read.keep for read, keys in wanted.items() for key in keys}
        found = await asyncio.gather(*(self._find(resource, key, unread) for resource, key in keep))
        objects: dict[Resource, dict[Key, Json | None]] = {}
        for ((resource, key), kept), body in zip(keep.items(), found, strict=True):
            objects.setdefault(resource, {})[key] = kept(body) if kept and body is not None else body
        return objects

    async def _find(self, resource: Resource, key: Key, unread: dict[Resource, str]) -> Json | None:
        try:
            return await self._cluster.get(resource, *key)
        except Gone:
            return None
        except Forbidden as refusal:
            unread[resource] = str(refusal)
            return None

    async def _list(self, resource: Resource, keep: Keep | None = None) -> list[Json]:
        """Read all objects of a kind, once for all plans that need them while the last read is under way.

        Otherwise a thousand plans that start together would read each other's objects a million times.

        Parameters
        ----------
        keep
            As for :meth:`Cluster.list`; always the same for a kind.
        """
        following = self._following.get(resource)
        if following is None:
            following = asyncio.create_task(self._list_after(resource, self._lists.get(resource), keep))
            self._following[resource] = following
        return await asyncio.shield(following)

    async def _list_after(
        self, resource: Resource, before: asyncio.Task[list[Json]] | None, keep: Keep | None
    ) -> list[Json]:
        if before is not None:
            await asyncio.wait([before])
        # Later callers need a newer list than this one.
        mine = self._lists[resource] = self._following.pop(resource)
        try:
            return await self._cluster.list(resource, keep=keep)
        finally:
            if self._lists.get(resource) is mine:
                del self._lists[resource]
