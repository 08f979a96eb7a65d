"""The queries for blocks: what is asked of Prometheus about the gateways' counters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.counters import Counter, CounterLabels
from cutover.domain.evidence.counting import Reading, cumulative
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.services.reading import range_selector
from cutover.services.server_time import ServerTime

#: Up to this age a histogram is summed exactly, from samples; beyond it Prometheus sums it, and extrapolates a little.
_EXACT_HISTOGRAM = 900.0
_LONGEST_HISTOGRAM = 24 * 3600.0

_T = TypeVar("_T")


class CounterReads:
    """Reads the gateways' counters from one Prometheus by one dialect.

    Parameters
    ----------
    prometheus
        The server to query.
    dialect
        What to query, and how to read the answers.
    time
        The server's time.

    Attributes
    ----------
    queries, errors
        Queries made, and how many of them failed.
    last_success
        Unix seconds of the last answer.
    """

    def __init__(self, prometheus: Prometheus, dialect: Dialect, time: ServerTime) -> None:
        self.queries = 0
        self.errors = 0
        self.last_success = 0.0
        self.prometheus = prometheus
        self._dialect = dialect
        self._time = time

    async def read(
        self, subscriptions: Sequence[BlockSubscription], window: float, end: float, presence: Result, foreign: str
    ) -> Reading:
        """Read the counters of some plans' legs; ``foreign`` says whose counters are refused. Raises Unavailable."""
        selectors = self._dialect.counters(
            subscriptions, {leg for one in subscriptions for leg in (one.heroku, one.eks)}
        )
        reading = Reading(foreign)
        with unavailable_if_malformed(self._dialect.labels.product):
            reading.add_presence(presence)
        for selector in selectors:
            counters = await self._counters(selector, window, end)
            with unavailable_if_malformed(self._dialect.labels.product):
                reading.add_counters(counters)
            del counters  # before the next answer, as each may be long
        return reading

    async def histogram(self, subscription: BlockSubscription, until: float) -> Histogram:
        """Return Heroku's latency histogram from ``subscription.since`` until a time, of at most 24 hours.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        start = max(subscription.since, until - _LONGEST_HISTOGRAM)
        if start >= until:
            return Histogram({})
        selector, labels = self._dialect.heroku_latencies(subscription), self._dialect.labels
        bounds: dict[float, float] = {}
        if until - start <= _EXACT_HISTOGRAM:
            reach = reach_of(subscription.scrape_seconds)
            window = until - start + reach
            presence, buckets = await asyncio.gather(
                self.presence(subscription.observers, window, until), self._counters(selector, window, until)
            )
            with unavailable_if_malformed(self._dialect.labels.product):
                reading = Reading()
                reading.add_presence(presence)
                reading.add_counters(buckets)
                namespaces = subscription.observers
                bounds = cumulative(reading, subscription.heroku, namespaces, start=start, end=until, reach=reach)
        else:
            present = f"max_over_time({range_selector(self._dialect.presence(subscription.observers), until - start)})"
            increases = f"increase({range_selector(selector, until - start)})"
            expression = f"sum by (le) ({increases} and on (namespace, pod, job, instance) {present})"
            result = await self.answer(self.prometheus.query(expression, until))
            with unavailable_if_malformed(self._dialect.labels.product):
                for item in result:
                    bound = labels.milliseconds(item["metric"]["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + float(item["value"][1])
        rising, most = dict[float, float](), 0.0
        for bound in sorted(bounds):
            rising[bound] = most = max(most, bounds[bound])
        return Histogram(rising)

    async def presence(self, namespaces: Sequence[str], window: float, at: float) -> Result:
        """Return when the gateways of some namespaces were scraped. Raises Unavailable."""
        return await self.answer(self.prometheus.query(range_selector(self._dialect.presence(namespaces), window), at))

    async def _counters(self, selector: str, window: float, at: float) -> Sequence[Counter[CounterLabels]]:
        labels = self._dialect.labels
        return await self.answer(self.prometheus.counters(range_selector(selector, window), at, labels))

    async def answer(self, answer: Awaitable[_T]) -> _T:
        """Wait for the answer to a query, and count it. Raises Unavailable."""
        self.queries += 1
        try:
            result = await answer
        except Unavailable:
            self.errors += 1
            raise
        self.last_success = self._time.now()
        return result


def reach_of(scrape: float) -> float:
    """Return the seconds before a sample in which its predecessor must lie."""
    return REACH_IN_SCRAPES * scrape
