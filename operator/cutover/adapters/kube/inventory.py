"""Reads the objects that preflight's checks judge: objects by name, and each list once for all plans that need it.

A list serves for some seconds. What a plan writes into the cluster is decided on lists that are read for it, in the order in
which its checks declare them: an older one may not have what another plan wrote in between.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence

from cutover.adapters.kube.answers import Forbidden
from cutover.adapters.kube.client import Cluster
from cutover.domain.fingerprints import Fingerprint, Fingerprints
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.caps import Rooms
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import ClusterSettings, Inventory, Key, Listing
from cutover.domain.resources import CONFIG_MAPS, SECRETS, Json, Resource
from cutover.ports.errors import Gone

#: Seconds for which a list serves.
LIST_SECONDS = 10.0


class KubernetesInventories:
    """:class:`cutover.ports.inventories.Inventories` in the API server.

    Parameters
    ----------
    cluster
        The API server.
    settings
        Settings of the cluster that the checks need.
    fingerprints
        What stands for the values of ConfigMaps and Secrets; ``None``: nothing does. No check gets a value.
    """

    def __init__(
        self, cluster: Cluster, settings: ClusterSettings | None = None, *, fingerprints: Fingerprints | None = None
    ) -> None:
        self._cluster, self._fingerprints = cluster, fingerprints
        self._settings = settings or ClusterSettings()
        self._lists: dict[Resource, asyncio.Task[Listing]] = {}  # under way
        self._following: dict[Resource, asyncio.Task[Listing]] = {}
        self._read: dict[Resource, Listing] = {}  # a moment ago

    async def inventory(self, plan: Plan, reads: Sequence[Read] | None = None, *, fresh: bool = False) -> Inventory:
        """Make reads for a plan, by default those that its checks declare. Raises Unavailable.

        A kind that the operator may not read is marked as unread: only the checks that need it are Unknown.

        Parameters
        ----------
        fresh
            Whether all lists are read now, in their order.
        """
        if reads is None:
            reads = registry.reads(plan)
        unread: dict[Resource, str] = {}
        objects = await self._objects({read: read.names(plan) for read in reads if read.names is not None}, unread)
        found = Inventory(objects, unread=unread)
        following = {read: read.follows(plan, found) for read in reads if read.follows is not None}
        objects |= await self._objects(following, unread)
        lists: dict[Resource, Listing] = {}
        earlier = False
        # One after the other: checks declare the order in which lists have to be read.
        for read in reads:
            if read.verb == "list":
                known = self._read.get(read.resource) if not fresh else None
                earlier = earlier or known is not None
                try:
                    lists[read.resource] = known if known is not None else await self._list(read)
                except Forbidden as refusal:
                    unread[read.resource] = str(refusal)
        return Inventory(objects, lists, unread, self._settings, earlier)

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
            body = await self._cluster.get(resource, *key)
            return self._without_values(resource, body) if resource in (CONFIG_MAPS, SECRETS) else body
        except Gone:
            return None
        except Forbidden as refusal:
            unread[resource] = str(refusal)
            return None

    def _without_values(self, resource: Resource, body: Json) -> Json:
        """Return a ConfigMap or Secret with fingerprints in place of its values."""
        found = {key: self._fingerprint(resource, value) for key, value in (body.get("data") or {}).items()}
        # Annotations may have the values, too: kubectl apply keeps the whole object in one.
        kept = ("namespace", "name", "ownerReferences")
        metadata = {name: body["metadata"][name] for name in kept if name in body["metadata"]}
        return {"metadata": metadata, "data": found, "binaryData": dict.fromkeys(body.get("binaryData") or ())}

    def _fingerprint(self, resource: Resource, value: str) -> Fingerprint | None:
        if self._fingerprints is None:
            return None
        try:
            return self._fingerprints.of(base64.b64decode(value, validate=True) if resource == SECRETS else value)
        except (binascii.Error, ValueError):
            return None

    async def _list(self, read: Read) -> Listing:
        """Read all objects of a kind, once for all plans that need them while the last read is under way.

        Otherwise a thousand plans that start together would read each other's objects a million times.

        Parameters
        ----------
        read
            What is kept; always the same for a kind.
        """
        following = self._following.get(read.resource)
        if following is None:
            following = asyncio.create_task(self._list_after(read, self._lists.get(read.resource)))
            # Who waits for it may have ended before it fails, and then nobody has to be told.
            following.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._following[read.resource] = following
        return await asyncio.shield(following)

    async def _list_after(self, read: Read, before: asyncio.Task[Listing] | None) -> Listing:
        if before is not None:
            await asyncio.wait([before])
        resource, keep, rooms = read.resource, read.keep, Rooms()
        # Later callers need a newer list than this one.
        mine = self._lists[resource] = self._following.pop(resource)
        try:
            listed = Listing(
                await self._cluster.list(resource, keep=lambda body: rooms.fit(keep(body) if keep else body))
            )
            for derive in read.derived:
                # It takes as long as there are objects, and no other plan waits for it.
                await asyncio.to_thread(listed.derived, derive)
        finally:
            if self._lists.get(resource) is mine:
                del self._lists[resource]
        self._read[resource] = listed
        asyncio.get_running_loop().call_later(LIST_SECONDS, self._drop, resource, listed)
        return listed

    def _drop(self, resource: Resource, listed: Listing) -> None:
        if self._read.get(resource) is listed:
            del self._read[resource]
