"""The traffic provider for Istio: compares a plan's objects with the API server's, and writes what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from cutover.adapters.kube.answers import NotServed
from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.live import (
    Live,
    RouteCache,
    not_on_heroku,
    split_weight,
    stamped_revision,
)
from cutover.adapters.traffic.istio.objects import Objects
from cutover.adapters.traffic.istio.previews import Previews
from cutover.adapters.traffic.istio.recorded import name_of, originals_of, recorded_originals, wrote
from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku, adopts, probe_routes, render
from cutover.adapters.traffic.istio.trial import ended_spec, trial_revision, trial_spec, users_have_it
from cutover.adapters.traffic.istio.whole import (
    CALLED_OFF_ANNOTATION,
    completed,
    restored,
    takes_over,
    without_label,
)
from cutover.api.v1alpha1 import MigrationPlanSpec, OnDelete, Ownership
from cutover.domain.engine.actions import EndTrial, Finalize, GiveBack, SetWeight, Try
from cutover.domain.marks import PLAN_UID_ANNOTATION, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio import route_adoptable
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import route_name
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods
from cutover.domain.resources import Json
from cutover.domain.revision import Split, Trial
from cutover.domain.traffic import Capabilities, TrafficState
from cutover.ports.errors import Conflict, Gone, Unavailable

P = ParamSpec("P")
T = TypeVar("T")

#: Characters of an object from which on it is compared beside the event loop: some 500 routes.
LONG_ROUTE = 64 << 10

#: A split for uses that need only the objects' names, or what the route refers to, which does not depend on the split.
_ANY = Split(attempt=0, weight=0)

#: The gateways count both legs' requests and stamp their answers. A rollback is one write and one push.
CAPABILITIES = Capabilities(
    provider="Istio",
    confirms_share=True,
    stamps_revision=True,
    common_vantage=True,
    probes_leg=True,
    probes_eks=True,
    tries=True,
    rollback_seconds=2.0,
    where_to_look="istiod and the gateway's proxies",
)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The result of a comparison of a plan's objects, with its inputs."""

    spec: MigrationPlanSpec
    uid: str
    wanted: Split | Trial
    preview: PreviewPods | None
    live: list[Live | None]
    state: TrafficState

    def holds(self, plan: Plan, wanted: Split | Trial, preview: PreviewPods | None, cache: RouteCache) -> bool:
        """Tell whether the inputs are unchanged."""
        return (
            plan.spec is self.spec
            and plan.uid == self.uid
            and wanted == self.wanted
            and preview == self.preview
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
    # By plan. Nearly every reconcile compares the same objects with the same plan again.
    _compared: dict[str, _Comparison] = field(default_factory=dict, init=False)
    _previews: Previews = field(init=False)
    _objects: Objects = field(init=False)

    def __post_init__(self) -> None:
        self._previews = Previews(self.cluster)
        self._objects = Objects(self.cluster, self.cache)

    @property
    def capabilities(self) -> Capabilities:
        """What Istio can do."""
        return CAPABILITIES

    async def get(self, plan: Plan, wanted: Split | Trial | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with the split, or the trial, that is wanted.

        Where no split is wanted, the weight is the percent that does not go to Heroku, but possibly to another plan's
        Service; where nothing is wanted, every route counts as current. The answer comes from the watch cache unless
        ``fresh``. Raises Unavailable.
        """
        preview = self._previews.of(plan) if wanted is not None else None
        if not fresh and (known := self._compared.get(plan.key)) is not None:
            if wanted is not None and known.holds(plan, wanted, preview, self.cache):
                return known.state
            del self._compared[plan.key]
        bodies = self._render(plan, wanted or _ANY, preview)
        if wanted is None:
            bodies = bodies[-1:]
        # One after the other: nearly always all are in the cache, and a task for each would cost more than the reconcile.
        live = [await self._objects.live(body, fresh=fresh) for body in bodies]
        state = await _beside(live[-1], self._compare, plan, wanted, bodies, live)
        # Missing and unwatched objects and the team's VirtualService are compared each time.
        if wanted is not None and not adopts(plan) and all(one is not None and one.watched for one in live):
            self._compared[plan.key] = _Comparison(plan.spec, plan.uid, wanted, preview, live, state)
        return state

    def _compare(
        self, plan: Plan, wanted: Split | Trial | None, bodies: list[Json], live: list[Live | None]
    ) -> TrafficState:
        """Compare objects with those that are wanted, the route last."""
        before, route = not isinstance(wanted, Split), live[-1]
        taken, originals = bodies[-1], tuple(recorded_originals(plan))
        if not (before and adopts(plan) and route is not None and route_adoptable.too_large(route.body)):
            # Before the takeover too: the digests of the originals are recorded before these are written.
            split = wanted if isinstance(wanted, Split) else _ANY
            taken = completed(plan, split, taken, route, self.cluster_domain)
            originals = originals_of(plan, taken, route)
        bodies[-1] = self._tried(plan, wanted, bodies[-1], route) if isinstance(wanted, Trial) else taken
        drifted = [one for one, body in zip(live, bodies, strict=True) if not self._objects.matches(one, body)]
        present = [one for one in drifted or live if one is not None]
        seen = None if route is None else self._weight(route, plan, takeover=before)
        stamped = "" if route is None else self._revision(route, plan)
        tried = trial_revision(route.body["spec"] or {}, plan) if route is not None and (before or not stamped) else ""
        return TrafficState(
            weight=seen,
            revision=tried or stamped,
            # An adopted VirtualService may have lost all routes of the plan: then there is no weight to compare.
            current=wanted is None or not (drifted or (seen is None and not before)),
            # Only of drifted objects, if there are any: other managers may own fields of current objects legitimately.
            foreign=tuple(dict.fromkeys(manager for one in present for manager in one.managers)),
            written_at=None if route is None else route.written_at,
            version="" if route is None else route.version,
            name=name_of(bodies[-1]),
            originals=originals,
            trial=before and tried != "",
            gives_back=before and self._gives_back(plan, route),
            in_the_way=_in_the_way(plan, seen) if before and seen else "",
        )

    async def prepare(self, plan: Plan) -> None:
        """Write what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""
        await self._previews.read(plan)
        for body in self._render(plan, _ANY, self._previews.of(plan))[:-1]:
            await self._objects.write(body, await self._objects.live(body), plan)

    async def try_out(self, plan: Plan, write: Try) -> None:
        """Give the probes of both legs a route, without a change for any user. Raises Conflict, Unavailable.

        See :meth:`cutover.ports.traffic.TrafficProvider.try_out`.
        """
        *supports, route = self._render(plan, write.trial, self._previews.of(plan))
        known = await self._objects.live(route)
        self._expect(write.over, known, route)
        if adopts(plan) and (problem := route_adoptable.problem(plan, None if known is None else known.body)):
            raise Unavailable(f"not tried: {problem}")
        for body in supports:
            await self._objects.write(body, await self._objects.live(body), plan)
        await self._objects.write(self._tried(plan, write.trial, route, known), known, plan)

    async def give_back(self, plan: Plan, write: GiveBack) -> None:
        """Give users the routes back that they had before the takeover. Raises Conflict, Unavailable.

        See :meth:`cutover.ports.traffic.TrafficProvider.give_back`.
        """
        route = self._render(plan, write.trial)[-1]
        known = await self._objects.live(route)
        self._expect(write.over, known, route)
        if known is None:
            return
        probes = probe_routes(plan, write.trial.revision, self.cluster_domain)
        # A delegate without users' routes leaves their requests to the route behind the one that delegates.
        body = (
            restored(plan, known, self.cluster_domain)
            if adopts(plan)
            else {**known.body, "spec": {**route["spec"], "http": []}}
        )
        spec = trial_spec(body["spec"], body["spec"], plan, probes)
        try:
            await self._objects.replace({**body, "spec": spec})
        except Gone as error:
            raise Conflict(f"{error}; it existed a moment ago") from error

    async def end_trial(self, plan: Plan, end: EndTrial) -> None:
        """Take the probes' route away, if there is one and users have none. Raises Conflict, Unavailable."""
        kind, _, name = end.name.partition(" ")
        if kind != VIRTUAL_SERVICES.kind:
            return
        try:
            known = await self._objects.live(
                {"kind": kind, "metadata": {"namespace": plan.namespace, "name": name}}, fresh=True
            )
        except NotServed:
            return
        if known is not None:
            await self._end_trial(plan, known)

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Write the decided split into the routing objects; write only what differs. Raises Conflict, Unavailable.

        See :meth:`cutover.ports.traffic.TrafficProvider.set`.
        """
        route = self._render(plan, write.split)[-1]
        known = await self._objects.live(route)
        self._expect(write.over, known, route)
        takeover = known is None
        if adopts(plan):
            takeover = takes_over(plan, route, known)
            if takeover and (problem := route_adoptable.problem(plan, None if known is None else known.body)):
                raise Unavailable(f"not taken over: {problem}")
            route = await _beside(known, completed, plan, write.split, route, known, self.cluster_domain)
            if istio_adopt.live_weight(route["spec"], plan) is None:
                where = f"VirtualService {plan.namespace}/{route['metadata']['name']}"
                raise Unavailable(f"{where}: none of its http routes goes to a leg of the plan any more; put one back")
        if write.supersedes and self._objects.matches(known, route):
            # The resourceVersion has to change, and a write without a change would keep it.
            route["metadata"]["annotations"][CALLED_OFF_ANNOTATION] = write.supersedes
        if not takeover:
            # The weights first: a rollback waits for nothing.
            await self._objects.write(route, known, plan)
        for body in self._render(plan, write.split, self._previews.of(plan))[:-1]:
            await self._objects.write(body, await self._objects.live(body), plan)
        if takeover:
            # The route comes after what it refers to.
            await self._objects.write(route, known, plan)

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Leave traffic where the decision says, as the plan is deleted. Raises Conflict, Unavailable.

        The objects stay in place: without a VirtualService the host would answer 404. Where the plan never took over the
        host there is nothing to do, and the deletion does not wait. The route of an earlier plan of this name stays as
        that plan left it.
        """
        self._compared.pop(plan.key, None)
        self._previews.forget(plan)
        wanted = self._render(plan, _ANY)[-1]
        try:
            known = await self._objects.live(wanted, fresh=True)
        except NotServed:
            return
        if known is None or await self._end_trial(plan, known):
            return
        if adopts(plan):
            await self._release(plan, rest, known)
            return
        metadata = known.body["metadata"]
        uid = (metadata.get("annotations") or {}).get(PLAN_UID_ANNOTATION, plan.uid)
        took_over = plan.status.weight is not None or uid == plan.uid
        if rest.route is not None and (wrote(plan, wanted) or (is_ours(metadata) and took_over)):
            await self.set(plan, rest.route)

    def _weight(self, route: Live, plan: Plan, *, takeover: bool) -> int | None:
        spec = route.body["spec"] or {}
        if adopts(plan):
            return istio_adopt.eks_at_most(spec, plan) if takeover else istio_adopt.live_weight(spec, plan)
        if not users_have_it(spec, plan, teams=False):
            return None
        return not_on_heroku(route.body, plan) if takeover else split_weight(route.body, plan, self.cluster_domain)

    def _revision(self, route: Live, plan: Plan) -> str:
        return (
            istio_adopt.live_revision(route.body["spec"] or {}, plan) if adopts(plan) else stamped_revision(route.body)
        )

    @staticmethod
    def _expect(version: str | None, known: Live | None, route: Json) -> None:
        """Raise Conflict if the route has another version than the one that was decided on."""
        if version is not None and version != ("" if known is None else known.version):
            # A process that slept has another process' newer route from the watch, and would overwrite it.
            metadata = route["metadata"]
            raise Conflict(f"VirtualService {metadata['namespace']}/{metadata['name']} is not what was decided on")

    @staticmethod
    def _gives_back(plan: Plan, route: Live | None) -> bool:
        """Tell whether users have a route of the team's, which can come back after a takeover."""
        ours = route is not None and users_have_it(route.body["spec"] or {}, plan, teams=adopts(plan))
        return plan.spec.traffic.istio.ownership is not Ownership.GENERATE and not ours

    # ------------------------------------------------------------------------------------------------------- the trial

    def _tried(self, plan: Plan, trial: Trial, wanted: Json, live: Live | None) -> Json:
        """Return the wanted object of a trial, with the routes that are there already."""
        there = (live.body["spec"] or {}) if live is not None else {}
        probes = probe_routes(plan, trial.revision, self.cluster_domain)
        body = {**wanted, "spec": trial_spec(wanted["spec"], there, plan, probes)}
        # Nothing else of the team's object changes.
        return {**body, "metadata": {**wanted["metadata"], "labels": {}, "annotations": {}}} if adopts(plan) else body

    async def _end_trial(self, plan: Plan, live: Live) -> bool:
        """Take the probes' route away if users have none; tell whether the object had no other route of the plan's."""
        body = live.body
        spec, metadata = body["spec"] or {}, body["metadata"]
        teams = metadata["name"] != route_name(plan)
        if not teams and not is_ours(metadata):
            return False
        adopted = teams and (metadata.get("annotations") or {}).get(PLAN_UID_ANNOTATION) == plan.uid
        if adopted or wrote(plan, body) or users_have_it(spec, plan, teams=teams):
            return False
        if trial_revision(spec, plan):
            ended = ended_spec(spec, plan, self.cluster_domain, teams=teams)
            await self._objects.replace({**body, "spec": ended})
        return True

    # ------------------------------------------------------------------------------------------------------- Adopt

    async def _release(self, plan: Plan, rest: Finalize, live: Live) -> None:
        """Return an adopted VirtualService to the team. Raises Conflict, Unavailable."""
        metadata = live.body["metadata"]
        annotations, spec = dict(metadata.get("annotations") or {}), live.body["spec"] or {}
        # Without the annotation: a person removed it, or this plan never adopted the object.
        owner = annotations.get(PLAN_UID_ANNOTATION, plan.uid if plan.status.weight is not None else "")
        if owner != plan.uid and not wrote(plan, live.body):
            return
        if rest.route is not None and rest.end is OnDelete.HEROKU:
            body = restored(plan, live, self.cluster_domain)
        else:
            if rest.route is not None:
                split = rest.route.split
                spec = completed(plan, split, self._render(plan, split)[-1], live, self.cluster_domain)["spec"]
            metadata = {**metadata, "labels": without_label(metadata), "annotations": annotations}
            body = {**live.body, "metadata": metadata, "spec": spec}
        try:
            await self._objects.replace(body)
        except Gone:
            return

    def _render(self, plan: Plan, route: Split | Trial, preview: PreviewPods | None = None) -> list[Json]:
        return render(plan, route, development=self.development, cluster_domain=self.cluster_domain, preview=preview)


async def _beside(route: Live | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work on a route, beside the event loop where the route is so long that other plans would wait."""
    if route is None or len(route.text) <= LONG_ROUTE:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


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
