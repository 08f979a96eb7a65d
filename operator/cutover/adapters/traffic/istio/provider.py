"""The traffic provider for Istio: it writes the weights into a VirtualService.

With the ownerships ``Generate`` and ``Delegate`` the VirtualService is the operator's; with ``Delegate`` it has neither hosts
nor gateways, as the team's VirtualService delegates to it. With ``Adopt`` it is the team's, and the operator owns the plan's
routes in it, see :mod:`cutover.adapters.traffic.istio.adopt`.

Rendering is pure: the objects depend only on the plan's spec, the weight, and the attempt and phase in the revision.
:class:`IstioTraffic` compares them with the API server's objects and writes what differs.

The objects carry **no owner references**. Garbage collection would delete a route while users' requests need it: at
once when the plan is deleted in the foreground (as Argo CD prunes), before the operator's finalizer has left traffic where
it has to stay, and when a person removes that finalizer or the CRD. A missing route is an outage of the host. The objects
belong to the plan by label and by the annotation with its UID, and outlive it; the docs say how to remove them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.names import eks_service, heroku_service, probe_service
from cutover.api.v1alpha1 import MigrationPlanSpec, OnDelete, Ownership, Phase
from cutover.domain.engine.actions import Finalize, SetWeight
from cutover.domain.managed_fields import owners
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION, is_ours
from cutover.domain.observation import Plan, TrafficState
from cutover.domain.preflight.checks.istio import route_adoptable
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    OWN_PREFIXES,
    qualified_gateways,
    route_name,
)
from cutover.domain.preflight.checks.istio.original import (
    ORIGINAL_ANNOTATION,
    ORIGINAL_LIMIT,
    note_original,
    read_original,
)
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER, Split
from cutover.domain.traffic import Capabilities
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Request header and value of the operator's probes, which the first route sends to the Heroku leg.
PROBE_HEADER = "x-cutover-probe"
PROBE_VALUE = "heroku"

#: Response header with the leg that answered, for people and load generators.
LEG_HEADER = "x-cutover-leg"

#: Names of the operator's two routes.
PROBE_ROUTE = "heroku-probe"
SPLIT_ROUTE = "split"

#: Annotation with the last raise that was cancelled before it reached the route.
CALLED_OFF_ANNOTATION = "cutover.dev/called-off"

#: Port of the ServiceEntry inside the mesh; TLS starts in the gateway's proxy.
HEROKU_PORT = 80
HEROKU_TLS_PORT = 443

#: Idle time-out of connections to Heroku's router, which closes them after 55 s: a request on a connection that the router
#: has just closed fails.
HEROKU_IDLE_TIMEOUT = "30s"

#: Kinds of the operator's routing objects.
ROUTING_KINDS = frozenset({VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES})
#: The same, by the kind in watch events.
RESOURCES: Mapping[str, Resource] = {resource.kind: resource for resource in ROUTING_KINDS}

#: Marks that keep deployment tools from changing the objects. Helm needs none: it manages its own releases only.
_ANNOTATIONS = {
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false",
}

#: Retries on both legs: none. The mesh's default repeats a refused connection twice: of an EKS leg with a third of its Pods
#: dead, the gate would see a ninth of the failures. Without retries a user's request is one attempt, one count in
#: istio_requests_total and one answer, equally on both legs. The field has to be set: otherwise the mesh's default applies.
RETRIES = 0

#: A split for uses that need only the objects' names, or what the route refers to, which does not depend on the split.
_ANY = Split(attempt=0, weight=0)


#: The gateways count both legs' requests and stamp their answers. A rollback is one write and one push.
CAPABILITIES = Capabilities(
    provider="Istio",
    confirms_share=True,
    stamps_revision=True,
    common_vantage=True,
    probes_leg=True,
    rollback_seconds=2.0,
    where_to_look="istiod and the gateway's proxies",
)


# ----------------------------------------------------------------------------------------------------------- rendering


@dataclass(frozen=True, slots=True)
class DevelopmentHeroku:
    """The stand-in for Heroku in a development stack. Never set in production.

    Parameters
    ----------
    address
        IP address of the stand-in for every Heroku app.
    port
        Its port, with TLS.
    ca_certificates
        Path *in the gateway's proxy* of the CA of its certificate; this needs Istio's agent beside the proxy. ``None``: the
        certificate is not verified.
    """

    address: str
    port: int
    ca_certificates: str | None = None


def render(
    plan: Plan,
    split: Split,
    *,
    development: DevelopmentHeroku | None = None,
    cluster_domain: str = "cluster.local",
) -> list[Json]:
    """Return the plan's objects, in the order in which they are created.

    An adopted VirtualService has no spec yet: the spec depends on the live object.

    Parameters
    ----------
    split
        The split in the route.
    """
    return [
        _service_entry(plan, development),
        _destination_rule(plan, route_name(plan), heroku_service(plan), development),
        # The prefix keeps its name different from those of all plans' objects.
        _destination_rule(plan, f"probe-{route_name(plan)}", probe_service(plan), development),
        _adopted(plan) if adopts(plan) else _virtual_service(plan, split, cluster_domain),
    ]


def adopts(plan: Plan) -> bool:
    """Tell whether the plan adopts the team's VirtualService."""
    return plan.spec.traffic.istio.ownership is Ownership.ADOPT


def _object(resource: Resource, plan: Plan, name: str, spec: Json) -> Json:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": {MANAGED_BY_LABEL: FIELD_MANAGER, PLAN_LABEL: plan.name},
            "annotations": {**_ANNOTATIONS, PLAN_UID_ANNOTATION: plan.uid},
        },
        "spec": spec,
    }


def _virtual_service(plan: Plan, split: Split, cluster_domain: str) -> Json:
    istio = plan.spec.traffic.istio
    users = {
        "name": SPLIT_ROUTE,
        # Both legs are listed at every weight, so that a step changes only two numbers and the revision.
        "route": [
            _heroku_destination(plan, heroku_service(plan), 100 - split.weight),
            {**_eks_destination(plan, cluster_domain), "weight": split.weight},
        ],
        **_treatment(plan, split),
    }
    reach: Json = {"hosts": list(istio.hosts), "gateways": list(qualified_gateways(plan))}
    if istio.ownership is Ownership.DELEGATE:
        # A delegate must have no hosts. It has to be visible to the root VirtualService, whatever the mesh's default.
        reach = {"exportTo": ["."]}
    spec = {**reach, "http": [_probe_route(plan, split), users]}
    return _object(VIRTUAL_SERVICES, plan, route_name(plan), spec)


def _adopted(plan: Plan) -> Json:
    reference = plan.spec.traffic.istio.virtual_service_ref
    body = _object(VIRTUAL_SERVICES, plan, reference.name if reference else "", {})
    # The team's tools set the managed-by label.
    body["metadata"]["labels"] = {PLAN_LABEL: plan.name}
    body["metadata"]["annotations"] = {**istio_adopt.HANDS_OFF, PLAN_UID_ANNOTATION: plan.uid}
    return body


def _shape(plan: Plan, split: Split, cluster_domain: str) -> istio_adopt.Shape:
    treatment = _treatment(plan, split)
    return istio_adopt.Shape(
        heroku=_heroku_destination(plan, heroku_service(plan), 0),
        eks=_eks_destination(plan, cluster_domain),
        probe=_probe_route(plan, split),
        revision=split.revision,
        defaults={name: treatment[name] for name in ("timeout", "retries")},
    )


def _probe_route(plan: Plan, split: Split) -> Json:
    return {
        "name": PROBE_ROUTE,
        "match": [{"headers": {PROBE_HEADER: {"exact": PROBE_VALUE}}}],
        "route": [_heroku_destination(plan, probe_service(plan), 100)],
        **_treatment(plan, split),
    }


def _treatment(plan: Plan, split: Split) -> Json:
    """Return the fields that both routes share."""
    return {
        # Envoy also sets it on its own answers, such as 503 and 504.
        "headers": {"response": {"set": {HEADER: split.revision}}},
        "timeout": f"{int(plan.spec.traffic.istio.timeout.total_seconds())}s",
        "retries": {"attempts": RETRIES},
    }


def _heroku_destination(plan: Plan, host: str, weight: int) -> Json:
    # Heroku's router finds the app by Host. The app learns the public name from x-forwarded-host, which Envoy fills in
    # before it rewrites Host.
    request = {"Host": plan.spec.heroku.hostname, "x-forwarded-host": "%REQ(:AUTHORITY)%"}
    return {
        "destination": {"host": host, "port": {"number": HEROKU_PORT}},
        "weight": weight,
        "headers": {"request": {"set": request}, "response": {"set": {LEG_HEADER: "heroku"}}},
    }


def _eks_destination(plan: Plan, cluster_domain: str) -> Json:
    return {
        "destination": {"host": eks_service(plan, cluster_domain), "port": {"number": plan.spec.eks.service.port}},
        "headers": {"response": {"set": {LEG_HEADER: "eks"}}},
    }


def _service_entry(plan: Plan, development: DevelopmentHeroku | None) -> Json:
    endpoint: Json = {"address": plan.spec.heroku.hostname}
    if development is not None:
        endpoint = {"address": development.address, "ports": {"http": development.port}}
    spec = {
        "hosts": [heroku_service(plan), probe_service(plan)],
        "location": "MESH_EXTERNAL",
        "ports": [{"number": HEROKU_PORT, "name": "http", "protocol": "HTTP", "targetPort": HEROKU_TLS_PORT}],
        "resolution": "STATIC" if development is not None else "DNS",
        "endpoints": [endpoint],
        "exportTo": _export_to(plan),
    }
    return _object(SERVICE_ENTRIES, plan, route_name(plan), spec)


def _destination_rule(plan: Plan, name: str, host: str, development: DevelopmentHeroku | None) -> Json:
    hostname = plan.spec.heroku.hostname
    # Both fields are needed: with an SNI and no names, the proxy would accept any certificate of a public CA.
    tls: Json = {"mode": "SIMPLE", "sni": hostname, "subjectAltNames": [hostname]}
    if development is not None and development.ca_certificates is not None:
        tls["caCertificates"] = development.ca_certificates
    elif development is not None:
        tls = {"mode": "SIMPLE", "sni": hostname, "insecureSkipVerify": True}
    policy = {"tls": tls, "connectionPool": {"http": {"idleTimeout": HEROKU_IDLE_TIMEOUT}}}
    return _object(
        DESTINATION_RULES, plan, name, {"host": host, "trafficPolicy": policy, "exportTo": _export_to(plan)}
    )


def _export_to(plan: Plan) -> list[str]:
    """Return the namespaces to which the Heroku leg is visible: the plan's and the gateways'."""
    namespaces = {gateway.split("/", 1)[0] for gateway in qualified_gateways(plan)}
    return [".", *sorted(namespaces - {plan.namespace})]


# ------------------------------------------------------------------------------------------------------------- reading

_Key = tuple[str, str, str]


def _key(body: Mapping[str, Any]) -> _Key:
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
    """

    key: _Key
    version: str
    text: str
    managers: tuple[str, ...] = ()
    written_at: float | None = None

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
    """Return the percent of requests that a route of any plan does not send to Heroku; 100 if that is not known."""
    try:
        (split,) = (route for route in body["spec"]["http"] if route.get("name") == SPLIT_ROUTE)
        legs = ((leg["headers"]["response"]["set"][LEG_HEADER], leg.get("weight", 0)) for leg in split["route"])
        heroku = sum(int(weight) for name, weight in legs if name == PROBE_VALUE)
    except (KeyError, TypeError, ValueError, AttributeError):
        return 100
    return max(0, 100 - heroku)


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


def _named_by_us(name: str) -> bool:
    return name.startswith(OWN_PREFIXES)


class RouteCache:
    """The routing objects of all plans, from watch events and the operator's own writes.

    Handlers feed it with :meth:`observe_event`. They must not filter by label: the cache has to see the edit that removes the
    operator's label. Objects that are not in it are read from the API server, so that only speed depends on the watch.
    """

    def __init__(self) -> None:
        self._live: dict[_Key, Live] = {}

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
        key = _key(body)
        known = self._live.get(key)
        if known is None and not (_named_by_us(metadata["name"]) or PLAN_LABEL in (metadata.get("labels") or {})):
            return False
        if known is not None and not _newer(metadata["resourceVersion"], known.version):
            return False
        if kind == "DELETED":
            return self._live.pop(key, None) is not None
        self._store(key, body)
        return True

    def put(self, body: Mapping[str, Any]) -> Live:
        """Store the API server's answer, unless a newer version is known; return the newer version."""
        key = _key(body)
        known = self._live.get(key)
        if known is not None and _newer(known.version, body["metadata"]["resourceVersion"]):
            return known
        return self._store(key, body)

    def get(self, body: Mapping[str, Any]) -> Live | None:
        """Return the cached object with this kind, namespace and name."""
        return self._live.get(_key(body))

    def holds(self, live: Live) -> bool:
        """Tell whether this is still the cached version of the object."""
        return self._live.get(live.key) is live

    def drop(self, body: Mapping[str, Any]) -> None:
        """Drop an object, so that it is read again."""
        self._live.pop(_key(body), None)

    def _store(self, key: _Key, body: Mapping[str, Any]) -> Live:
        # Managed fields are half of an object, and only their owners' names are used.
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        kept = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
        # Of an adopted object the operator owns only routes.
        managers = foreign_managers(body, "spec") if _named_by_us(key[2]) else foreign_managers(body, "spec", "http")
        text = json.dumps(kept, separators=(",", ":"))
        live = self._live[key] = Live(key, metadata["resourceVersion"], text, managers, _written_at(body))
        return live


# ------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The result of a comparison of a plan's objects, with its inputs."""

    spec: MigrationPlanSpec
    uid: str
    split: Split
    live: list[Live | None]
    state: TrafficState

    def holds(self, plan: Plan, split: Split, cache: RouteCache) -> bool:
        """Tell whether the inputs are unchanged."""
        return (
            plan.spec is self.spec
            and plan.uid == self.uid
            and split == self.split
            and all(one is not None and cache.holds(one) for one in self.live)
        )


@dataclass(slots=True)
class IstioTraffic:
    """:class:`cutover.ports.traffic.Traffic` with Istio.

    Parameters
    ----------
    cluster
        The API server.
    cache
        Fed by the watches.
    development
        The stand-in for Heroku in a development stack; ``None`` in production.
    cluster_domain
        The cluster's DNS domain.
    """

    cluster: Cluster
    cache: RouteCache = field(default_factory=RouteCache)
    development: DevelopmentHeroku | None = None
    cluster_domain: str = "cluster.local"
    # By object, the spec that was sent and the spec that the API server stored, where they differ: an admission webhook or a
    # later version of Istio's CRDs may fill in fields. Otherwise every reconcile would find a difference and write again.
    _answers: dict[_Key, tuple[Json, Json]] = field(default_factory=dict, init=False)
    # By plan. Nearly every reconcile compares the same objects with the same plan again.
    _compared: dict[str, _Comparison] = field(default_factory=dict, init=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Istio can do."""
        return CAPABILITIES

    async def get(self, plan: Plan, wanted: Split | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with the split that is wanted.

        Where no split is wanted, every route counts as current; its weight is then the percent that does not go to Heroku,
        but possibly to another plan's Service. The answer comes from the watch cache unless ``fresh``. Raises Unavailable.
        """
        if not fresh and (known := self._compared.get(plan.key)) is not None:
            if wanted is not None and known.holds(plan, wanted, self.cache):
                return known.state
            del self._compared[plan.key]
        split = wanted or _ANY
        bodies = self._render(plan, split)
        if wanted is None:
            bodies = bodies[-1:]
        # One after the other: nearly always all are in the cache, and a task for each would cost more than the reconcile.
        live = [await self._live(body, fresh=fresh) for body in bodies]
        route = live[-1]
        bodies[-1] = self._complete(plan, split, bodies[-1], route)
        drifted = [one for one, body in zip(live, bodies, strict=True) if not self._matches(one, body)]
        present = [one for one in drifted or live if one is not None]
        seen = None if route is None else self._weight(route, plan, takeover=wanted is None)
        state = TrafficState(
            weight=seen,
            revision="" if route is None else self._revision(route, plan),
            # An adopted VirtualService may have lost all routes of the plan: then there is no weight to compare.
            current=wanted is None or not (drifted or seen is None),
            # Only of drifted objects, if there are any: other managers may own fields of current objects legitimately.
            foreign=tuple(dict.fromkeys(manager for one in present for manager in one.managers)),
            written_at=None if route is None else route.written_at,
            version="" if route is None else route.version,
            in_the_way=_in_the_way(plan, seen) if wanted is None and seen else "",
        )
        # Missing objects and the team's VirtualService are compared each time.
        if wanted is not None and not adopts(plan) and None not in live:
            self._compared[plan.key] = _Comparison(plan.spec, plan.uid, wanted, live, state)
        return state

    async def prepare(self, plan: Plan) -> None:
        """Write what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""
        for body in self._render(plan, _ANY)[:-1]:
            await self._write(body, await self._live(body))

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Write the decided split into the routing objects; write only what differs. Raises Conflict, Unavailable.

        See :meth:`cutover.ports.traffic.Traffic.set`.
        """
        *supports, route = self._render(plan, write.split)
        known = await self._live(route)
        if write.over is not None and write.over != ("" if known is None else known.version):
            # A process that slept has another process' newer route from the watch, and would overwrite it.
            raise Conflict(f"VirtualService {plan.namespace}/{route['metadata']['name']} is not what was decided on")
        takeover = known is None
        if adopts(plan):
            takeover = _takes_over(plan, known)
            if takeover and (problem := route_adoptable.problem(plan, None if known is None else known.body)):
                raise Unavailable(f"not taken over: {problem}")
            route = self._complete(plan, write.split, route, known)
            if istio_adopt.live_weight(route["spec"], plan) is None:
                where = f"VirtualService {plan.namespace}/{route['metadata']['name']}"
                raise Unavailable(f"{where}: none of its http routes goes to a leg of the plan any more; put one back")
        if write.supersedes and self._matches(known, route):
            # The resourceVersion has to change, and a write without a change would keep it.
            route["metadata"]["annotations"][CALLED_OFF_ANNOTATION] = write.supersedes
        if not takeover:
            # The weights first: a rollback waits for nothing.
            await self._write(route, known)
        for body in supports:
            await self._write(body, await self._live(body))
        if takeover:
            # The route comes after what it refers to.
            await self._write(route, known)

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Leave traffic where the decision says, as the plan is deleted. Raises Conflict, Unavailable.

        The objects stay in place: without a VirtualService the host would answer 404. Where the plan never took over the
        host there is nothing to do, and the deletion does not wait.
        """
        self._compared.pop(plan.key, None)
        try:
            known = await self._live(self._render(plan, _ANY)[-1], fresh=True)
        except NotServed:
            return
        if known is None:
            return
        if adopts(plan):
            await self._release(plan, rest, known)
            return
        if is_ours(known.body["metadata"]) and rest.route is not None:
            await self.set(plan, rest.route)

    def _weight(self, route: Live, plan: Plan, *, takeover: bool) -> int | None:
        if adopts(plan):
            spec = route.body["spec"] or {}
            return istio_adopt.eks_at_most(spec, plan) if takeover else istio_adopt.live_weight(spec, plan)
        return not_on_heroku(route.body) if takeover else split_weight(route.body, plan, self.cluster_domain)

    def _revision(self, route: Live, plan: Plan) -> str:
        return (
            istio_adopt.live_revision(route.body["spec"] or {}, plan) if adopts(plan) else stamped_revision(route.body)
        )

    # ------------------------------------------------------------------------------------------------------- Adopt

    def _complete(self, plan: Plan, split: Split, wanted: Json, live: Live | None) -> Json:
        """Return the wanted object, with the spec of an adopted VirtualService derived from the live object."""
        if not adopts(plan) or live is None:
            return wanted
        metadata = live.body["metadata"]
        annotations = metadata.get("annotations") or {}
        noted = read_original(annotations)
        spec, routes = istio_adopt.adopt(
            live.body["spec"] or {},
            plan,
            split.weight,
            _shape(plan, split, self.cluster_domain),
            noted.get("routes", ()),
        )
        before = noted["annotations"] if noted else _selected(annotations, istio_adopt.HANDS_OFF)
        original = note_original(routes, before)
        if noted and len(original.encode()) > ORIGINAL_LIMIT:
            # The team's routes grew meanwhile. The weights matter more than a later restoration.
            original = annotations[ORIGINAL_ANNOTATION]
        ours = {**wanted["metadata"]["annotations"], ORIGINAL_ANNOTATION: original}
        return {**wanted, "metadata": {**wanted["metadata"], "annotations": ours}, "spec": spec}

    async def _release(self, plan: Plan, rest: Finalize, live: Live) -> None:
        """Return an adopted VirtualService to the team. Raises Conflict, Unavailable."""
        metadata = live.body["metadata"]
        annotations, spec = dict(metadata.get("annotations") or {}), live.body["spec"] or {}
        # Without the annotation: a person removed it, or this plan never adopted the object.
        if annotations.get(PLAN_UID_ANNOTATION, plan.uid if plan.status.weight is not None else "") != plan.uid:
            return
        labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != PLAN_LABEL}
        if rest.route is not None and rest.end is OnDelete.HEROKU:
            noted = read_original(annotations)
            # First to 0: a route that is not recognised keeps this weight.
            spec, _ = istio_adopt.adopt(spec, plan, 0, _shape(plan, rest.route.split, self.cluster_domain), ())
            spec = istio_adopt.restore(spec, plan, noted.get("routes", ()))
            ours = ORIGINAL_ANNOTATION, PLAN_UID_ANNOTATION, CALLED_OFF_ANNOTATION
            for name in (*istio_adopt.HANDS_OFF, *ours):
                annotations.pop(name, None)
            annotations |= noted.get("annotations", {})
        elif rest.route is not None:
            split = rest.route.split
            spec = self._complete(plan, split, self._render(plan, split)[-1], live)["spec"]
        # Without the label, so that deleting the operator's objects by label does not delete the team's.
        body = {**live.body, "metadata": {**metadata, "labels": labels, "annotations": annotations}, "spec": spec}
        self.cache.drop(body)
        try:
            await self.cluster.replace(VIRTUAL_SERVICES, body)
        except Gone:
            return

    # -------------------------------------------------------------------------------------------------- one object

    def _render(self, plan: Plan, split: Split) -> list[Json]:
        return render(plan, split, development=self.development, cluster_domain=self.cluster_domain)

    async def _live(self, wanted: Json, *, fresh: bool = False) -> Live | None:
        known = None if fresh else self.cache.get(wanted)
        metadata = wanted["metadata"]
        # The watch delivers labelled objects only; the team's may not have the label yet.
        if known is not None and (
            _named_by_us(metadata["name"]) or PLAN_LABEL in (known.body["metadata"].get("labels") or {})
        ):
            return known
        try:
            body = await self.cluster.get(RESOURCES[wanted["kind"]], metadata["namespace"], metadata["name"])
        except Gone:
            self.cache.drop(wanted)
            return None
        return self.cache.put(body)

    def _matches(self, live: Live | None, wanted: Json) -> bool:
        if live is None:
            return False
        metadata = live.body["metadata"]
        if not all(
            (metadata.get(part) or {}).get(name) == value
            for part in ("labels", "annotations")
            for name, value in wanted["metadata"][part].items()
        ):
            return False
        asked, answered = self._answers.get(_key(wanted), (None, None))
        spec = live.body["spec"]
        return bool(spec == wanted["spec"] or (asked == wanted["spec"] and answered == spec))

    async def _write(self, wanted: Json, live: Live | None) -> None:
        if self._matches(live, wanted):
            return
        resource = RESOURCES[wanted["kind"]]
        try:
            if live is None:
                stored = await self.cluster.create(resource, wanted)
            else:
                stored = await self.cluster.replace(resource, _merged(live.body, wanted))
        except Gone as error:
            self.cache.drop(wanted)
            raise Conflict(f"{error}; it existed a moment ago") from error
        except (Conflict, Unavailable):
            # After a time-out it is unknown whether the write was made: the next read goes to the API server.
            self.cache.drop(wanted)
            raise
        self.cache.put(stored)
        if stored["spec"] != wanted["spec"]:
            self._answers[_key(wanted)] = (wanted["spec"], stored["spec"])
        else:
            self._answers.pop(_key(wanted), None)


def _takes_over(plan: Plan, live: Live | None) -> bool:
    """Tell whether this write adopts the team's VirtualService, which then has to be adoptable.

    Later writes do not ask: whatever others changed in it and in the annotations, a rollback stays possible.
    """
    if live is None:
        return True
    owner = (live.body["metadata"].get("annotations") or {}).get(PLAN_UID_ANNOTATION)
    return owner != plan.uid and plan.status.phase in (Phase.PENDING, Phase.PREFLIGHT)


def _in_the_way(plan: Plan, percent: int) -> str:
    """Return what sends requests elsewhere before the takeover, and what to do about it."""
    if (reference := plan.spec.traffic.istio.virtual_service_ref) is not None and adopts(plan):
        return (
            f"VirtualService {reference.name} sends {percent} % to EKS already, and the takeover would send it all to "
            "Heroku; set that weight to 0 first if this is what you want"
        )
    return (
        f"a route of an earlier plan sends {percent} % elsewhere, and the takeover would send it all to Heroku; delete "
        "that VirtualService first if this is what you want"
    )


def _selected(annotations: Mapping[str, str], names: Iterable[str]) -> Json:
    return {name: annotations[name] for name in names if name in annotations}


def _merged(live: Json, wanted: Json) -> Json:
    """Return the live object with our spec, labels and annotations; other metadata stays.

    Raises
    ------
    Unavailable
        Where the object is not the operator's.
    """
    metadata, ours = live["metadata"], wanted["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if _named_by_us(metadata["name"]) and not is_ours(metadata):
        raise Unavailable(
            f"{live['kind']} {metadata['namespace']}/{metadata['name']} exists and is not the operator's: delete or "
            f"rename it, or hand it over with the label {MANAGED_BY_LABEL}={FIELD_MANAGER}"
        )
    return {
        **wanted,
        "metadata": {
            **metadata,
            "labels": {**labels, **ours["labels"]},
            "annotations": {**annotations, **ours["annotations"]},
        },
    }
