"""The traffic provider for Istio: compares a plan's objects with the API server's, and writes what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.live import (
    RESOURCES,
    Key,
    Live,
    RouteCache,
    key_of,
    named_by_us,
    not_on_heroku,
    split_weight,
    stamped_revision,
)
from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku, adopts, render, shape
from cutover.api.v1alpha1 import MigrationPlanSpec, OnDelete, Phase
from cutover.domain.engine.actions import Finalize, SetWeight
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio import route_adoptable
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.original import (
    ORIGINAL_ANNOTATION,
    ORIGINAL_LIMIT,
    note_original,
    read_original,
)
from cutover.domain.resources import Json
from cutover.domain.revision import Split
from cutover.domain.traffic import Capabilities, TrafficState
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Annotation with the last raise that was cancelled before it reached the route.
CALLED_OFF_ANNOTATION = "cutover.dev/called-off"

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
    """:class:`cutover.ports.traffic.TrafficProvider` with Istio.

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
    _answers: dict[Key, tuple[Json, Json]] = field(default_factory=dict, init=False)
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

        See :meth:`cutover.ports.traffic.TrafficProvider.set`.
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
            shape(plan, split, self.cluster_domain),
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
            spec, _ = istio_adopt.adopt(spec, plan, 0, shape(plan, rest.route.split, self.cluster_domain), ())
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
            named_by_us(metadata["name"]) or PLAN_LABEL in (known.body["metadata"].get("labels") or {})
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
        asked, answered = self._answers.get(key_of(wanted), (None, None))
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
            self._answers[key_of(wanted)] = (wanted["spec"], stored["spec"])
        else:
            self._answers.pop(key_of(wanted), None)


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
    if named_by_us(metadata["name"]) and not is_ours(metadata):
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
