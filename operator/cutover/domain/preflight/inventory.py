"""The Kubernetes objects that preflight's checks judge, as read from the API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cutover.domain.resources import Json, Resource

#: Namespace and name of an object.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What whoever runs the operator says of the cluster.

    Parameters
    ----------
    gateway_namespaces
        Namespaces whose Gateways plans of other namespaces may use, with ``*`` and ``?``; any if empty.
    cluster_domain
        The cluster's DNS domain.
    """

    gateway_namespaces: Sequence[str] = ()
    cluster_domain: str = "cluster.local"


@dataclass(frozen=True, slots=True)
class Inventory:
    """Raw objects, as far as the checks of a plan have asked for them.

    Parameters
    ----------
    objects
        Objects that were read by name; ``None`` for one that does not exist.
    lists
        All objects of a kind, of all namespaces, projected where their :class:`~cutover.domain.preflight.check.Read`
        says so.
    unread
        Why a kind was not read, such as a right that the operator was not granted, in words for people.
    settings
        What the operator's settings say of the cluster.
    """

    objects: Mapping[Resource, Mapping[Key, Json | None]] = field(default_factory=dict)
    lists: Mapping[Resource, Sequence[Json]] = field(default_factory=dict)
    unread: Mapping[Resource, str] = field(default_factory=dict)
    settings: ClusterSettings = ClusterSettings()

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Return one object, ``None`` if it does not exist.

        Raises
        ------
        KeyError
            If it was not read: a check declares what it reads.
        """
        return self.objects[resource][namespace, name]

    def all(self, resource: Resource) -> Sequence[Json]:
        """Return all objects of a kind.

        Raises
        ------
        KeyError
            If they were not read: a check declares what it reads.
        """
        return self.lists[resource]


def key_of(body: Json) -> Key:
    """Return namespace and name of an object."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def key_names(body: Json) -> Json:
    """Leave of a ConfigMap or a Secret the names of its keys: no value is kept, whoever may read it."""
    metadata = body["metadata"]
    names = {*(body.get("data") or ()), *(body.get("binaryData") or ())}
    return {"metadata": {"namespace": metadata["namespace"], "name": metadata["name"]}, "keys": sorted(names)}
