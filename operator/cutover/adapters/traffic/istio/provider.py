"""The split in Istio: a VirtualService that carries the weights.

With ownership ``Generate`` and ``Delegate`` it is ours; ``Delegate``'s has neither hosts nor gateways, as the team's own
delegates to it. With ``Adopt`` it is the team's, in which the plan's routes are ours, see
:mod:`cutover.adapters.traffic.istio.adopt`.

Rendering is pure: what the objects look like depends on the plan's spec, the weight, and on the attempt and phase that
the revision names; on nothing else.
:class:`IstioTraffic` compares that with the API server's objects and writes what differs.

The objects carry **no owner references**. Garbage collection would delete a route while users' requests need it: at
once when the plan is deleted in the foreground (as Argo CD prunes), before the operator's finalizer has put traffic to
rest, and whenever somebody removes that finalizer or the CRD. A route that is gone is an outage of the host. They
belong to the plan by label and by the annotation with its UID, and outlive it; docs say how to remove them.
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
    OPERATOR_PREFIXES,
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
from cutover.ports import Conflict, Gone, Unavailable

#: Request header, and its value, that the first route pins to the Heroku leg: the operator's probes.
PROBE_HEADER = "x-cutover-probe"
PROBE_VALUE = "heroku"

#: Response header that names the leg which answered; for people and load generators.
LEG_HEADER = "x-cutover-leg"

#: Names of the two routes.
PROBE_ROUTE = "heroku-probe"
SPLIT_ROUTE = "split"

#: Annotation that names the last raise that was called off before it came to the route.
CALLED_OFF_ANNOTATION = "cutover.dev/called-off"

#: The port that the ServiceEntry has inside the mesh; TLS starts in the gateway's proxy.
HEROKU_PORT = 80
HEROKU_TLS_PORT = 443

#: Idle connections to Heroku's router end before the router ends them after 55 s: a request that is sent on a
#: connection just closed by the other side fails.
HEROKU_IDLE_TIMEOUT = "30s"

#: Kinds of our objects.
ROUTING_KINDS = frozenset({VIRTUAL_SERVICES, SERVICE_ENTRIES, DESTINATION_RULES})
#: The same, by the name that watch events carry.
RESOURCES: Mapping[str, Resource] = {resource.kind: resource for resource in ROUTING_KINDS}

#: Deployment tools leave alone what is marked so. Helm needs nothing: it looks at the objects of its own releases only.
_ANNOTATIONS = {
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false",
}

#: Retries, on either leg: none. The mesh's default repeats a refused connection twice, so that of an EKS leg with a
#: third of its Pods dead the gate would see a ninth of the failures. Without retries one request of a user is one
#: attempt, one count in istio_requests_total and one answer, alike on both legs. It has to be written: a route that
#: says nothing has the mesh's default.
RETRIES = 0

#: Where only the names of the objects matter, or what the route refers to, which is the same at every split.
_ANY = Split(attempt=0, weight=0)


#: The gateways count both legs, request by request, and stamp what they answer. A rollback is one write and one push.
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
    """Where the Heroku leg really is in a development stack. Never set in production.

    Parameters
    ----------
    address
        IP address that stands in for every Heroku app.
    port
        Port that answers with TLS there.
    ca_certificates
        Path *in the gateway's proxy* of the CA that signed its certificate; it needs Istio's own agent beside the
        proxy. ``None``: the certificate is not verified.
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

    An adopted VirtualService has no spec yet: it depends on the live one.

    Parameters
    ----------
    split
        What the route says.
    """
    return [
        _service_entry(plan, development),
        _destination_rule(plan, route_name(plan), heroku_service(plan), development),
        # Its prefix keeps it apart from the objects of any plan, whatever that is called.
        _destination_rule(plan, f"probe-{route_name(plan)}", probe_service(plan), development),
        _adopted(plan) if adopts(plan) else _virtual_service(plan, split, cluster_domain),
    ]


def adopts(plan: Plan) -> bool:
    """Tell whether the weights are in a VirtualService of the team's."""
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
        # Both are listed at every weight, so that a step changes two numbers and the revision, and nothing else.
        "route": [
            _heroku_destination(plan, heroku_service(plan), 100 - split.weight),
            {**_eks_destination(plan, cluster_domain), "weight": split.weight},
        ],
        **_treatment(plan, split),
    }
    reach: Json = {"hosts": list(istio.hosts), "gateways": list(qualified_gateways(plan))}
    if istio.ownership is Ownership.DELEGATE:
        # One that has hosts is no delegate. It has to be visible where the root is, whatever the mesh's default.
        reach = {"exportTo": ["."]}
    spec = {**reach, "http": [_probe_route(plan, split), users]}
    return _object(VIRTUAL_SERVICES, plan, route_name(plan), spec)


def _adopted(plan: Plan) -> Json:
    reference = plan.spec.traffic.istio.virtual_service_ref
    body = _object(VIRTUAL_SERVICES, plan, reference.name if reference else "", {})
    # Who manages it is not ours to say.
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
    """Return what both routes do alike."""
    return {
        # Envoy also sets it on the answers that it makes itself, such as 503 and 504.
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
    # Both are needed: with an SNI of its own and no names, the proxy would accept any certificate of a public CA.
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
    """Return who may see the Heroku leg: the plan's namespace and the gateways'."""
    namespaces = {gateway.split("/", 1)[0] for gateway in qualified_gateways(plan)}
    return [".", *sorted(namespaces - {plan.namespace})]


# ------------------------------------------------------------------------------------------------------------- reading

_Key = tuple[str, str, str]


def _key(body: Mapping[str, Any]) -> _Key:
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

    key: _Key
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


def _named_by_us(name: str) -> bool:
    return name.startswith(OPERATOR_PREFIXES)


class RouteCache:
    """Our routing objects of all plans, as watch events and our own writes have them.

    Handlers feed it with :meth:`observe_event`. They must not filter by label: the edit that takes our label off is
    one to be seen. What is not in it is read from the API server, so that nothing depends on the watch but speed.
    """

    def __init__(self) -> None:
        self._live: dict[_Key, Live] = {}

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
        """Take in what the API server has just answered, unless a newer version is known; return the newer one."""
        key = _key(body)
        known = self._live.get(key)
        if known is not None and _newer(known.version, body["metadata"]["resourceVersion"]):
            return known
        return self._store(key, body)

    def get(self, body: Mapping[str, Any]) -> Live | None:
        """Return what is known of the object with this kind, namespace and name."""
        return self._live.get(_key(body))

    def holds(self, live: Live) -> bool:
        """Tell whether this is still what is known of an object."""
        return self._live.get(live.key) is live

    def drop(self, body: Mapping[str, Any]) -> None:
        """Forget an object, so that it is read again."""
        self._live.pop(_key(body), None)

    def _store(self, key: _Key, body: Mapping[str, Any]) -> Live:
        # Managed fields are half of an object and only their owners' names are used.
        metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        kept = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
        # Of somebody else's object the routes are ours at most.
        managers = foreign_managers(body, "spec") if _named_by_us(key[2]) else foreign_managers(body, "spec", "http")
        text = json.dumps(kept, separators=(",", ":"))
        live = self._live[key] = Live(key, metadata["resourceVersion"], text, managers, _written_at(body))
        return live


# ------------------------------------------------------------------------------------------------------------- writing


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What the objects of a plan were compared with, and how they were."""

    spec: MigrationPlanSpec
    uid: str
    split: Split
    live: list[Live | None]
    state: TrafficState

    def holds(self, plan: Plan, split: Split, cache: RouteCache) -> bool:
        """Tell whether nothing has changed since."""
        return (
            plan.spec is self.spec
            and plan.uid == self.uid
            and split == self.split
            and all(one is not None and cache.holds(one) for one in self.live)
        )


@dataclass(slots=True)
class IstioTraffic:
    """:class:`cutover.ports.Traffic` with Istio.

    Parameters
    ----------
    cluster
        The API server.
    cache
        Kept by the watches.
    development
        Where the Heroku leg is in a development stack; ``None`` in production.
    cluster_domain
        The cluster's DNS domain.
    """

    cluster: Cluster
    cache: RouteCache = field(default_factory=RouteCache)
    development: DevelopmentHeroku | None = None
    cluster_domain: str = "cluster.local"
    # What the API server made of a spec of ours, where that is not the same: an admission webhook or a later version of
    # Istio's CRDs may fill in fields. Without it every pass would find a difference and write again.
    _answers: dict[_Key, tuple[Json, Json]] = field(default_factory=dict, init=False)
    # By plan. Nearly every pass compares the same objects with the same plan again.
    _compared: dict[str, _Comparison] = field(default_factory=dict, init=False)

    @property
    def capabilities(self) -> Capabilities:
        """What Istio can do."""
        return CAPABILITIES

    async def get(self, plan: Plan, wanted: Split | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with what the plan asks for.

        Where nothing is asked for, whatever there is counts as current; its weight is then what does not go to Heroku,
        be it another plan's Service. Served from the watch cache unless ``fresh``. Raises Unavailable.
        """
        if not fresh and (known := self._compared.get(plan.key)) is not None:
            if wanted is not None and known.holds(plan, wanted, self.cache):
                return known.state
            del self._compared[plan.key]
        split = wanted or _ANY
        bodies = self._render(plan, split)
        if wanted is None:
            bodies = bodies[-1:]
        # One after the other: nearly always all are in the cache, and a task for each would cost more than the pass.
        live = [await self._live(body, fresh=fresh) for body in bodies]
        route = live[-1]
        bodies[-1] = self._complete(plan, split, bodies[-1], route)
        strayed = [one for one, body in zip(live, bodies, strict=True) if not self._matches(one, body)]
        present = [one for one in strayed or live if one is not None]
        seen = None if route is None else self._weight(route, plan, takeover=wanted is None)
        state = TrafficState(
            weight=seen,
            revision="" if route is None else self._revision(route, plan),
            # An adopted VirtualService may have lost all routes of the plan; then there is nothing to complete in it.
            current=wanted is None or not (strayed or seen is None),
            # Of those that are not as they should be, if any: others may own a part of the rest in all harmony.
            foreign=tuple(dict.fromkeys(manager for one in present for manager in one.managers)),
            written_at=None if route is None else route.written_at,
            version="" if route is None else route.version,
            in_the_way=_in_the_way(plan, seen) if wanted is None and seen else "",
        )
        # What is missing, or the team's own, is looked at each time.
        if wanted is not None and not adopts(plan) and None not in live:
            self._compared[plan.key] = _Comparison(plan.spec, plan.uid, wanted, live, state)
        return state

    async def prepare(self, plan: Plan) -> None:
        """Make what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""
        for body in self._render(plan, _ANY)[:-1]:
            await self._write(body, await self._live(body))

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Make the routing objects say what was decided; write only what differs. Raises Conflict, Unavailable.

        See :meth:`cutover.ports.Traffic.set`.
        """
        *supports, route = self._render(plan, write.split)
        known = await self._live(route)
        if write.over is not None and write.over != ("" if known is None else known.version):
            # A process that has been asleep knows from the watch what another one wrote meanwhile, and would write over it.
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
            # Its resourceVersion has to change, which it does not by a write that changes nothing.
            route["metadata"]["annotations"][CALLED_OFF_ANNOTATION] = write.supersedes
        if not takeover:
            # The weights first: a rollback waits on nothing.
            await self._write(route, known)
        for body in supports:
            await self._write(body, await self._live(body))
        if takeover:
            # A route comes after what it refers to.
            await self._write(route, known)

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Put traffic to rest as was decided, as the plan is deleted. Raises Conflict, Unavailable.

        The objects stay and go on serving: without a VirtualService the host would answer 404. Where the plan never took
        the host over there is nothing to do, and nothing holds its deletion up.
        """
        self._compared.pop(plan.key, None)
        try:
            known = await self._live(self._render(plan, _ANY)[-1], fresh=True)
        except NotServed:
            return
        if known is None:
            return
        if adopts(plan):
            await self._let_go(plan, rest, known)
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
        """Return what an adopted VirtualService should be, as it is now; any other is complete."""
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
        before = noted["annotations"] if noted else _those(annotations, istio_adopt.HANDS_OFF)
        original = note_original(routes, before)
        if noted and len(original.encode()) > ORIGINAL_LIMIT:
            # Somebody has made it larger meanwhile. The weights matter more than what comes after them.
            original = annotations[ORIGINAL_ANNOTATION]
        ours = {**wanted["metadata"]["annotations"], ORIGINAL_ANNOTATION: original}
        return {**wanted, "metadata": {**wanted["metadata"], "annotations": ours}, "spec": spec}

    async def _let_go(self, plan: Plan, rest: Finalize, live: Live) -> None:
        """Put an adopted VirtualService to rest. Raises Conflict, Unavailable."""
        metadata = live.body["metadata"]
        annotations, spec = dict(metadata.get("annotations") or {}), live.body["spec"] or {}
        # Without the annotation somebody has taken it off, or this plan has never come so far.
        if annotations.get(PLAN_UID_ANNOTATION, plan.uid if plan.status.weight is not None else "") != plan.uid:
            return
        labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != PLAN_LABEL}
        if rest.route is not None and rest.end is OnDelete.HEROKU:
            noted = read_original(annotations)
            # First to 0, where a route is not recognised and stays.
            spec, _ = istio_adopt.adopt(spec, plan, 0, _shape(plan, rest.route.split, self.cluster_domain), ())
            spec = istio_adopt.restore(spec, plan, noted.get("routes", ()))
            ours = ORIGINAL_ANNOTATION, PLAN_UID_ANNOTATION, CALLED_OFF_ANNOTATION
            for name in (*istio_adopt.HANDS_OFF, *ours):
                annotations.pop(name, None)
            annotations |= noted.get("annotations", {})
        elif rest.route is not None:
            split = rest.route.split
            spec = self._complete(plan, split, self._render(plan, split)[-1], live)["spec"]
        # Without the label, so that who deletes the operator's own objects by it does not delete the team's.
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
        # The watch tells of what has the label only; the team's own may not have it yet.
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
            raise Conflict(f"{error}; it was there a moment ago") from error
        except (Conflict, Unavailable):
            # After a time-out nobody knows whether the write was made: the next look is a fresh one.
            self.cache.drop(wanted)
            raise
        self.cache.put(stored)
        if stored["spec"] != wanted["spec"]:
            self._answers[_key(wanted)] = (wanted["spec"], stored["spec"])
        else:
            self._answers.pop(_key(wanted), None)


def _takes_over(plan: Plan, live: Live | None) -> bool:
    """Tell whether the team's VirtualService is adopted by this write: then it has to be fit for it.

    Later it is no question: whatever others have made of it, and of our annotations, the way back is open.
    """
    if live is None:
        return True
    owner = (live.body["metadata"].get("annotations") or {}).get(PLAN_UID_ANNOTATION)
    return owner != plan.uid and plan.status.phase in (Phase.PENDING, Phase.PREFLIGHT)


def _in_the_way(plan: Plan, percent: int) -> str:
    """Say what sends requests elsewhere before the takeover, and what to do about it."""
    if (reference := plan.spec.traffic.istio.virtual_service_ref) is not None and adopts(plan):
        return (
            f"VirtualService {reference.name} sends {percent} % to EKS already, and the takeover would send it all to "
            "Heroku; set that weight to 0 first if this is what you want"
        )
    return (
        f"a route of an earlier plan sends {percent} % elsewhere, and the takeover would send it all to Heroku; delete "
        "that VirtualService first if this is what you want"
    )


def _those(annotations: Mapping[str, str], names: Iterable[str]) -> Json:
    return {name: annotations[name] for name in names if name in annotations}


def _merged(live: Json, wanted: Json) -> Json:
    """Return the live object with our spec, labels and annotations; what others added to its metadata stays.

    Raises
    ------
    Unavailable
        Where the object is somebody else's.
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
