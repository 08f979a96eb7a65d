"""The Kubernetes objects that preflight's checks judge, as read from the API server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cutover.domain.resources import Json, Resource

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
    """

    objects: Mapping[Resource, Mapping[Key, Json | None]] = field(default_factory=dict)
    lists: Mapping[Resource, Sequence[Json]] = field(default_factory=dict)
    unread: Mapping[Resource, str] = field(default_factory=dict)
    settings: ClusterSettings = ClusterSettings()

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


def key_of(body: Json) -> Key:
    """Return namespace and name of an object."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def key_names(body: Json) -> Json:
    """Keep only the names of the keys of a ConfigMap or Secret, and who makes it. No value is kept, even of a ConfigMap."""
    metadata = body["metadata"]
    names = {*(body.get("data") or ()), *(body.get("binaryData") or ())}
    owners = [f"{one.get('kind')} {one.get('name')}" for one in metadata.get("ownerReferences") or ()]
    kept: Json = {"metadata": {"namespace": metadata["namespace"], "name": metadata["name"]}, "keys": sorted(names)}
    return {**kept, "owners": owners} if owners else kept


def only_spec(*fields: str) -> Callable[[Json], Json]:
    """Return a projection that keeps an object's namespace and name, and some fields of its spec."""

    def keep(body: Json) -> Json:
        metadata, spec = body["metadata"], body.get("spec") or {}
        return {
            "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
            "spec": {name: spec[name] for name in fields if name in spec},
        }

    return keep
