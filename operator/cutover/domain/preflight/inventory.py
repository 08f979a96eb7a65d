"""The Kubernetes objects that preflight's checks judge, as read from the API server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cutover.domain.resources import Json, Resource

T = TypeVar("T")

#: Namespace and name of an object.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the operator's settings say about the cluster.

    Parameters
    ----------
    gateway_namespaces
        Namespaces whose Gateways may be used by plans of other namespaces, with ``*`` and ``?``; if empty, all.
    cluster_domain
        The cluster's DNS domain.
    """

    gateway_namespaces: Sequence[str] = ()
    cluster_domain: str = "cluster.local"


class Listing(list[Json]):
    """All objects of a kind, for all plans, with what is derived of them: such an index is made once and not for each plan."""

    def __init__(self, objects: Iterable[Json] = ()) -> None:
        super().__init__(objects)
        self._derived: dict[Callable[[Sequence[Json]], Any], Any] = {}

    def derived(self, derive: Callable[[Sequence[Json]], T]) -> T:
        """Return what a function makes of the objects, the same at each call."""
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        result: T = self._derived[derive]
        return result


@dataclass(frozen=True, slots=True)
class Inventory:
    """Raw Kubernetes objects that the checks of a plan read.

    Parameters
    ----------
    objects
        Objects that were read by name; ``None`` if an object does not exist.
    lists
        All objects of a kind in all namespaces, reduced to the part that their
        :class:`~cutover.domain.preflight.check.Read` keeps.
    unread
        Why a kind could not be read, such as a missing right, in words for people.
    settings
        What the operator's settings say about the cluster.
    earlier
        Whether a list may be from before this inventory was asked for.
    """

    objects: Mapping[Resource, Mapping[Key, Json | None]] = field(default_factory=dict)
    lists: Mapping[Resource, Sequence[Json]] = field(default_factory=dict)
    unread: Mapping[Resource, str] = field(default_factory=dict)
    settings: ClusterSettings = ClusterSettings()
    earlier: bool = False

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Return an object; ``None`` if it does not exist.

        Raises
        ------
        KeyError
            If the object was not read, because the check does not declare it.
        """
        return self.objects[resource][namespace, name]

    def all(self, resource: Resource) -> Sequence[Json]:
        """Return all objects of a kind.

        Raises
        ------
        KeyError
            If the objects were not read, because the check does not declare them.
        """
        return self.lists[resource]

    def derived(self, resource: Resource, derive: Callable[[Sequence[Json]], T]) -> T:
        """Return what a function makes of all objects of a kind, such as an index, which plans share as they do the list.

        Raises
        ------
        KeyError
            As for :meth:`all`.
        """
        listed = self.lists[resource]
        return listed.derived(derive) if isinstance(listed, Listing) else derive(listed)


def key_of(body: Json) -> Key:
    """Return namespace and name of an object."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def key_names(body: Json) -> Json:
    """Keep only the names of the keys of a ConfigMap or Secret, and who makes it."""
    metadata = body["metadata"]
    names = {*(body.get("data") or ()), *(body.get("binaryData") or ())}
    owners = [f"{one.get('kind')} {one.get('name')}" for one in metadata.get("ownerReferences") or ()]
    kept: Json = {"metadata": {"namespace": metadata["namespace"], "name": metadata["name"]}, "keys": sorted(names)}
    return {**kept, "owners": owners} if owners else kept


def key_fingerprints(body: Json) -> Json:
    """Keep what :func:`key_names` keeps, and the fingerprints that stand for the values: by key, ``None`` where there are none."""
    return {**key_names(body), "values": dict(body.get("data") or {})}


def only_spec(*fields: str) -> Callable[[Json], Json]:
    """Return a projection that keeps an object's namespace and name, and some fields of its spec."""

    def keep(body: Json) -> Json:
        metadata, spec = body["metadata"], body.get("spec") or {}
        return {
            "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
            "spec": {name: spec[name] for name in fields if name in spec},
        }

    return keep
