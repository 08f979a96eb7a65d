"""The counts of each metric, and checks of counts and weights."""

from __future__ import annotations

from collections.abc import Mapping

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.rules import MetricName, MetricRule, Tolerance
from cutover.domain.evidence.wager import Bag, Evidence

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


def ratio(bad: float, total: float) -> float:
    """Return the bad fraction; 0 without requests."""
    return bad / total if total > 0 else 0.0


def bag_of(bags: Mapping[str, Bag], name: str, psis: tuple[float, ...]) -> Bag:
    """Return a metric's bag; an empty bag before its first bet."""
    return bags.get(name) or wager.empty(len(psis))


def plausible(counts: Counts) -> bool:
    """Tell whether counts are possible. Impossible counts are never bet on."""
    numbers = (counts.requests, counts.errors, counts.timed, counts.slow, counts.very_slow)
    return (
        all(0 <= number <= MOST_REQUESTS for number in numbers)
        and counts.errors <= counts.requests
        and counts.slow <= counts.timed
        and counts.very_slow <= counts.timed
    )


def frozen_limit(evidence: Evidence, rule: MetricRule, tolerance: Tolerance) -> float:
    """Return the tolerated fraction without a control: from the reference, but never below the floor."""
    bad, total = counts_of(evidence.reference, rule.name)
    return max(tolerance.ratio * ratio(bad, total) + tolerance.margin, rule.floor)


def check_weights(weight: float, next_weight: float) -> None:
    """Raise ValueError if a weight is not a percentage."""
    if not (0 <= weight <= 100 and 0 < next_weight <= 100):
        raise ValueError(f"weights are percentages, not {weight} and then {next_weight}")
