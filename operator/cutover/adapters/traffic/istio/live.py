"""A plan's objects in Istio as the API server has them: the cache of watch events, and how weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cutover.adapters.traffic.istio.names import eks_service, heroku_service
from cutover.adapters.traffic.istio.rendering import SPLIT_ROUTE
from cutover.domain import managed_fields
from cutover.domain.managed_fields import owners
from cutover.domain.marks import FIELD_MANAGER, PLAN_LABEL
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import LEG_HEADER, OPERATOR_PREFIXES
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Leg

#: Kinds of the operator's routing objects.
ROUTING_KINDS = frozenset({VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES})
#: The same, by the kind in watch events.
RESOURCES: Mapping[str, Resource] = {resource.kind: resource for resource in ROUTING_KINDS}

Key = tuple[str, str, str]


def key_of(body: Mapping[str, Any]) -> Key:
    """Return an object's key in the cache."""
    return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]


@dataclass(frozen=True, slots=True)
class Live:
    """One of the operator's objects as the API server has it.

    Parameters
    ----------
    key
        Kind, namespace and name.
    version
        Its resourceVersion.
    text
        The object without its managed fields, as JSON: it takes a quarter of the memory, and is seldom read.
    managers
        Field managers other than the operator that own a part of its spec.
    written_at
        Unix seconds at which the operator wrote it last; ``None`` if that is not known.
    plan
        The plan that its label names; ``None`` without the label, by which the watch selects.
    """

    key: Key
    version: str
    text: str
    managers: tuple[str, ...] = ()
    written_at: float | None = None
    plan: str | None = None

    @property
    def watched(self) -> bool:
        """Whether edits of it are delivered."""
        return self.plan is not None

    @property
    def body(self) -> Json:
        """The object without its managed fields, parsed at each access."""
        body: Json = json.loads(self.text)
        return body


def foreign_managers(body: Mapping[str, Any], *path: str) -> tuple[str, ...]:
    """Return the other field managers that own a field of an object, such as ``"spec"``; the latest first."""
    found = (owner.manager for owner in owners(body["metadata"], *path))
    return tuple(dict.fromkeys(manager for manager in found if manager != FIELD_MANAGER))


def _written_at(body: Mapping[str, Any]) -> float | None:
    """Return when the operator last wrote an object."""
    times = [owner.time for owner in owners(body["metadata"]) if owner.manager == FIELD_MANAGER and owner.time]
    return datetime.fromisoformat(times[0]).timestamp() if times else None


def split_weight(body: Mapping[str, Any], plan: Plan, cluster_domain: str = "cluster.local") -> int | None:
    """Return the percent of requests that a VirtualService sends to EKS; ``None`` if its routes have another shape."""
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        weights = dict[str, Any]()
        for leg in split["route"]:  # a leg has a destination for each cohort that is on it
            weights[leg["destination"]["host"]] = weights.get(leg["destination"]["host"], 0) + leg.get("weight", 0)
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


def not_on_heroku(body: Mapping[str, Any], plan: Plan) -> int:
    """Return the percent of requests that a route of any plan does not send to Heroku; 100 if that is not known.

    Another plan's destination is known by the header with the leg, this plan's own by its name too.
    """
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        heroku = sum(int(leg.get("weight", 0)) for leg in split["route"] if _on_heroku(leg, plan))
    except (KeyError, TypeError, ValueError, AttributeError):
        return 100
    return max(0, 100 - heroku)


def _on_heroku(leg: Mapping[str, Any], plan: Plan) -> bool:
    told = ((leg["headers"].get("response") or {}).get("set") or {}).get(LEG_HEADER)
    return bool(told == Leg.HEROKU or (told is None and leg["destination"]["host"] == heroku_service(plan)))


def _newer(version: str, than: str) -> bool:
    # Versions are rising numbers within one kind; others count as newer.
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


#: Bytes of objects that are kept although no plan has asked for them yet: after a start they come before the plans. 2,000
#: plans fit.
SPARE_BYTES = 16 << 20


class RouteCache:
    """The routing objects of all plans, from watch events and the operator's own writes.

    Handlers feed it with :meth:`observe_event`. They must not filter by label: the cache has to see the edit that removes the
    operator's label. Objects that are not in it are read from the API server, so that only speed depends on the watch.

    Anybody may put the operator's label on objects of their own. So what no plan has asked for is kept only if it has the
    name of a plan's object, and only :data:`SPARE_BYTES` of it.
    """

    def __init__(self) -> None:
        self._live: dict[Key, Live] = {}
        self._spare: dict[Key, Live] = {}  # the oldest first
        self._spare_bytes = 0

    def observe_event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Ingest one watch event; return whether it changed an object of the operator.

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
        known = self._live.get(key) or self._spare.get(key)
        if known is None and not _of_plan(metadata):
            return False
        if known is not None and not _newer(metadata["resourceVersion"], known.version):
            return False
        self._drop_spare(key)
        if kind == "DELETED":
            self._live.pop(key, None)
            return known is not None
        if key in self._live:
            self._store(key, body)
            return True
        spare = self._spare[key] = _live(key, body)
        self._spare_bytes += len(spare.text)
        while self._spare_bytes > SPARE_BYTES:
            self._drop_spare(next(iter(self._spare)))
        return True

    def put(self, body: Mapping[str, Any]) -> Live:
        """Store the API server's answer, unless a newer version is known; return the newer version."""
        key = key_of(body)
        known = self.get(body)
        if known is not None and _newer(known.version, body["metadata"]["resourceVersion"]):
            return known
        return self._store(key, body)

    def get(self, body: Mapping[str, Any]) -> Live | None:
        """Return the cached object with this kind, namespace and name; from now on it is kept."""
        key = key_of(body)
        if key in self._spare:
            self._live[key] = self._spare[key]
            self._drop_spare(key)
        return self._live.get(key)

    def holds(self, live: Live) -> bool:
        """Tell whether this is still the cached version of the object."""
        return self._live.get(live.key) is live

    def drop(self, body: Mapping[str, Any]) -> None:
        """Drop an object, so that it is read again."""
        key = key_of(body)
        self._live.pop(key, None)
        self._drop_spare(key)

    def forget(self, namespace: str, plan: str) -> None:
        """Forget the objects of a plan that is gone, and those in its namespace that are read anew each time anyway."""
        named = {f"{prefix}{plan}" for prefix in OPERATOR_PREFIXES}
        for key, live in [(key, live) for key, live in self._live.items() if key[1] == namespace]:
            if key[2] in named or live.plan == plan or not live.watched:
                del self._live[key]

    def _drop_spare(self, key: Key) -> None:
        if (spare := self._spare.pop(key, None)) is not None:
            self._spare_bytes -= len(spare.text)

    def _store(self, key: Key, body: Mapping[str, Any]) -> Live:
        live = self._live[key] = _live(key, body)
        return live


def _of_plan(metadata: Mapping[str, Any]) -> bool:
    """Tell whether an object has the label and the name of an object that the operator writes for a plan."""
    plan = (metadata.get("labels") or {}).get(PLAN_LABEL)
    return any(metadata["name"] == f"{prefix}{plan}" for prefix in OPERATOR_PREFIXES)


def _live(key: Key, body: Mapping[str, Any]) -> Live:
    metadata = managed_fields.without(body["metadata"])
    kept = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    # Of an adopted object the operator owns only routes.
    managers = foreign_managers(body, "spec") if named_by_us(key[2]) else foreign_managers(body, "spec", "http")
    text = json.dumps(kept, separators=(",", ":"))
    plan = (metadata.get("labels") or {}).get(PLAN_LABEL)
    return Live(key, metadata["resourceVersion"], text, managers, _written_at(body), plan)
