"""A plan's objects in Istio, as the API server has them: what is known of them, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cutover.adapters.traffic.istio.names import eks_service, heroku_service
from cutover.adapters.traffic.istio.rendering import LEG_HEADER, PROBE_VALUE, SPLIT_ROUTE
from cutover.domain.managed_fields import owners
from cutover.domain.marks import FIELD_MANAGER, PLAN_LABEL
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import OPERATOR_PREFIXES
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER

#: Kinds of our objects.
ROUTING_KINDS = frozenset({VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES})
#: The same, by the name that watch events carry.
RESOURCES: Mapping[str, Resource] = {resource.kind: resource for resource in ROUTING_KINDS}

Key = tuple[str, str, str]


def key_of(body: Mapping[str, Any]) -> Key:
    """Return what an object is known by."""
    return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class Live:
    """One of our objects as the API server has it.

    Parameters
    ----------
    key
        Kind, namespace and name.
    version
        Its resourceVersion.
    text
        The object without its managed fields, as JSON: a quarter of the memory, and it is seldom looked into.
    managers
        Field managers other than the operator that own a part of its spec.
    written_at
        Unix seconds at which the operator wrote it last; ``None`` if that is not known.
    """

    key: Key
    version: str
    text: str
    managers: tuple[str, ...] = ()
    written_at: float | None = None

    @property
    def body(self) -> Json:
        """The object without its managed fields, made anew each time."""
        body: Json = json.loads(self.text)
        return body


def foreign_managers(body: Mapping[str, Any], *path: str) -> tuple[str, ...]:
    """Return who besides the operator owns a field of an object, such as ``"spec"``, the latest first."""
    found = (owner.manager for owner in owners(body["metadata"], *path))
    return tuple(dict.fromkeys(manager for manager in found if manager != FIELD_MANAGER))


def _written_at(body: Mapping[str, Any]) -> float | None:
    """Return when the operator wrote an object last."""
    times = [owner.time for owner in owners(body["metadata"]) if owner.manager == FIELD_MANAGER and owner.time]
    return datetime.fromisoformat(times[0]).timestamp() if times else None


def split_weight(body: Mapping[str, Any], plan: Plan, cluster_domain: str = "cluster.local") -> int | None:
    """Return the percent of requests that a VirtualService sends to EKS; ``None`` if it is not of our shape."""
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        weights = {leg["destination"]["host"]: leg.get("weight", 0) for leg in split["route"]}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    eks = weights.pop(eks_service(plan, cluster_domain), None)
    heroku = weights.pop(heroku_service(plan), None)
    if (
        weights
        or not isinstance(eks, int)
        or not isinstance(heroku, int)
        or eks + heroku != 100
        or min(eks, heroku) < 0
    ):
        return None
    return eks


def not_on_heroku(body: Mapping[str, Any]) -> int:
    """Return the percent of requests that a route of any plan sends elsewhere than to Heroku; 100 if it is not known."""
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        legs = ((leg["headers"]["response"]["set"][LEG_HEADER], leg.get("weight", 0)) for leg in split["route"])
        heroku = sum(int(weight) for name, weight in legs if name == PROBE_VALUE)
    except (KeyError, TypeError, ValueError, AttributeError):
        return 100
    return max(0, 100 - heroku)


def _newer(version: str, than: str) -> bool:
    # Versions count up, as numbers, within one kind; whatever does not is taken as news.
    return int(version) > int(than) if version.isdecimal() and than.isdecimal() else version != than


def stamped_revision(body: Mapping[str, Any]) -> str:
    """Return the revision that a VirtualService's split route stamps on responses; ``""`` if it has none."""
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        return str(split["headers"]["response"]["set"][HEADER])
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


def named_by_us(name: str) -> bool:
    """Tell whether an object of this name is of the operator's making."""
    return name.startswith(OPERATOR_PREFIXES)


class RouteCache:
    """Our routing objects of all plans, as watch events and our own writes have them.

    Handlers feed it with :meth:`observe_event`. They must not filter by label: the edit that takes our label off is
    one to be seen. What is not in it is read from the API server, so that nothing depends on the watch but speed.
    """

    def __init__(self) -> None:
        self._live: dict[Key, Live] = {}

    def observe_event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in one watch event; return whether it was news about an object of ours.

        Parameters
        ----------
        kind
            ADDED, MODIFIED or DELETED; ``None`` for the listing that a watch starts with.
        body
            The object, with ``kind``.
        """
        metadata = body["metadata"]
        if body.get("kind") not in RESOURCES:
            return False
        key = key_of(body)
        known = self._live.get(key)
        if known is None and not (named_by_us(metadata["name"]) or PLAN_LABEL in (metadata.get("labels") or {})):
            return False
        if known is not None and not _newer(metadata["resourceVersion"], known.version):
            return False
        if kind == "DELETED":
            return self._live.pop(key, None) is not None
        self._store(key, body)
        return True

    def put(self, body: Mapping[str, Any]) -> Live:
        """Take in what the API server has just answered, unless a newer version is known; return the newer one."""
        key = key_of(body)
        known = self._live.get(key)
        if known is not None and _newer(known.version, body["metadata"]["resourceVersion"]):
            return known
        return self._store(key, body)

    def get(self, body: Mapping[str, Any]) -> Live | None:
        """Return what is known of the object with this kind, namespace and name."""
        return self._live.get(key_of(body))

    def holds(self, live: Live) -> bool:
        """Tell whether this is still what is known of an object."""
        return self._live.get(live.key) is live

    def drop(self, body: Mapping[str, Any]) -> None:
        """Forget an object, so that it is read again."""
        self._live.pop(key_of(body), None)

    def _store(self, key: Key, body: Mapping[str, Any]) -> Live:
        # Managed fields are half of an object and only their owners' names are used.
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        kept = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
        # Of somebody else's object the routes are ours at most.
        managers = foreign_managers(body, "spec") if named_by_us(key[2]) else foreign_managers(body, "spec", "http")
        text = json.dumps(kept, separators=(",", ":"))
        live = self._live[key] = Live(key, metadata["resourceVersion"], text, managers, _written_at(body))
        return live
