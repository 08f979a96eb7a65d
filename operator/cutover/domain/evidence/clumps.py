"""Whether bad requests come one by one or in clumps, learned from the traffic itself.

Independent errors need no cap, clumps do: an app that restarts a pod every hour fails hundreds of requests in seconds. Where
neither leg has shown clumps, 15 s may earn more evidence of harm (`GateRules.calm_cap`); where one has, or too little is
known, as little as if all apps had them.

It is learned from pairs of neighbouring pools. Given how many bad requests the two have together, each would have fallen
into one of them by chance, so ``chi2 = (bad - expected)**2 / variance`` has the mean 1. Its mean, weighted by the bad requests
of the pairs, is the dispersion: as large as the clumps in which a usual bad request comes. Nothing else enters, neither the
ratio nor the traffic; both may drift.

Only pairs whose ratio falls count, twice. A clump rises and falls. A leg that has become worse rises and stays, and would
otherwise look clumped when it matters. Without clumps both halves are alike.

What the pool at hand shows is added after its bets, so the cap is known before it. The first clump of a leg, for which
nothing can be learned, is held by the cap alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.metrics import counts_of
from cutover.domain.evidence.rules import GateRules, MetricName
from cutover.domain.evidence.state import Evidence
from cutover.domain.evidence.wager import TOP

CLUMPED = 1.5
"""Dispersion from which bad requests come in clumps."""
KNOWN_POOLS = 4.0
"""Pools of each leg without which nothing is known. More would not help: clumps may begin at any time."""
MEMORY_POOLS = 80.0
"""Pools after which what was learned has faded to a third: 20 minutes where traffic is not thin."""
DOUBT = 5.0
"""Bad requests with a dispersion of 1 that are believed before any is seen."""

_NOTHING = (0.0, 0.0)


def note_pool(evidence: Evidence, rules: GateRules) -> Evidence:
    """Learn from the pool that was just bet on, or that is full at weight 0."""
    legs = tuple(pool if pool.requests else last for pool, last in zip(evidence.pool, evidence.last_pool, strict=True))
    counted = tuple(
        min(pools + (pool.requests > 0), MEMORY_POOLS)
        for pools, pool in zip(evidence.pools, evidence.pool, strict=True)
    )
    clumps = dict(evidence.clumps)
    for rule in rules.metrics:
        before = clumps.get(rule.name, (*_NOTHING, *_NOTHING))
        clumps[rule.name] = (
            *_learn(before[0], before[1], evidence.last_pool[0], evidence.pool[0], rule.name),
            *_learn(before[2], before[3], evidence.last_pool[1], evidence.pool[1], rule.name),
        )
    return evidence._replace(clumps=clumps, last_pool=(legs[0], legs[1]), pools=(counted[0], counted[1]))


def calm(evidence: Evidence, name: MetricName) -> bool:
    """Tell whether both legs are known, and neither has shown clumps of a metric's bad requests."""
    if min(evidence.pools) < KNOWN_POOLS:
        return False
    heroku, of_heroku, eks, of_eks = evidence.clumps.get(name, (*_NOTHING, *_NOTHING))
    return max((heroku + DOUBT) / (of_heroku + DOUBT), (eks + DOUBT) / (of_eks + DOUBT)) < CLUMPED


def without(clumps: Mapping[str, tuple[float, ...]], name: str) -> dict[str, tuple[float, ...]]:
    """Forget what was learned of a metric."""
    return {other: learned for other, learned in clumps.items() if other != name}


def _learn(spread: float, weight: float, last: Counts, pool: Counts, name: MetricName) -> tuple[float, float]:
    """Add a pair of pools to a leg's sums: of ``bad * chi2`` where the ratio falls, and of ``bad``."""
    bad_a, total_a = counts_of(last, name)
    bad_b, total_b = counts_of(pool, name)
    if not (total_a and total_b):
        return spread, weight
    kept, bad, part = 1.0 - 1.0 / MEMORY_POOLS, bad_a + bad_b, total_a / (total_a + total_b)
    falls = bad_b * total_a < bad_a * total_b
    more = 2.0 * (bad_a - bad * part) ** 2 / (part * (1.0 - part)) if falls else 0.0
    return min(spread * kept + more, TOP), weight * kept + bad
