"""Reads raw samples of counters, and cuts the blocks of one plan from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.counters import Counter, CounterLabels
from cutover.domain.evidence.counting import Reading, cut
from cutover.domain.evidence.scrapes import Result
from cutover.domain.evidence.selectors import milliseconds
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.prometheus import Prometheus

#: Longest time, in seconds, that one query covers.
LONGEST_REPLAY = 3600.0
#: Seconds: older blocks are not delivered. There would be thousands, and no checkpoint is that old.
OLDEST_BLOCK = 24 * 3600.0
#: Undelivered blocks after which no more are read for a plan.
MOST_WAITING = 1000
#: Seconds by which a scrape may start late.
SCRAPE_JITTER = 0.05


def best_phase(scrapes: Sequence[float], interval: float) -> float | None:
    """Return the best phase: seconds after a multiple of the scrape interval at which blocks end; ``None`` without a scrape.

    Parameters
    ----------
    scrapes
        Unix seconds of one scrape of each gateway.
    interval
        Seconds between two scrapes of a gateway.

    Raises
    ------
    ValueError
        If a time is not finite.

    Notes
    -----
    Blocks end just after the last scrape of the closest group, before the longest time without a scrape. The phase is in
    quarters of a second, which floating point adds exactly, and leaves a little room for a scrape that starts late.
    """
    if not all(map(math.isfinite, scrapes)):
        raise ValueError("a scrape has no time")
    offsets = sorted(at % interval for at in scrapes)
    if not offsets:
        return None
    gaps = [
        (following - offset) % interval for offset, following in zip(offsets, offsets[1:] + offsets[:1], strict=True)
    ]
    last = offsets[max(range(len(offsets)), key=lambda i: gaps[i] or interval)]
    return math.ceil((last + SCRAPE_JITTER) * 4) / 4 % interval


class HerokuSamples(NamedTuple):
    """Raw samples of a plan's Heroku leg.

    Parameters
    ----------
    presence
        For :meth:`Reading.add_presence`.
    counters
        For :meth:`Reading.add_counters`.
    losses
        Counters that rise in a block which is not whole.
    """

    presence: Result
    counters: Sequence[Counter[CounterLabels]]
    losses: Sequence[Counter[CounterLabels]] = ()


async def heroku_samples(
    prometheus: Prometheus,
    dialect: Dialect,
    subscription: BlockSubscription,
    *,
    start: float,
    end: float,
    reach: float,
) -> HerokuSamples:
    """Return the raw samples of a plan's Heroku leg, for a time that may be long ago.

    Parameters
    ----------
    prometheus, dialect
        The server to query, and what to query.
    subscription
        The leg; its thresholds must be known if they matter.
    start, end
        Unix seconds, at most an hour apart.
    reach
        Seconds before ``start`` from which samples are wanted, too.

    Returns
    -------
    HerokuSamples
        Raw samples.

    Raises
    ------
    Unavailable
        If Prometheus does not answer.
    """
    window = end - start + reach
    presence = await prometheus.query(range_selector(dialect.presence(subscription.observers), window), end)
    counters = list[Counter[CounterLabels]]()
    for selector in dialect.counters([subscription], [subscription.heroku]):
        counters += await prometheus.counters(range_selector(selector, window), end, dialect.labels)
    lossy = dialect.losses(subscription)
    losses = await prometheus.counters(range_selector(lossy, window), end, dialect.labels) if lossy else ()
    return HerokuSamples(presence, counters, losses)


def blocks_of(
    reading: Reading, subscription: BlockSubscription, *, start: float, end: float, length: int, reach: float
) -> list[Block]:
    """Cut the blocks of one plan; the times as for :func:`cutover.domain.evidence.counting.cut`."""
    return cut(
        reading,
        heroku=subscription.heroku,
        eks=subscription.eks,
        namespaces=subscription.observers,
        slow_ms=subscription.slow_ms,
        very_slow_ms=subscription.very_slow_ms,
        start=start,
        end=end,
        length=length,
        reach=reach,
        codes=subscription.codes,
    )


def range_selector(selector: str, window: float) -> str:
    """Return the range selector of a window in seconds."""
    return f"{selector}[{milliseconds(window)}]"
