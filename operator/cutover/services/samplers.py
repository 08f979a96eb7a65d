"""A sampler for each Prometheus server, as one block feed for all plans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.observation import Samples
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.services.sampler import Sampler


class Samplers:
    """Implements :class:`cutover.ports.block_feed.BlockFeed` for several Prometheus servers.

    Each server has its own sampler: a slow or missing server does not affect the plans of another.

    Parameters
    ----------
    prometheus
        Clients by name of the source; ``""`` is the default.
    dialect
        What to query, and how to read the answers.
    clock
        The operator's clock.
    scrape_intervals
        Seconds between two scrapes of the gateways, by name of the source.
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
        scrape_intervals: Mapping[str, float],
        settle: float = 1.0,
    ) -> None:
        self._clock = clock
        self._by_source = {
            name: Sampler(
                client, dialect, clock, on_samples=on_samples, scrape_interval=scrape_intervals[name], settle=settle
            )
            for name, client in prometheus.items()
        }
        self._sources: dict[str, str] = {}  # by plan

    @property
    def by_source(self) -> Mapping[str, Sampler]:
        """The samplers by name of their source."""
        return self._by_source

    @property
    def queries(self) -> int:
        """Queries asked."""
        return sum(sampler.queries for sampler in self._by_source.values())

    @property
    def errors(self) -> int:
        """Queries that failed."""
        return sum(sampler.errors for sampler in self._by_source.values())

    @property
    def last_success(self) -> float:
        """Unix seconds of the last answer; of several sources with plans, that of the source that is silent the longest."""
        serving = [sampler.last_success for sampler in self._by_source.values() if sampler.serving]
        return min(serving) if serving else max(sampler.last_success for sampler in self._by_source.values())

    @property
    def lateness(self) -> float:
        """The largest delay of all sources, in seconds between when the last blocks could be read and when they were."""
        return max(sampler.lateness for sampler in self._by_source.values())

    def now(self, source: str) -> float:
        """Return Unix seconds by a source's clock; by the operator's where there is no such source."""
        sampler = self._by_source.get(source)
        return self._clock.now() if sampler is None else sampler.now()

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        """Deliver the blocks of a plan; a plan that changed its source starts over."""
        if self._sources.get(key, subscription.source) != subscription.source:
            self.forget(key)
        self._sources[key] = subscription.source
        sampler = self._by_source.get(subscription.source)
        if sampler is not None:
            sampler.watch(key, subscription)

    def forget(self, key: str) -> None:
        """Stop delivering a plan's blocks."""
        sampler = self._by_source.get(self._sources.pop(key, ""))
        if sampler is not None:
            sampler.forget(key)

    def take(self, key: str) -> Samples:
        """Return the blocks since the last call, oldest first and without holes, and whether Prometheus answers."""
        source = self._sources.get(key, "")
        sampler = self._by_source.get(source)
        if sampler is None:
            return Samples(error=_unknown(source))
        return sampler.take(key)

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``. Raises Unavailable."""
        sampler = self._by_source.get(subscription.source)
        if sampler is None:
            raise Unavailable(_unknown(subscription.source))
        return await sampler.histogram(subscription)

    async def run(self) -> None:
        """Serve all plans of all sources. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            for sampler in self._by_source.values():
                tasks.create_task(sampler.run())


def _unknown(source: str) -> str:
    return f"the operator's settings have no Prometheus named {source!r}"
