"""How often and when the gateways are scraped, as seen in Prometheus' samples."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cutover.domain.evidence.lengths import UNSEEN_SECONDS
from cutover.domain.evidence.scrapes import Result
from cutover.ports.block_feed import Dialect
from cutover.ports.errors import QueryFailed
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.services.reading import best_phase, range_selector

#: Seconds of samples that show the scrape interval: five of the longest that is served.
WINDOW_SECONDS = 600.0
#: Longest scrape interval that is served, in seconds.
LONGEST_INTERVAL = 120.0
#: The last distances between samples that count, so that a change shows after three scrapes, and one missed scrape does not.
_DISTANCES, _FEWEST_DISTANCES = 5, 3
#: Fraction by which an interval may differ from a whole number of seconds, or two from each other, and be the same.
SAME_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class ScrapeTiming:
    """What the samples show of the gateways' scrapes.

    Parameters
    ----------
    intervals
        Seconds between two scrapes, by namespace of the gateways; of gateways that differ, the longest.
    phases
        Seconds after a multiple of the interval at which blocks end, by interval; see :func:`best_phase`.
    """

    intervals: Mapping[str, float] = field(default_factory=dict)
    phases: Mapping[float, float] = field(default_factory=dict)

    def over(self, before: ScrapeTiming, phases: Mapping[float, float]) -> ScrapeTiming:
        """Return this timing with other phases, and with what was known before where nothing was seen now."""
        return ScrapeTiming({**before.intervals, **self.intervals}, {**before.phases, **phases})

    def interval(self, namespaces: Iterable[str]) -> float | None:
        """Return the scrape interval of the gateways of some namespaces; ``None`` if it was not seen."""
        return max((self.intervals[name] for name in namespaces if name in self.intervals), default=None)


async def read_scrape_timing(
    prometheus: Prometheus,
    dialect: Dialect,
    namespaces: Sequence[str],
    at: float,
    answer: Callable[[Awaitable[Result]], Awaitable[Result]] | None = None,
) -> ScrapeTiming:
    """Read how often and when the gateways of some namespaces are scraped.

    Parameters
    ----------
    prometheus, dialect
        The server to query, and what to query.
    namespaces
        Namespaces of the gateways.
    at
        Unix seconds: the end of the samples.
    answer
        Awaits each answer, to count the queries.

    Raises
    ------
    Unavailable
        If Prometheus does not answer.
    """

    async def ask(query: str) -> Result:
        asked = prometheus.query(query, at)
        return await (asked if answer is None else answer(asked))

    async def last_scrapes() -> Result | None:
        try:
            return await ask(dialect.last_scrapes(namespaces))
        except QueryFailed:
            # Too many counters to look at all. Then every target counts as one that has some.
            return None

    presence_query = range_selector(dialect.presence(namespaces), WINDOW_SECONDS)
    last, presence = await asyncio.gather(last_scrapes(), ask(presence_query))
    with unavailable_if_malformed(dialect.labels.product):
        return timing_of(newest_of(presence) if last is None else last, presence)


def newest_of(presence: Result) -> Result:
    """Return the time of each target's newest sample of ``up``, as the dialect's expression for the scrapes would."""
    return [{"metric": item["metric"], "value": [0.0, item["values"][-1][0]]} for item in presence if item["values"]]


def timing_of(last: Result, presence: Result) -> ScrapeTiming:
    """Return the timing, from the time of each counting gateway's last scrape and the samples of all gateways' ``up``.

    Raises
    ------
    KeyError, TypeError, ValueError
        If an answer has another shape.
    """
    scrapes = {_target(item["metric"]): float(item["value"][1]) for item in last}
    known = [
        (item["metric"].get("namespace", ""), scrapes[_target(item["metric"])], interval)
        for item in presence
        if _target(item["metric"]) in scrapes and (interval := interval_of([sample[0] for sample in item["values"]]))
    ]
    intervals: dict[str, float] = {}
    for namespace, _, interval in known:
        intervals[namespace] = max(interval, intervals.get(namespace, 0.0))
    if not intervals and scrapes:  # a server without `up`
        return ScrapeTiming(phases={UNSEEN_SECONDS: best_phase(list(scrapes.values()), UNSEEN_SECONDS) or 0.0})
    phases = {
        interval: best_phase([at for namespace, at, _ in known if intervals[namespace] == interval], interval) or 0.0
        for interval in set(intervals.values())
    }
    return ScrapeTiming(intervals, phases)


def interval_of(times: Sequence[float]) -> float | None:
    """Return the seconds between two scrapes of one target; ``None`` if there are too few, or it is scraped too rarely.

    It is the median of the last distances between samples. ``up`` has a sample for a failed scrape, too.
    """
    distances = [later - at for at, later in pairwise(times[-_DISTANCES - 1 :])]
    if len(distances) < _FEWEST_DISTANCES:
        return None
    interval = statistics.median(distances)
    whole = round(interval)
    if whole and abs(interval - whole) <= SAME_INTERVAL * whole:
        interval = float(whole)
    return round(interval, 2) if 0 < interval <= LONGEST_INTERVAL else None


def _target(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("pod", ""), labels.get("instance", "")
