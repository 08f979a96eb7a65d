"""A sampler for each Prometheus server and each set of gateways, as one block feed for all plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.observation import Samples
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.services.sampler import Sampler
from cutover.services.server_time import ServerTime


class Place(NamedTuple):
    """Where requests are counted.

    Parameters
    ----------
    source
        Name of the Prometheus server.
    observers
        Namespaces of the gateways.
    """

    source: str
    observers: tuple[str, ...]


class Samplers:
    """Implements :class:`cutover.ports.block_feed.BlockFeed` for several Prometheus servers and gateways.

    Each server has its own samplers: a slow or missing server does not affect the plans of another. Of one server, plans
    with the same gateways share a sampler. So which scrapes a block waits for, and when blocks end, depends on the plan's
    own gateways only, and so does which series the queries read.

    Parameters
    ----------
    prometheus
        Clients by name of the source; ``""`` is the default.
    dialect
        What to query, and how to read the answers.
    clock
        The operator's clock.
    on_samples, settle
        As for :class:`Sampler`.
    """

    def __init__(
        self,
        prometheus: Mapping[str, Prometheus],
        dialect: Dialect,
        clock: Clock,
        *,
        on_samples: Callable[[str], None],
        settle: float = 1.0,
    ) -> None:
        self._prometheus = dict(prometheus)
        self._times = {name: ServerTime(client, clock) for name, client in self._prometheus.items()}
        self._dialect = dialect
        self._clock = clock
        self._on_samples = on_samples
        self._settle = settle
        self._samplers: dict[Place, Sampler] = {}
        self._places: dict[str, Place] = {}  # by plan
        self._ended = Sampled()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    @property
    def each(self) -> Mapping[Place, Sampler]:
        """The samplers that have plans."""
        return self._samplers

    @property
    def queries(self) -> int:
        """Queries asked."""
        return self._ended.queries + sum(sampler.queries for sampler in self._samplers.values())

    @property
    def errors(self) -> int:
        """Queries that failed."""
        return self._ended.errors + sum(sampler.errors for sampler in self._samplers.values())

    @property
    def refused(self) -> int:
        """Counters that named gateways and were of other scrape targets, each time they were seen."""
        return self._ended.refused + sum(sampler.refused for sampler in self._samplers.values())

    @property
    def last_success(self) -> float:
        """Unix seconds of the last answer; of several samplers, that of the one that has had none for the longest time."""
        serving = [sampler.last_success for sampler in self._samplers.values()]
        return min(serving, default=self._ended.last_success)

    @property
    def lateness(self) -> float:
        """The largest delay of all samplers, in seconds between when the last blocks could be read and when they were."""
        return max((sampler.lateness for sampler in self._samplers.values()), default=0.0)

    def now(self, source: str) -> float:
        """Return Unix seconds by a source's clock; by the operator's where there is no such source."""
        time = self._times.get(source)
        return self._clock.now() if time is None else time.now()

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        """Deliver the blocks of a plan; a plan that changed its source or its gateways starts over."""
        place = Place(subscription.source, subscription.observers)
        if self._places.get(key, place) != place:
            self.forget(key)
        self._places[key] = place
        if place.source not in self._prometheus:
            return
        sampler = self._samplers.get(place)
        if sampler is None:
            sampler = self._samplers[place] = self._make(place)
            self._start(place)
        sampler.watch(key, subscription)

    def forget(self, key: str) -> None:
        """Stop delivering a plan's blocks."""
        place = self._places.pop(key, None)
        if place is None or (sampler := self._samplers.get(place)) is None:
            return
        sampler.forget(key)
        if not sampler.serving:
            del self._samplers[place]
            self._ended.add(sampler)
            if task := self._tasks.pop(place, None):
                task.cancel()

    def take(self, key: str) -> Samples:
        """Return the blocks since the last call, oldest first and without holes, and whether Prometheus answers."""
        place = self._places.get(key)
        if place is None:
            return Samples()
        sampler = self._samplers.get(place)
        return Samples(error=_unknown(place.source)) if sampler is None else sampler.take(key)

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``. Raises Unavailable."""
        place = Place(subscription.source, subscription.observers)
        if place.source not in self._prometheus:
            raise Unavailable(_unknown(place.source))
        if sampler := self._samplers.get(place):
            return await sampler.histogram(subscription)
        sampler = self._make(place)
        try:
            return await sampler.histogram(subscription)
        finally:
            self._ended.add(sampler)

    async def reconcile(self) -> None:
        """Read for all plans what is readable now."""
        await asyncio.gather(*(sampler.reconcile() for sampler in tuple(self._samplers.values())))

    async def run(self) -> None:
        """Serve all plans of all sources. Never returns."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for place in self._samplers:
                    self._start(place)
                await asyncio.Event().wait()
        finally:
            self._group = None
            self._tasks.clear()

    def _make(self, place: Place) -> Sampler:
        return Sampler(
            self._prometheus[place.source],
            self._dialect,
            self._clock,
            on_samples=self._on_samples,
            settle=self._settle,
            time=self._times[place.source],
        )

    def _start(self, place: Place) -> None:
        if self._group is not None:
            self._tasks[place] = self._group.create_task(self._samplers[place].run())


@dataclass(slots=True)
class Sampled:
    """What samplers did that have ended: counts must not fall."""

    queries: int = 0
    errors: int = 0
    refused: int = 0
    last_success: float = 0.0

    def add(self, sampler: Sampler) -> None:
        """Add what a sampler did."""
        self.queries += sampler.queries
        self.errors += sampler.errors
        self.refused += sampler.refused
        self.last_success = max(self.last_success, sampler.last_success)


def _unknown(source: str) -> str:
    return f"the operator's settings have no Prometheus named {source!r}"
