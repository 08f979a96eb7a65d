"""Blocks for all plans from one shared set of Prometheus queries.

At the end of each block the legs of all plans with blocks of that length are read together: one query for the gateways,
and two for each 200 destinations. A plan that is behind, after a restart or an outage, joins the plans that need the same
block. Blocks are cut from raw samples at their own times (see :mod:`cutover.domain.evidence.counting`), so that a late block
equals a punctual one.

All times are Prometheus' own: the operator's clock, corrected by the skew that the client measures.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.counters import Counter, CounterLabels
from cutover.domain.evidence.counting import Reading, cumulative
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result, Source, source_of
from cutover.domain.evidence.selectors import milliseconds
from cutover.domain.observation import Samples
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.services.block_queue import BlockQueue
from cutover.services.reading import LONGEST_REPLAY, SCRAPE_JITTER, best_phase, blocks_of, range_selector

_logger = logging.getLogger(__name__)

#: Prometheus finds up to 256 alternatives of a matcher by index; beyond that it tries the pattern on every label value.
DESTINATIONS_PER_QUERY = 200
#: Prometheus evaluates the next destinations while the previous ones are cut; more would only take memory.
_CHUNKS_AT_ONCE = 3
#: Limits of one query, which bound its answer: a long time for few destinations, or a short time for many.
_SHORTEST_REPLAY, _DESTINATION_SECONDS = 300.0, 60_000.0
#: Older blocks are not delivered: there would be thousands, and no checkpoint is that old.
OLDEST_BLOCK = 24 * 3600.0
#: Undelivered blocks after which no more are read for a plan.
_MOST_WAITING = 1000
_RETRY_SECONDS = 5.0
#: Seconds until the times of the gateways' scrapes are read again, and the shift that is ignored.
_PHASE_SECONDS = 600.0
_SAME_PHASE = 0.25
#: Fraction of a scrape interval after which the sampler checks again for an awaited scrape.
_LOOK_AGAIN = 0.05
_LONGEST_SLEEP = 60.0
#: Seconds by which the measured skew may change without effect.
_SAME_TIME = 0.25
#: Up to this age a histogram is summed exactly, from samples; beyond it Prometheus sums it, and extrapolates a little.
_EXACT_HISTOGRAM = 900.0
_LONGEST_HISTOGRAM = 24 * 3600.0

_T = TypeVar("_T")


class Sampler:
    """Reads the counters of all plans of one Prometheus that share a dialect.

    Parameters
    ----------
    prometheus
        The server to query.
    dialect
        What to query, and how to read the answers.
    clock
        The operator's clock.
    scrape_interval
        Seconds between two scrapes of the gateways.
    settle
        Seconds from the end of a block until it is read: a scrape has the time of its start, and is visible after its end.
        Where a scrape takes longer, the block waits for it.
    on_samples
        Called with a plan's key when it has new blocks, and when an outage begins or ends.
    destinations_per_query
        Legs that one query reads.
    phase
        Seconds after a multiple of their length at which blocks end; by default just after the gateways' scrapes.

    Attributes
    ----------
    queries, errors
        Queries made, and how many of them failed.
    last_success
        Unix seconds of the last answer.
    lateness
        Seconds between when the last blocks could be read and when they were.
    waits
        Times that blocks were postponed because a scrape was not visible yet.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        dialect: Dialect,
        clock: Clock,
        *,
        on_samples: Callable[[str], None],
        scrape_interval: float = 15.0,
        settle: float = 1.0,
        destinations_per_query: int = DESTINATIONS_PER_QUERY,
        phase: float | None = None,
    ) -> None:
        self.queries = 0
        self.errors = 0
        self.last_success = 0.0
        self.lateness = 0.0
        self.waits = 0
        self.settle = settle
        self._prometheus = prometheus
        self._dialect = dialect
        self._clock = clock
        self._on_samples = on_samples
        self._scrape_interval = scrape_interval
        self._reach = REACH_IN_SCRAPES * scrape_interval
        self._look_again = _LOOK_AGAIN * scrape_interval
        self._plans_per_query = max(1, destinations_per_query // 2)
        self._feeds: dict[str, BlockQueue] = {}
        self._changed = asyncio.Event()
        self._gateways: dict[int, frozenset[Source]] = {}  # with counters when blocks of a length were read last
        self._awaited = 0.0  # end of the block that was postponed last
        self._patience = 0.0  # as ``settle``, where that turned out to be too short
        self._phase = phase
        self._find_phase_at = 0.0 if phase is None else math.inf  # by the operator's clock
        self._skew = 0.0
        self._ahead: float | None = None  # wall clock minus steady clock, when the clocks were compared

    def now(self) -> float:
        """Return Unix seconds by Prometheus' clock, as well as it is known.

        The time jumps when a new skew is measured, as if the clock were set.
        """
        skew = self._prometheus.skew
        if abs(skew - self._skew) > _SAME_TIME:
            self._skew = skew
        return self._clock.now() + self._skew

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        """Deliver the blocks of a plan that end after ``subscription.since``.

        Call it at every reconcile, with the end of the last consumed block: it is cheap where that is the last delivered
        block, and seeks otherwise. New thresholds apply to blocks that are not read yet.
        """
        length = subscription.block_seconds
        since = max(subscription.since, self.now() - OLDEST_BLOCK)
        # Without a phase there are no block boundaries yet.
        position = since if self._phase is None else self._first_after(since, length)
        feed = self._feeds.get(key)
        if feed is None or _legs(feed.subscription) != _legs(subscription):
            self._feeds[key] = BlockQueue(subscription, position, position)
            self._changed.set()
            return
        changed = feed.subscription.since != subscription.since
        feed.subscription = subscription
        if position != feed.delivered:
            # A plan that never consumes must not cause its blocks to be read again and again.
            feed.seek(position, again=changed)
            self._changed.set()

    def forget(self, key: str) -> None:
        """Stop delivering a plan's blocks."""
        self._feeds.pop(key, None)

    @property
    def serving(self) -> bool:
        """Whether there is any plan to deliver blocks to."""
        return bool(self._feeds)

    def take(self, key: str) -> Samples:
        """Return the blocks since the last call, oldest first and without holes, and whether Prometheus answers."""
        feed = self._feeds.get(key)
        if feed is None:
            return Samples()
        return Samples(feed.deliver(), feed.error)

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``, of at most the last 24 hours.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        end = self.now() - self.settle
        start = max(subscription.since, end - _LONGEST_HISTOGRAM)
        if start >= end:
            return Histogram({})
        selector, labels = self._dialect.heroku_latencies(subscription), self._dialect.labels
        bounds: dict[float, float] = {}
        if end - start <= _EXACT_HISTOGRAM:
            window = end - start + self._reach
            presence, buckets = await asyncio.gather(
                self._presence(subscription.observers, window, end), self._counters(selector, window, end)
            )
            with unavailable_if_malformed(self._dialect.labels.product):
                reading = Reading()
                reading.add_presence(presence)
                reading.add_counters(buckets)
                namespaces = subscription.observers
                bounds = cumulative(reading, subscription.heroku, namespaces, start=start, end=end, reach=self._reach)
        else:
            expression = f"sum by (le) (increase({selector}[{milliseconds(end - start)}]))"
            result = await self._answer(self._prometheus.query(expression, end))
            with unavailable_if_malformed(self._dialect.labels.product):
                for item in result:
                    bound = labels.milliseconds(item["metric"]["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + float(item["value"][1])
        rising, most = dict[float, float](), 0.0
        for bound in sorted(bounds):
            rising[bound] = most = max(most, bounds[bound])
        return Histogram(rising)

    async def run(self) -> None:
        """Deliver blocks to all plans. Never returns."""
        while True:
            self._changed.clear()
            try:
                await self.reconcile()
                delay = self._next_read() - self.now()
            except Exception:
                # A bug that one plan triggers must not stop the blocks of all others.
                _logger.exception("reading blocks failed")
                delay = _RETRY_SECONDS
            try:
                async with asyncio.timeout(max(delay, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def reconcile(self) -> None:
        """Read what is readable now: of each plan the blocks that ended, or as many as one query may cover."""
        if self._feeds and not await self._compare_clocks():
            return
        now = self.now()
        if self._feeds and not self._phase_is_known():
            try:
                await self._find_phase(now)
            except Unavailable as outage:
                if self._phase is None:
                    self._failed(self._feeds, str(outage))
            now = self.now()
        if self._phase is None:
            return
        groups: dict[tuple[int, float], dict[str, BlockQueue]] = {}
        for key, feed in self._feeds.items():
            if self._readable_at(feed) <= now:
                groups.setdefault((feed.subscription.block_seconds, feed.fetched), {})[key] = feed
        if groups:
            self.lateness = max(0.0, now - max(start + length for length, start in groups) - self.settle)
        # Up-to-date plans first: they must not wait for a long replay.
        for (length, start), feeds in sorted(groups.items(), key=lambda group: -group[0][1]):
            await self._serve(length, start, self._boundary(now - self.settle, length), feeds)

    async def _compare_clocks(self) -> bool:
        """Compare clocks with Prometheus before the first read, and again where the operator's clock was set.

        A block that is read before it began would be empty, and its requests would be in no block.
        """
        ahead = self._clock.now() - asyncio.get_running_loop().time()
        if self._ahead is None or abs(ahead - self._ahead) > _SAME_TIME:
            if all(self._pauses(feed) for feed in self._feeds.values()):
                return False
            try:
                await self._prometheus.compare_clocks()
            except Unavailable as outage:
                self.errors += 1
                self._failed(self._feeds, str(outage))
                return False
            self._ahead = ahead
        return True

    def _boundary(self, at: float, length: int) -> float:
        """Return the last block boundary at or before a time."""
        phase = self._phase or 0.0
        return math.floor((at - phase) / length) * length + phase

    def _first_after(self, since: float, length: int) -> float:
        """Return the first block boundary at or after a time.

        A block that ``since`` divides is left out, as a part of it may have been consumed.
        """
        before = self._boundary(since, length)
        return before if before == since else before + length

    async def _find_phase(self, now: float) -> None:
        """Find out when the gateways are scraped, and let blocks end just after the scrapes.

        Prometheus scrapes each target at a constant offset of its own. If a block ended just before the scrape, its last
        seconds would be known a whole interval later, and a rollback would be late by as much.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        namespaces = sorted({name for feed in self._feeds.values() for name in feed.subscription.observers})
        self._find_phase_at = self._clock.now() + _RETRY_SECONDS
        found = await self._answer(self._prometheus.query(self._dialect.last_scrapes(namespaces), now))
        with unavailable_if_malformed(self._dialect.labels.product):
            scrapes = [float(item["value"][1]) for item in found]
        phase = best_phase(scrapes, self._scrape_interval)
        self._find_phase_at = self._clock.now() + _PHASE_SECONDS
        if phase is None:  # no gateway has served a request yet, or was scraped since
            self._find_phase_at = self._clock.now() + self._scrape_interval
            phase = self._phase or 0.0
        elif self._phase is None:
            phase = self._continued(phase)
        elif self._apart(phase, self._phase) <= _SAME_PHASE:
            return
        self._phase = phase
        for feed in self._feeds.values():
            # Blocks that are not read yet get the new boundaries.
            feed.blocks.clear()
            feed.delivered = feed.fetched = self._first_after(feed.delivered, feed.subscription.block_seconds)

    def _continued(self, phase: float) -> float:
        """Return the phase of the blocks that were consumed before a restart, if it still fits the scrapes."""
        known = (
            feed.delivered % self._scrape_interval
            for feed in self._feeds.values()
            if (feed.delivered * 4).is_integer()
        )
        return next((one for one in known if self._apart(one, phase) <= _SAME_PHASE), phase)

    def _apart(self, one: float, other: float) -> float:
        """Return the seconds between two phases, modulo the scrape interval."""
        distance = abs(one - other) % self._scrape_interval
        return min(distance, self._scrape_interval - distance)

    def _readable_at(self, feed: BlockQueue) -> float:
        """Return when the next block of a plan can be read, by Prometheus' clock."""
        not_before = feed.not_before if self._pauses(feed) else 0.0
        if self._phase is None:
            return max(self._find_phase_at if self._phase_is_known() else 0.0, not_before) + self._skew
        if feed.waiting() >= _MOST_WAITING:
            return math.inf
        settled = feed.fetched + feed.subscription.block_seconds + max(self.settle, self._patience)
        return max(settled, not_before + self._skew)

    def _pauses(self, feed: BlockQueue) -> bool:
        """Tell whether a plan pauses after a failure. A longer wait comes from a clock that was set back, and is no pause."""
        return 0 < feed.not_before - self._clock.now() <= 2 * max(_RETRY_SECONDS, self._look_again)

    def _phase_is_known(self) -> bool:
        """Tell whether the times of the gateways' scrapes are recent enough."""
        left = self._find_phase_at - self._clock.now()
        return math.isinf(left) or 0 < left <= 2 * max(_PHASE_SECONDS, self._scrape_interval)

    def _next_read(self) -> float:
        # At least once a minute: the clock may have been set.
        latest = self.now() + _LONGEST_SLEEP
        return min([latest, *(self._readable_at(feed) for feed in self._feeds.values())])

    async def _serve(self, length: int, start: float, due: float, feeds: dict[str, BlockQueue]) -> None:
        """Read the same blocks for several plans, in chunks of destinations."""
        chunks = []
        for chunk in _chunks(feeds, self._plans_per_query):
            seconds = min(_DESTINATION_SECONDS / (2 * len(chunk)), *(feed.span for feed in chunk.values()))
            chunks.append((chunk, min(due, start + max(1, math.floor(seconds / length)) * length)))
        namespaces = sorted({name for feed in feeds.values() for name in feed.subscription.observers})
        last = max(end for _, end in chunks)
        try:
            # Presence before counters: a scrape that presence shows is in the counters, too.
            seen = min(self.now(), last + self.settle + self._scrape_interval)
            presence = await self._presence(namespaces, seen - start + self._reach, seen)
            with unavailable_if_malformed(self._dialect.labels.product):
                postponed = self._postpone(presence, length, last)
        except Unavailable as outage:
            self._failed(feeds, str(outage))
            return
        if postponed:
            for feed in feeds.values():
                feed.not_before = self._clock.now() + self._look_again
            return
        gateways: set[Source] = set()
        slots = asyncio.Semaphore(_CHUNKS_AT_ONCE)

        async def serve(chunk: dict[str, BlockQueue], end: float) -> None:
            async with slots:
                try:
                    gateways.update(await self._serve_chunk(length, start, end, chunk, presence))
                except Unavailable as outage:
                    self._failed(chunk, str(outage))

        await asyncio.gather(*(serve(chunk, end) for chunk, end in chunks))
        if gateways:
            self._gateways[length] = frozenset(gateways)

    async def _serve_chunk(
        self, length: int, start: float, end: float, feeds: dict[str, BlockQueue], presence: Result
    ) -> Iterable[Source]:
        """Read the blocks of some plans; return the gateways with counters. Raises Unavailable."""
        # A subscription that changes while Prometheus evaluates takes effect with the next read.
        subscriptions = {key: feed.subscription for key, feed in feeds.items()}
        reading = await self._read(list(subscriptions.values()), start, end, presence)
        if end + self.settle > self.now():
            # The skew is known only now, and by Prometheus' clock the read was too early.
            return ()
        for key, feed in feeds.items():
            blocks = blocks_of(reading, subscriptions[key], start=start, end=end, length=length, reach=self._reach)
            if self._feeds.get(key) is feed and feed.fetched == start:
                feed.blocks.extend(blocks)
                feed.fetched = end
                feed.error = ""
                if end - start <= length:  # up to date again
                    feed.span = LONGEST_REPLAY
                self._on_samples(key)
        return reading.counting()

    async def _read(
        self, subscriptions: Sequence[BlockSubscription], start: float, end: float, presence: Result
    ) -> Reading:
        selectors = self._dialect.counters(
            subscriptions, {leg for one in subscriptions for leg in (one.heroku, one.eks)}
        )
        window = end - start + self._reach
        answers = [await self._counters(selector, window, end) for selector in selectors]
        with unavailable_if_malformed(self._dialect.labels.product):
            return Reading.of_answers(presence, *answers)

    def _postpone(self, presence: Result, length: int, end: float) -> bool:
        """Tell whether a scrape of a gateway is due before the end of a block and not visible yet.

        A scrape is visible when it has ended, which may take a scrape interval, or longer where servers forward samples. A
        block that is cut without it would lack its increments, and so would the next block.
        """
        now, gateways, deadlines = self.now(), self._gateways.get(length), list[float]()
        for item in presence:
            labels = item["metric"]
            # Before the first block every target counts.
            if gateways is None or source_of(labels, labels.get("namespace", "")) in gateways:
                times = [sample[0] for sample in item["values"]]  # failed scrapes have a sample, too
                interval = min((later - at for at, later in pairwise(times)), default=self._scrape_interval)
                due = times[-1] + interval
                if due - SCRAPE_JITTER <= end:
                    deadlines.append(due + interval + self.settle)
        if any(now < deadline for deadline in deadlines):
            self.waits += 1
            self._awaited = end
            return True
        # The next block is read about as late as this one: where all scrapes are late that saves queries.
        if self._awaited != end:
            self._patience = max(0.0, self._patience - self._look_again)
        elif not deadlines:
            self._patience = min(now - end - self._look_again, self._scrape_interval)
        return False

    def _failed(self, feeds: dict[str, BlockQueue], text: str) -> None:
        for key, feed in feeds.items():
            if self._feeds.get(key) is not feed:
                continue
            feed.not_before = self._clock.now() + _RETRY_SECONDS
            feed.span = max(feed.span / 2, _SHORTEST_REPLAY)
            began = not feed.error
            feed.error = text
            if began:
                self._on_samples(key)

    async def _presence(self, namespaces: Sequence[str], window: float, at: float) -> Result:
        return await self._answer(
            self._prometheus.query(range_selector(self._dialect.presence(namespaces), window), at)
        )

    async def _counters(self, selector: str, window: float, at: float) -> Sequence[Counter[CounterLabels]]:
        labels = self._dialect.labels
        return await self._answer(self._prometheus.counters(range_selector(selector, window), at, labels))

    async def _answer(self, answer: Awaitable[_T]) -> _T:
        self.queries += 1
        try:
            result = await answer
        except Unavailable:
            self.errors += 1
            raise
        self.last_success = self.now()
        return result


def _legs(subscription: BlockSubscription) -> tuple[object, ...]:
    """Return what a plan cannot change without starting over."""
    return subscription.heroku, subscription.eks, subscription.observers, subscription.block_seconds


def _chunks(feeds: dict[str, BlockQueue], size: int) -> Iterator[dict[str, BlockQueue]]:
    keys = sorted(feeds)  # the same queries each time, for Prometheus' caches
    for first in range(0, len(keys), size):
        yield {key: feeds[key] for key in keys[first : first + size]}
