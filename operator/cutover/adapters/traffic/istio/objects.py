"""One of a plan's objects after the other: read, compared and written."""

from __future__ import annotations

from dataclasses import dataclass, field

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.live import RESOURCES, Key, Live, RouteCache, key_of
from cutover.adapters.traffic.istio.whole import fitted, merged
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.ports.errors import Conflict, Gone, Unavailable


@dataclass(slots=True)
class Objects:
    """Objects in the API server.

    Parameters
    ----------
    cluster
        The API server.
    cache
        Fed by the watches.
    """

    cluster: Cluster
    cache: RouteCache
    # By object, the spec that was sent and the spec that the API server stored, where they differ: an admission webhook or a
    # later version of Istio's CRDs may fill in fields. Otherwise every reconcile would find a difference and write again.
    _answers: dict[Key, tuple[Json, Json]] = field(default_factory=dict, init=False)

    async def replace(self, body: Json) -> None:
        """Write an object over the version that it has. Raises Conflict, Gone, Unavailable."""
        self.cache.drop(body)
        await self.cluster.replace(RESOURCES[body["kind"]], body)

    async def live(self, wanted: Json, *, fresh: bool = False) -> Live | None:
        """Return an object as the API server has it; ``None`` if it has none. Raises Unavailable."""
        known = None if fresh else self.cache.get(wanted)
        metadata = wanted["metadata"]
        # The watch delivers labelled objects only. The team's may not have the label yet, and somebody may have removed it.
        if known is not None and known.watched:
            return known
        try:
            body = await self.cluster.get(RESOURCES[wanted["kind"]], metadata["namespace"], metadata["name"])
        except Gone:
            self.cache.drop(wanted)
            return None
        return self.cache.put(body)

    def matches(self, live: Live | None, wanted: Json) -> bool:
        """Tell whether an object is as wanted, apart from what the API server filled in."""
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

    async def write(self, wanted: Json, live: Live | None, plan: Plan) -> None:
        """Write an object if it differs from what is there. Raises Conflict, Unavailable."""
        if live is not None:
            wanted = fitted(wanted, live.body, plan)
        if self.matches(live, wanted):
            return
        resource = RESOURCES[wanted["kind"]]
        try:
            if live is None:
                stored = await self.cluster.create(resource, wanted)
            else:
                stored = await self.cluster.replace(resource, merged(live.body, wanted, plan))
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
