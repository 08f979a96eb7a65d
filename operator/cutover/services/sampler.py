"""Blocks for all plans of the same gateways from one shared set of Prometheus queries.

At the end of each block the legs of all plans with blocks of that length are read together: one query for the gateways,
and two for each 200 destinations. A plan that is behind, after a restart or an outage, joins the plans that need the same
block. Blocks are cut from raw samples at their own times (see :mod:`cutover.domain.evidence.counting`), so that a late block
equals a punctual one.

Plans one of which makes a query fail for all are read apart from the others, in smaller and smaller groups
(:mod:`cutover.services.isolation`), until they are answered. So a query that takes long delays nobody else.

All times are Prometheus' own: the operator's clock, corrected by the skew that the client measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.lengths import UNSEEN_SECONDS
from cutover.domain.evidence.scrapes import Result, Source
from cutover.domain.observation import Samples
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.errors import QueryFailed, Unavailable
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.services.block_boundaries import TIMING_SECONDS, Boundaries
from cutover.services.block_queue import BlockQueue
from cutover.services.counter_reads import CounterReads, reach_of
from cutover.services.foreign_counters import ForeignCounters, read_foreign_counters
from cutover.services.isolation import Isolation
from cutover.services.late_scrapes import LOOK_AGAIN, LateScrapes
from cutover.services.reading import (
    LONGEST_REPLAY,
    MOST_WAITING,
    OLDEST_BLOCK,
    blocks_of,
)
from cutover.services.scrape_timing import ScrapeTiming, read_scrape_timing
from cutover.services.server_time import ServerTime

_logger = logging.getLogger(__name__)

#: Prometheus finds up to 256 alternatives of a matcher by index; beyond that it tries the pattern on every label value.
DESTINATIONS_PER_QUERY = 200
#: Prometheus evaluates the next destinations while the previous ones are cut; more would only take memory.
_CHUNKS_AT_ONCE = 3
#: Of plans that are read apart: parts of those whose query failed.
_APART_AT_ONCE = 2
#: Limits of one query, which bound its answer: a long time for few destinations, or a short time for many.
_SHORTEST_REPLAY, _DESTINATION_SECONDS = 300.0, 60_000.0
_RETRY_SECONDS = 5.0
_LONGEST_SLEEP = 60.0

_T = TypeVar("_T")


class _Span(NamedTuple):
    """The start and length of blocks, and the seconds between two scrapes that they are for."""

    start: float
    length: int
    scrape: float


class Sampler:
    """Reads the counters of all plans of one Prometheus that share a dialect and their gateways.

    Parameters
    ----------
    prometheus
        The server to query.
    dialect
        What to query, and how to read the answers.
    clock
        The operator's clock.
    settle
        Seconds from the end of a block until it is read: a scrape has the time of its start, and is visible after its end.
        Where a scrape takes longer, the block waits for it.
    on_samples
        Called with a plan's key when it has new blocks, and when an outage begins or ends.
    destinations_per_query
        Legs that one query reads.
    timing
        How often and when the gateways are scraped; by default as the samples show.
    time
        The server's time; given where several samplers share a server.

    Attributes
    ----------
    refused
        Counters that named the gateways and were of other scrape targets, each time they were seen.
    lateness
        Seconds between when the last blocks could be read and when they were.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        dialect: Dialect,
        clock: Clock,
        *,
        on_samples: Callable[[str], None],
        settle: float = 1.0,
        destinations_per_query: int = DESTINATIONS_PER_QUERY,
        timing: ScrapeTiming | None = None,
        time: ServerTime | None = None,
    ) -> None:
        self.refused = 0
        self.lateness = 0.0
        self.settle = settle
        self._dialect = dialect
        self._clock = clock
        self._on_samples = on_samples
        self._plans_per_query = max(1, destinations_per_query // 2)
        self._feeds: dict[str, BlockQueue] = {}
        self._changed = {
            False: asyncio.Event(),
            True: asyncio.Event(),
        }  # by whether it is about plans that are read apart
        self._late = LateScrapes()
        self._boundaries = Boundaries(clock, timing)
        self._foreign = ForeignCounters()
        self._time = time or ServerTime(prometheus, clock)
        self._reads = CounterReads(prometheus, dialect, self._time)

    def now(self) -> float:
        """Return Unix seconds by Prometheus' clock, as well as it is known."""
        return self._time.now()

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        """Deliver the blocks of a plan that end after ``subscription.since``.

        Call it at every reconcile, with the end of the last consumed block: it is cheap where that is the last delivered
        block, and seeks otherwise. New thresholds apply to blocks that are not read yet.
        """
        since = max(subscription.since, self.now() - OLDEST_BLOCK)
        # Before the scrapes were seen there are no block boundaries yet.
        position = self._boundaries.first_after(since, subscription) if self._boundaries.known else since
        feed = self._feeds.get(key)
        if feed is None or _legs(feed.subscription) != _legs(subscription):
            self._feeds[key] = BlockQueue(subscription, position, position)
            self._changed[False].set()
            return
        changed = feed.subscription.since != subscription.since
        feed.subscription = subscription
        if position != feed.delivered:
            # A plan that never consumes must not cause its blocks to be read again and again.
            feed.seek(position, again=changed)
            self._changed[feed.isolation.active].set()

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
        return Samples(feed.deliver(), feed.error, self._seen_interval(feed))

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``, of at most the last 24 hours. Raises Unavailable."""
        return await self._reads.histogram(subscription, self.now() - self.settle)

    @property
    def queries(self) -> int:
        """Queries made."""
        return self._reads.queries

    @property
    def errors(self) -> int:
        """Queries that failed, and comparisons of clocks."""
        return self._reads.errors

    @property
    def waits(self) -> int:
        """Times that blocks were postponed because a scrape was not visible yet."""
        return self._late.waits

    @property
    def last_success(self) -> float:
        """Unix seconds of the last answer."""
        return self._reads.last_success

    async def run(self) -> None:
        """Deliver blocks to all plans. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            for apart in (False, True):
                tasks.create_task(self._run(apart=apart))

    async def _run(self, *, apart: bool) -> None:
        while True:
            self._changed[apart].clear()
            try:
                await self._round(apart=apart)
                delay = self._next_read(apart=apart) - self.now()
            except Exception:
                # A bug that one plan triggers must not stop the blocks of all others.
                _logger.exception("reading blocks failed")
                delay = _RETRY_SECONDS
            try:
                async with asyncio.timeout(max(delay, 0.0)):
                    await self._changed[apart].wait()
            except TimeoutError:
                pass

    async def reconcile(self) -> None:
        """Read what is readable now: of each plan the blocks that ended, or as many as one query may cover."""
        for apart in (False, True):
            await self._round(apart=apart)

    async def _round(self, *, apart: bool) -> None:
        """Read what is readable now, of the plans that are read apart or of the others."""
        if not apart and self._feeds and not await self._prepare():
            return
        if not self._boundaries.known:
            return
        self._end_limits()
        now = self.now()
        groups: dict[tuple[float, int, float], dict[str, BlockQueue]] = {}
        for key, feed in self._feeds.items():
            if feed.isolation.active is apart and self._readable_at(feed) <= now:
                wanted = feed.subscription
                groups.setdefault((feed.fetched, wanted.block_seconds, wanted.scrape_seconds), {})[key] = feed
        if groups and not apart:
            self.lateness = max(0.0, now - max(start + length for start, length, _ in groups) - self.settle)
        # Up-to-date plans first: they must not wait for a long replay.
        for (start, length, scrape), feeds in sorted(groups.items(), key=lambda group: -group[0][0]):
            due = self._boundaries.last(now - self.settle, length, scrape)
            await self._serve(_Span(start, length, scrape), due, feeds, apart=apart)

    def _end_limits(self) -> None:
        """Let plans be read with all others again that were well for long enough."""
        now = self._clock.now()
        for feed in self._feeds.values():
            if feed.isolation.over(now):
                feed.isolation = Isolation()

    async def _prepare(self) -> bool:
        """Compare the clocks, and look how often and when the gateways are scraped; return whether the clocks are known.

        A block that is read before it began would be empty, and its requests would be in no block.
        """
        if not self._time.known:
            if all(feed.pauses(self._clock.now()) for feed in self._feeds.values()):
                return False
            try:
                await self._time.compare()
            except Unavailable as outage:
                self._reads.errors += 1
                self._failed(self._feeds, str(outage))
                return False
        if not self._boundaries.recent:
            began = not self._boundaries.known
            try:
                await self._find_scrape_timing(self.now())
            except Unavailable as outage:
                if not self._boundaries.known:
                    self._failed(self._feeds, str(outage))
            if began and self._boundaries.known:
                self._changed[True].set()
        return True

    async def _find_scrape_timing(self, now: float) -> None:
        """Find out how often and when the gateways are scraped, and let blocks end just after the scrapes.

        Prometheus scrapes each target at a constant offset of its own. If a block ended just before the scrape, its last
        seconds would be known a whole interval later, and a rollback would be late by as much.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        namespaces = sorted({name for feed in self._feeds.values() for name in feed.subscription.observers})
        self._boundaries.look_again_in(_RETRY_SECONDS)
        found = await read_scrape_timing(self._reads.prometheus, self._dialect, namespaces, now, self._reads.answer)
        # No gateway has served a request yet, or was scraped since.
        self._boundaries.look_again_in(TIMING_SECONDS if found.intervals else UNSEEN_SECONDS)
        await self._find_foreign_counters(namespaces, now)
        began = not self._boundaries.known
        changed = self._boundaries.learn(
            found, [(feed.delivered, feed.subscription.scrape_seconds) for feed in self._feeds.values()]
        )
        for key, feed in self._feeds.items():
            if began or feed.subscription.scrape_seconds in changed:
                # Blocks that are not read yet get the new boundaries.
                feed.blocks.clear()
                feed.delivered = feed.fetched = self._boundaries.first_after(feed.delivered, feed.subscription)
            if self._seen_interval(feed) not in (None, feed.subscription.scrape_seconds):
                self._on_samples(key)

    async def _find_foreign_counters(self, namespaces: Sequence[str], now: float) -> None:
        """Look for counters that name the gateways and are of other scrape targets. Blocks do not depend on it."""
        before = self._foreign
        with contextlib.suppress(Unavailable):
            self._foreign = await self._reads.answer(
                read_foreign_counters(self._reads.prometheus, self._dialect, namespaces, now)
            )
            self.refused += self._foreign.counters
        if self._foreign.told.keys() - before.told.keys():
            _logger.warning("%s", self._foreign.sentence)

    def _seen_interval(self, feed: BlockQueue) -> float | None:
        """Return the seconds between two scrapes of a plan's gateways, as seen lately."""
        return self._boundaries.interval(feed.subscription.observers)

    def _readable_at(self, feed: BlockQueue) -> float:
        """Return when the next block of a plan can be read, by Prometheus' clock."""
        not_before = feed.not_before if feed.pauses(self._clock.now()) else 0.0
        if not self._boundaries.known:
            return max(self._boundaries.look_at if self._boundaries.recent else 0.0, not_before) + self._time.skew
        if feed.waiting() >= MOST_WAITING:
            return math.inf
        settled = feed.fetched + feed.subscription.block_seconds + max(self.settle, self._late.patience)
        return max(settled, not_before + self._time.skew)

    def _next_read(self, *, apart: bool) -> float:
        # At least once a minute: the clock may have been set.
        latest = self.now() + _LONGEST_SLEEP
        return min(
            [latest, *(self._readable_at(feed) for feed in self._feeds.values() if feed.isolation.active is apart)]
        )

    async def _serve(self, span: _Span, due: float, feeds: dict[str, BlockQueue], *, apart: bool) -> None:
        """Read the same blocks for several plans, in chunks of destinations."""
        start, length, scrape = span
        chunks = []
        for chunk in _chunks(feeds, self._plans_per_query):
            seconds = min(_DESTINATION_SECONDS / (2 * len(chunk)), *(feed.span for feed in chunk.values()))
            chunks.append((chunk, min(due, start + max(1, math.floor(seconds / length)) * length)))
        namespaces = sorted({name for feed in feeds.values() for name in feed.subscription.observers})
        last = max(end for _, end in chunks)
        try:
            # Presence before counters: a scrape that presence shows is in the counters, too.
            seen = min(self.now(), last + self.settle + scrape)
            presence = await self._reads.presence(namespaces, seen - start + reach_of(scrape), seen)
            with unavailable_if_malformed(self._dialect.labels.product):
                postponed = self._postpone(presence, span, last, apart=apart)
        except Unavailable as outage:
            self._failed(feeds, str(outage))
            return
        if postponed:
            for feed in feeds.values():
                feed.wait(LOOK_AGAIN * scrape, self._clock.now())
            return
        gateways: set[Source] = set()
        slots = asyncio.Semaphore(_APART_AT_ONCE if apart else _CHUNKS_AT_ONCE)

        async def serve(chunk: dict[str, BlockQueue], end: float) -> None:
            async with slots:
                try:
                    gateways.update(await self._serve_chunk(span, end, chunk, presence))
                except QueryFailed as failure:
                    self._refused(chunk, span, end, str(failure))
                except Unavailable as outage:
                    self._failed(chunk, str(outage))

        await asyncio.gather(*(serve(chunk, end) for chunk, end in chunks))
        if gateways and not apart:
            self._late.note(length, gateways)

    async def _serve_chunk(
        self, span: _Span, end: float, feeds: dict[str, BlockQueue], presence: Result
    ) -> Iterable[Source]:
        """Read the blocks of some plans; return the gateways with counters. Raises Unavailable."""
        start, length, reach = span.start, span.length, reach_of(span.scrape)
        # A subscription that changes while Prometheus evaluates takes effect with the next read.
        subscriptions = {key: feed.subscription for key, feed in feeds.items()}
        reading = await self._reads.read(
            list(subscriptions.values()), end - start + reach, end, presence, self._foreign.sentence
        )
        if end + self.settle > self.now():
            # The skew is known only now, and by Prometheus' clock the read was too early.
            return ()
        for key, feed in feeds.items():
            blocks = blocks_of(reading, subscriptions[key], start=start, end=end, length=length, reach=reach)
            if self._feeds.get(key) is feed and feed.fetched == start:
                feed.blocks.extend(blocks)
                feed.fetched = end
                feed.error = ""
                if feed.isolation.active:
                    feed.isolation.answered()
                    self._changed[False].set()  # read with the others from now on
                if end - start <= length:  # up to date again
                    feed.span = LONGEST_REPLAY
                self._on_samples(key)
        self.refused += sum(reading.refused.values())
        return reading.counting()

    def _postpone(self, presence: Result, span: _Span, end: float, *, apart: bool) -> bool:
        """Tell whether blocks have to wait for a scrape of a gateway that is due and not visible yet."""
        now, due = self.now(), self._late.due(presence, span.length, span.scrape, end, self.settle)
        if apart:  # plans that are read late say nothing about how late scrapes are
            return due.late(now)
        if self._late.postpones(due, span.scrape, end, now):
            return True
        if due.odd and not math.isinf(self._boundaries.look_at):
            self._boundaries.look_at = 0.0  # with the next block
        return False

    def _refused(self, chunk: dict[str, BlockQueue], span: _Span, end: float, text: str) -> None:
        """Note that a query for some plans has no usable answer: ask for less time, or else for fewer plans."""
        if end - span.start > max(_SHORTEST_REPLAY, span.length):
            self._failed(chunk, text)
            return
        now = self._clock.now()
        pauses = {key: feed.isolation.failed(len(chunk), now) for key, feed in chunk.items()}
        if len(chunk) == 1:
            reason = f"{text}; asked about this plan alone: have its legs too many series, or is Prometheus slow?"
            self._failed(chunk, reason, *pauses.values())
            return
        for feed in chunk.values():
            feed.error = text  # for whoever looks; most plans have their blocks again in a moment
        self._changed[True].set()

    def _failed(self, feeds: dict[str, BlockQueue], text: str, pause: float = _RETRY_SECONDS) -> None:
        for key, feed in feeds.items():
            if self._feeds.get(key) is not feed:
                continue
            feed.wait(pause, self._clock.now())
            feed.span = max(feed.span / 2, _SHORTEST_REPLAY)
            began = not feed.error
            feed.error = text
            if began:
                self._on_samples(key)


def _legs(subscription: BlockSubscription) -> tuple[object, ...]:
    """Return what a plan cannot change without starting over."""
    one = subscription
    return one.heroku, one.eks, one.observers, one.block_seconds, one.scrape_seconds


def _chunks(feeds: dict[str, BlockQueue], size: int) -> Iterator[dict[str, BlockQueue]]:
    """Divide plans, those that may share a query after each other."""

    def most(key: str) -> int:
        return min(feeds[key].isolation.most or size, size)

    # The same queries each time, for Prometheus' caches.
    for number, keys in groupby(sorted(feeds, key=lambda key: (most(key), key)), key=most):
        together = list(keys)
        for first in range(0, len(together), number):
            yield {key: feeds[key] for key in together[first : first + number]}
