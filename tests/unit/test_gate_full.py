"""The judge at 100 %, where there is no control: EKS is held against what was normal for Heroku."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, MetricRule, Tolerance, begin_step, consume, judge
from cutover.domain.evidence.metrics import upper_limit

RATIO = GateRules(
    metrics=(MetricRule("errors", 1.0, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),), alive_stake=0.0
)


def binomial(n: int, p: float) -> list[float]:
    """Return the chance of each count."""
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("n", [1, 20, 100, 400])
@pytest.mark.parametrize("doubt", [0.001, 0.05])
def test_what_is_normal_is_rarely_taken_for_too_little(n: int, doubt: float) -> None:
    limits = [upper_limit(k, n, doubt) for k in range(n + 1)]
    for p in (0.001, 0.01, 0.03, 0.1, 0.5, 0.9):
        missed = sum(chance for chance, limit in zip(binomial(n, p), limits, strict=True) if limit < p)
        assert missed <= doubt
    # And no more careful than that takes: where nothing was counted it is the exact limit.
    assert limits[0] == pytest.approx(1 - doubt ** (1 / n), rel=1e-6)
    assert limits[-1] == pytest.approx(1)
    assert limits == sorted(limits)


def test_the_counts_of_weeks_are_hardly_doubted() -> None:
    assert upper_limit(6_000_000, 200_000_000, 0.001) == pytest.approx(0.03, rel=0.002)
    assert upper_limit(3, 100, 1.0) == pytest.approx(0.03)


@pytest.mark.parametrize("counted", [0, 1, 3])
def test_a_short_reference_by_chance_too_low_does_not_roll_a_healthy_leg_back(counted: int) -> None:
    """3 % are normal on both legs; the 100 events of the reference have 3 or fewer bad ones in two of three cases."""
    rng = np.random.default_rng(counted)
    evidence = begin_step(Evidence.start(Counts(100, counted)))
    most = 0.0
    for block in range(1000):
        eks = Counts(75, rng.binomial(75, 0.03))
        at = Block(15.0 * block, 15.0 * block + 15, Counts(), eks)
        evidence = consume(evidence, at, rules=RATIO, weight=100, next_weight=100, observed_at=-1000)
        most = max(most, judge(evidence, rules=RATIO, weight=100, next_weight=100).harm)
    assert most < 100


def test_a_leg_that_is_clearly_worse_than_a_short_reference_is_found() -> None:
    evidence = begin_step(Evidence.start(Counts(1000, 30)))
    for block in range(40):
        at = Block(15.0 * block, 15.0 * block + 15, Counts(), Counts(75, 9))
        evidence = consume(evidence, at, rules=RATIO, weight=100, next_weight=100, observed_at=-1000)
    assert judge(evidence, rules=RATIO, weight=100, next_weight=100).worse
