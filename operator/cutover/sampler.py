"""Blocks for all plans from one shared set of Prometheus queries.

At the end of each block the legs of all plans that share its length are asked for together: three queries for up to 200
destinations. A plan that is behind, after a restart or an outage, joins those that wait for the same block; blocks are
cut from raw samples at their own times (see :mod:`cutover.core.series`), so that a late block equals a punctual one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cutover.core.blocks import Block
from cutover.core.observation import Histogram, Samples
from cutover.core.series import (
    REACH_IN_SCRAPES,
    Reading,
    Result,
    Source,
    bounds_matcher,
    cumulative,
    cut,
    matcher,
)
from cutover.ports import Clock, Target, Unavailable

_logger = logging.getLogger(__name__)

#: Prometheus finds up to 256 alternatives of a matcher by index; beyond that it tries the pattern on every label value.
DESTINATIONS_PER_QUERY = 200
#: What one query may ask for. A long time for few destinations, or a short time for many: it bounds the answer.
LONGEST_REPLAY, _SHORTEST_REPLAY = 3600.0, 300.0
_DESTINATION_SECONDS = 60_000.0
#: Older blocks are not delivered: they would be thousands, and no checkpoint is that old.
OLDEST_BLOCK = 24 * 3600.0
#: Blocks kept after they were handed out, for a plan that was reloaded after a conflict: two minutes of 5 s blocks.
_KEPT = 24
#: A plan that does not take its blocks is not served any further.
_MOST_WAITING = 1000
_RETRY_SECONDS = 5.0
#: Seconds until the gateways' scrapes are looked at again, and by how many they may have moved without consequence.
_PHASE_SECONDS = 600.0
_SAME_PHASE = 0.25
#: Seconds by which a scrape may begin late.
_SCRAPE_JITTER = 0.05
_LONGEST_SLEEP = 60.0
#: Up to this age a histogram is added up exactly, from samples; then Prometheus adds it up, which extrapolates a little.
_EXACT_HISTOGRAM = 900.0
_LONGEST_HISTOGRAM = 24 * 3600.0


class Prometheus(Protocol):
    """Instant queries."""

    async def query(self, promql: str, at: float) -> Result:
        """Evaluate an expression at a time in Unix seconds. Raises Unavailable."""


@dataclass(slots=True, eq=False)
class _Feed:
    """What one plan was told.

    Parameters
    ----------
    target
        What it asked for last.
    taken
        End of the last block that was handed out, or of the one before the first that is wanted.
    fetched
        End of the last block that is known.
    blocks
        The last that were handed out, for a plan that goes back, and then those that wait.
    not_before
        Unix seconds before which Prometheus is not asked again.
    span
        Seconds of blocks that are asked for at most. Halved where there is no answer: of many gateways an hour may be
        more than Prometheus gives in one, each time that it is asked.
    """

    target: Target
    taken: float
    fetched: float
    blocks: deque[Block] = field(default_factory=deque)
    error: str = ""
    error_since: float = 0.0
    not_before: float = 0.0
    span: float = LONGEST_REPLAY

    def waiting(self) -> int:
        """Return how many blocks are known and not handed out."""
        return round((self.fetched - self.taken) / self.target.block_seconds)

    def seek(self, position: float, *, again: bool) -> None:
        """Go on after another block; fetch it ``again`` where it is not kept."""
        if self.blocks and self.blocks[0].start <= position <= self.fetched:
            self.taken = position
        elif again:
            self.blocks.clear()
            self.taken = self.fetched = position

    def hand_out(self) -> tuple[Block, ...]:
        """Return the blocks that wait, and keep some for a plan that goes back."""
        blocks = tuple(block for block in self.blocks if block.end > self.taken)
        self.taken = self.fetched
        while len(self.blocks) > _KEPT:
            self.blocks.popleft()
        return blocks


class _LastRead(NamedTuple):
    """Up to which block all were read, how long after its end, and each source's newest scrape then."""

    end: float
    settle: float
    newest: dict[Source, float]


class Sampler:
    """Reads the gateways' counters for all plans; implements :class:`cutover.ports.Metrics`.

    Parameters
    ----------
    prometheus
        Where to ask.
    clock
        The time, which should be Prometheus' own.
    scrape_interval
        Seconds between two scrapes of the gateways.
    settle
        Seconds after the end of a block at which it is read: a scrape carries the time at which it began, and is seen
        when it ended. It is doubled, up to a scrape interval, when a scrape was seen too late.
    on_samples
        Called with a plan's key when it has new blocks, and when an outage begins or ends.
    destinations_per_query
        Legs that are asked for together.
    phase
        Seconds after a multiple of their length at which blocks end; by default just after the gateways are scraped.

    Attributes
    ----------
    queries, errors
        Queries asked, and how many of them failed.
    last_success
        Unix seconds of the last answer.
    lateness
        Seconds by which the last blocks were read later than they could have been.
    late_scrapes
        Times that a scrape was seen after its block had been read; its increments are in no block.
    """

    def __init__(
        self,
        prometheus: Prometheus,
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
        self.late_scrapes = 0
        self.settle = settle
        self._prometheus = prometheus
        self._clock = clock
        self._on_samples = on_samples
        self._scrape_interval = scrape_interval
        self._reach = REACH_IN_SCRAPES * scrape_interval
        self._plans_per_query = max(1, destinations_per_query // 2)
        self._feeds: dict[str, _Feed] = {}
        self._changed = asyncio.Event()
        self._last_read: dict[int, _LastRead] = {}  # by length of block
        self._phase = phase
        self._find_phase_at = 0.0 if phase is None else math.inf

    def watch(self, key: str, target: Target) -> None:
        """Deliver the blocks of a plan that end after ``target.since``.

        Call it at every pass, with the end of the last block that was consumed: it costs next to nothing where that is
        the last that was taken, and goes back or forth otherwise. New thresholds apply to blocks not read yet.
        """
        length = target.block_seconds
        since = max(target.since, self._clock.now() - OLDEST_BLOCK)
        # Before the phase is known there are no boundaries yet.
        position = since if self._phase is None else self._first_after(since, length)
        feed = self._feeds.get(key)
        if feed is None or _legs(feed.target) != _legs(target):
            self._feeds[key] = _Feed(target, position, position)
            self._changed.set()
            return
        changed = feed.target.since != target.since
        feed.target = target
        if position != feed.taken:
            # A plan that never consumes must not have all its blocks read again and again.
            feed.seek(position, again=changed)
            self._changed.set()

    def forget(self, key: str) -> None:
        """Stop delivering."""
        self._feeds.pop(key, None)

    def take(self, key: str) -> Samples:
        """Return the blocks since the last call, oldest first and without holes, and whether Prometheus answers."""
        feed = self._feeds.get(key)
        if feed is None:
            return Samples()
        return Samples(feed.hand_out(), feed.error, feed.error_since)

    async def histogram(self, target: Target) -> Histogram:
        """Return Heroku's latency histogram since ``target.since``, of at most the last 24 hours.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        end = self._clock.now() - self.settle
        start = max(target.since, end - _LONGEST_HISTOGRAM)
        if start >= end:
            return Histogram({})
        selector = _selector(
            "istio_request_duration_milliseconds_bucket",
            matcher("source_workload_namespace", target.gateway_namespaces),
            matcher("destination_service", [target.heroku]),
            'response_code!="0"',
        )
        bounds: dict[float, float] = {}
        if end - start <= _EXACT_HISTOGRAM:
            window = end - start + self._reach
            presence, buckets = await asyncio.gather(
                self._query(_up(target.gateway_namespaces), window, end), self._query(selector, window, end)
            )
            with _Understood():
                reading = Reading()
                reading.add_presence(presence)
                reading.add_counters(buckets)
                namespaces = target.gateway_namespaces
                bounds = cumulative(reading, target.heroku, namespaces, start=start, end=end, reach=self._reach)
        else:
            result = await self._ask(f"sum by (le) (increase({selector}[{_milliseconds(end - start)}]))", end)
            with _Understood():
                for item in result:
                    bound = float(item["metric"]["le"])
                    bounds[bound] = bounds.get(bound, 0.0) + float(item["value"][1])
        rising, most = dict[float, float](), 0.0
        for bound in sorted(bounds):
            rising[bound] = most = max(most, bounds[bound])
        return Histogram(rising)

    async def run(self) -> None:
        """Serve all plans, for ever."""
        while True:
            self._changed.clear()
            try:
                await self.tick()
                delay = self._next_read() - self._clock.now()
            except Exception:
                # One plan's surprise must not end the service of all others.
                _logger.exception("reading blocks failed")
                delay = _RETRY_SECONDS
            try:
                async with asyncio.timeout(max(delay, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def tick(self) -> None:
        """Read what can be read now: of each plan the blocks that ended, or as many as one query may ask for."""
        now = self._clock.now()
        if self._feeds and now >= self._find_phase_at:
            try:
                await self._find_phase(now)
            except Unavailable as outage:
                if self._phase is None:
                    self._failed(self._feeds, str(outage))
        if self._phase is None:
            return
        groups: dict[tuple[int, float], dict[str, _Feed]] = {}
        for key, feed in self._feeds.items():
            if self._readable_at(feed) <= now:
                groups.setdefault((feed.target.block_seconds, feed.fetched), {})[key] = feed
        if groups:
            self.lateness = max(0.0, now - max(start + length for length, start in groups) - self.settle)
        # The plans that are up to date first; a long replay does not make them wait.
        for (length, start), feeds in sorted(groups.items(), key=lambda group: -group[0][1]):
            due = self._boundary(now - self.settle, length)
            for chunk in _chunks(feeds, self._plans_per_query):
                seconds = min(_DESTINATION_SECONDS / (2 * len(chunk)), *(feed.span for feed in chunk.values()))
                end = min(due, start + max(1, math.floor(seconds / length)) * length)
                try:
                    await self._serve(length, start, end, chunk)
                except Unavailable as outage:
                    self._failed(chunk, str(outage))

    def _boundary(self, at: float, length: int) -> float:
        """Return the last boundary between blocks that is not after a time."""
        phase = self._phase or 0.0
        return math.floor((at - phase) / length) * length + phase

    def _first_after(self, since: float, length: int) -> float:
        """Return the first boundary between blocks that is not before a time.

        A block that is cut by ``since`` is left out, as a part of it may have been consumed.
        """
        before = self._boundary(since, length)
        return before if before == since else before + length

    async def _find_phase(self, now: float) -> None:
        """Find out when gateways are scraped, and let blocks end just after.

        Prometheus scrapes each target at an offset of its own, which stays as long as the target. A block that ended
        just before the scrape would learn of its last seconds a whole interval later, and so would a rollback.

        Raises
        ------
        Unavailable
            If Prometheus does not answer.
        """
        namespaces = sorted({name for feed in self._feeds.values() for name in feed.target.gateway_namespaces})
        selector = _selector("istio_requests_total", matcher("source_workload_namespace", namespaces))
        self._find_phase_at = now + _RETRY_SECONDS
        found = await self._ask(f"max by (instance, pod) (timestamp({selector}))", now)
        with _Understood():
            scrapes = [float(item["value"][1]) for item in found]
        phase = best_phase(scrapes, self._scrape_interval)
        self._find_phase_at = now + _PHASE_SECONDS
        if phase is None:  # a gateway that has not served anything yet, or not been scraped since
            self._find_phase_at = now + self._scrape_interval
            phase = self._phase or 0.0
        elif self._phase is None:
            phase = self._continued(phase)
        elif self._apart(phase, self._phase) <= _SAME_PHASE:
            return
        self._phase = phase
        for feed in self._feeds.values():
            # What was not read yet is read by the new boundaries.
            feed.blocks.clear()
            feed.taken = feed.fetched = self._first_after(feed.taken, feed.target.block_seconds)

    def _continued(self, phase: float) -> float:
        """Return the phase of the blocks that were consumed before a restart, if it is still a good one."""
        known = (feed.taken % self._scrape_interval for feed in self._feeds.values() if (feed.taken * 4).is_integer())
        return next((one for one in known if self._apart(one, phase) <= _SAME_PHASE), phase)

    def _apart(self, one: float, other: float) -> float:
        """Return how many seconds two phases are apart, on the circle that a scrape interval is."""
        distance = abs(one - other) % self._scrape_interval
        return min(distance, self._scrape_interval - distance)

    def _readable_at(self, feed: _Feed) -> float:
        """Return when there is something to do for a plan."""
        if self._phase is None:
            return self._find_phase_at
        if feed.waiting() >= _MOST_WAITING:
            return math.inf
        return max(feed.fetched + feed.target.block_seconds + self.settle, feed.not_before)

    def _next_read(self) -> float:
        # Now and then even without need: the clock may have been set.
        latest = self._clock.now() + _LONGEST_SLEEP
        return min([latest, *(self._readable_at(feed) for feed in self._feeds.values())])

    async def _serve(self, length: int, start: float, end: float, feeds: dict[str, _Feed]) -> None:
        # A plan that changes its mind while Prometheus thinks gets what it asks for the next time.
        targets = {key: feed.target for key, feed in feeds.items()}
        reading = await self._read(list(targets.values()), start, end)
        self._watch_for_late_scrapes(reading, length, start, end)
        for key, feed in feeds.items():
            target = targets[key]
            blocks = cut(
                reading,
                heroku=target.heroku,
                eks=target.eks,
                namespaces=target.gateway_namespaces,
                slow_ms=target.slow_ms,
                very_slow_ms=target.very_slow_ms,
                start=start,
                end=end,
                length=length,
                reach=self._reach,
            )
            if self._feeds.get(key) is feed and feed.fetched == start:
                feed.blocks.extend(blocks)
                feed.fetched = end
                feed.error, feed.error_since = "", 0.0
                if end - start <= length:  # up to date again
                    feed.span = LONGEST_REPLAY
                self._on_samples(key)

    async def _read(self, targets: Sequence[Target], start: float, end: float) -> Reading:
        namespaces = sorted({name for target in targets for name in target.gateway_namespaces})
        common = (
            matcher("source_workload_namespace", namespaces),
            matcher("destination_service", {leg for target in targets for leg in (target.heroku, target.eks)}),
        )
        bounds = {bound for target in targets for bound in (target.slow_ms, target.very_slow_ms) if bound is not None}
        window = end - start + self._reach
        # Presence before counters: what is missing in it then shows as a late scrape the next time.
        presence = await self._query(_up(namespaces), window, end)
        requests = await self._query(_selector("istio_requests_total", *common), window, end)
        buckets = await self._query(
            _selector("istio_request_duration_milliseconds_bucket", *common, bounds_matcher(bounds)), window, end
        )
        with _Understood():
            reading = Reading()
            reading.add_presence(presence)
            reading.add_counters(requests)
            reading.add_counters(buckets)
            return reading

    def _watch_for_late_scrapes(self, reading: Reading, length: int, start: float, end: float) -> None:
        last, settle = self._last_read.get(length), self.settle
        if last is not None and last.end == start:
            for source in reading.sources():
                if reading.last_scrape(source, start, inclusive=True) > last.newest.get(source, math.inf):
                    self.late_scrapes += 1
                    if settle == last.settle:  # else it was read too early, but would not be any more
                        self.settle = min(max(2 * settle, 0.5), max(settle, self._scrape_interval))
                    break
        if last is None or end > last.end:
            newest = {source: reading.last_scrape(source, end, inclusive=True) for source in reading.sources()}
            self._last_read[length] = _LastRead(end, settle, newest)

    def _failed(self, feeds: dict[str, _Feed], text: str) -> None:
        now = self._clock.now()
        for key, feed in feeds.items():
            if self._feeds.get(key) is not feed:
                continue
            feed.not_before = now + _RETRY_SECONDS
            feed.span = max(feed.span / 2, _SHORTEST_REPLAY)
            began = not feed.error
            feed.error = text
            if began:
                feed.error_since = now
                self._on_samples(key)

    async def _query(self, selector: str, window: float, at: float) -> Result:
        return await self._ask(f"{selector}[{_milliseconds(window)}]", at)

    async def _ask(self, promql: str, at: float) -> Result:
        self.queries += 1
        try:
            result = await self._prometheus.query(promql, at)
        except Unavailable:
            self.errors += 1
            raise
        self.last_success = self._clock.now()
        return result


def best_phase(scrapes: Sequence[float], interval: float) -> float | None:
    """Return how many seconds after a multiple of the scrape interval blocks best end; ``None`` without a scrape.

    Parameters
    ----------
    scrapes
        Unix seconds of one scrape of each gateway.
    interval
        Seconds between two scrapes of one.

    Notes
    -----
    That is just after the last scrape of the closest group: behind it is the longest time without one. In quarters of a
    second, which floating point adds up exactly, and with a little room for a scrape that begins late.
    """
    offsets = sorted(at % interval for at in scrapes)
    if not offsets:
        return None
    gaps = [
        (following - offset) % interval for offset, following in zip(offsets, offsets[1:] + offsets[:1], strict=True)
    ]
    last = offsets[max(range(len(offsets)), key=lambda i: gaps[i] or interval)]
    return math.ceil((last + _SCRAPE_JITTER) * 4) / 4 % interval


class _Understood:
    """Turns the errors of an answer of another shape into Unavailable."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError):
            raise Unavailable("Prometheus' answer is not understood: is the metric Istio's?") from error


def _legs(target: Target) -> tuple[object, ...]:
    """What a plan cannot change without beginning anew."""
    return target.heroku, target.eks, target.gateway_namespaces, target.block_seconds


def _chunks(feeds: dict[str, _Feed], size: int) -> Iterator[dict[str, _Feed]]:
    keys = sorted(feeds)  # always the same queries, for Prometheus' caches
    for first in range(0, len(keys), size):
        yield {key: feeds[key] for key in keys[first : first + size]}


def _selector(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(['reporter="source"', *matchers]) + "}"


def _up(namespaces: Sequence[str]) -> str:
    return "up{" + matcher("namespace", namespaces) + "}"


def _milliseconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"
