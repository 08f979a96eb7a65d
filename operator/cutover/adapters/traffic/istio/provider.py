"""The split in Istio: compares a plan's objects with those of the API server, and writes what differs."""

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
from cutover.ports import Conflict, Gone, Unavailable

#: Annotation that names the last raise that was called off before it came to the route.
CALLED_OFF_ANNOTATION = "cutover.dev/called-off"

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
    _answers: dict[Key, tuple[Json, Json]] = field(default_factory=dict, init=False)
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
            shape(plan, split, self.cluster_domain),
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
            spec, _ = istio_adopt.adopt(spec, plan, 0, shape(plan, rest.route.split, self.cluster_domain), ())
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
            raise Conflict(f"{error}; it was there a moment ago") from error
        except (Conflict, Unavailable):
            # After a time-out nobody knows whether the write was made: the next look is a fresh one.
            self.cache.drop(wanted)
            raise
        self.cache.put(stored)
        if stored["spec"] != wanted["spec"]:
            self._answers[key_of(wanted)] = (wanted["spec"], stored["spec"])
        else:
            self._answers.pop(key_of(wanted), None)


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
