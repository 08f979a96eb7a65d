"""The counts of each metric, and checks of counts and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.rules import MetricName, MetricRule, Tolerance
from cutover.domain.evidence.state import Evidence
from cutover.domain.evidence.wager import Bag

LATENCIES: tuple[MetricName, MetricName] = ("slow", "verySlow")
"""The metrics of latency, in the order of their thresholds."""

MOST_REQUESTS = 1e12
"""Most requests of a leg in a block; a larger count is an error in the counters."""


def counts_of(counts: Counts, name: MetricName) -> tuple[float, float]:
    """Return the bad and all requests of a metric."""
    match name:
        case "errors":
            return counts.errors, counts.requests
        case "slow":
            return counts.slow, counts.timed
        case "verySlow":
            return counts.very_slow, counts.timed
        case "refused":
            return counts.refused, counts.requests
        case "redirected":
            return counts.redirected, counts.requests


def reference_of(evidence: Evidence, name: MetricName) -> tuple[float, float]:
    """Return the bad and all requests of a metric while Heroku was healthy, as far as they were counted alike."""
    bad, total = counts_of(evidence.reference, name)
    return bad, total - evidence.unknown.get(name, 0.0)


def ratio(bad: float, total: float) -> float:
    """Return the bad fraction; 0 without requests."""
    return bad / total if total > 0 else 0.0


def bag_of(bags: Mapping[str, Bag], name: str, psis: tuple[float, ...]) -> Bag:
    """Return a metric's bag; an empty bag before its first bet."""
    return bags.get(name) or wager.empty(len(psis))


def plausible(counts: Counts) -> bool:
    """Tell whether counts are possible. Impossible counts are never bet on."""
    return (
        all(0 <= number <= MOST_REQUESTS for number in counts)
        and counts.ok >= 0
        and counts.slow <= counts.timed
        and counts.very_slow <= counts.timed
    )


def frozen_limit(evidence: Evidence, rule: MetricRule, tolerance: Tolerance, doubt: float = 1.0) -> float | None:
    """Return the tolerated fraction without a control: from the reference, but never below the floor.

    Parameters
    ----------
    doubt
        The chance with which Heroku's real fraction may be above the one that the limit is computed from; 1 takes the
        counted fraction. A bet on harm needs a small one: held against a fraction that was counted too low by chance, a
        healthy leg is worse for ever.

    Returns
    -------
    float or None
        ``None`` for a latency without a reference: any fraction above any threshold may be normal. Errors are never
        normal, so the floor is tolerated then.
    """
    bad, total = reference_of(evidence, rule.name)
    if total <= 0:
        return None if rule.name in LATENCIES else rule.floor
    fraction, tolerance = upper_limit(bad, total, doubt), rule.alone or tolerance
    # Halfway to all at most, or a leg that refuses everything would be tolerated where Heroku refuses half.
    return min(max(tolerance.ratio * fraction + tolerance.margin, rule.floor), (1.0 + fraction) / 2.0)


# At 100 % the reference does not change any more.
@lru_cache(maxsize=4096)
def upper_limit(bad: float, total: float, doubt: float) -> float:
    """Return a fraction that the real one exceeds with a chance of at most ``doubt``, whatever the real one is.

    It is the largest ``p`` with ``total * KL(bad/total, p) <= ln(1/doubt)`` (Chernoff's bound for binomial counts, Hoeffding
    1963): the limit of Clopper and Pearson if nothing bad was counted, and up to a tenth above it otherwise, but as fast
    for the counts of weeks.

    Parameters
    ----------
    bad, total
        Counts, ``total`` above 0.
    doubt
        Above 0, and at most 1.
    """
    counted, allowed = bad / total, -math.log(doubt) / total
    low, high = counted, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        if _divergence(counted, middle) <= allowed:
            low = middle
        else:
            high = middle
    return high


def _divergence(p: float, q: float) -> float:
    """Return the Kullback-Leibler divergence of two coins, in nats; ``q`` is not below ``p``."""
    heads = p * math.log(p / q) if p > 0 else 0.0
    if p >= 1:
        return heads
    return heads + (1 - p) * math.log((1 - p) / (1 - q)) if q < 1 else math.inf


def check_weights(weight: float, next_weight: float) -> None:
    """Raise ValueError if a weight is not a percentage."""
    if not (0 <= weight <= 100 and 0 < next_weight <= 100):
        raise ValueError(f"weights are percentages, not {weight} and then {next_weight}")
