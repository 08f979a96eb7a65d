"""Which latency thresholds a baseline leads to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import HISTOGRAM_BOUNDS_MS, BaselineStatus, MigrationPlanStatus
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.baseline.thresholds import choose_thresholds
from cutover.domain.evidence import tolerances as rules

INF = float("inf")


@pytest.mark.parametrize(
    ("cumulative", "thresholds"),
    [
        ({100: 900, 250: 960, 500: 990, 1000: 1000, INF: 1000}, (250, 1000)),
        ({100: 950, 250: 999, 500: 1000, INF: 1000}, (100, 250)),
        ({100: 949, 250: 999, 500: 1000, INF: 1000}, (250, 500)),  # kept apart
        ({5: 1000, 10: 1000, 25: 1000, INF: 1000}, (5, 10)),
        ({100: 10, 250: 20, 500: 30, INF: 1000}, (500, 500)),  # nothing is good enough: the last is taken
        ({7: 500, 100: 1000, INF: 1000}, (100, 100)),  # bounds that are not the mesh's are not used
        ({}, None),
        ({7: 500, INF: 1000}, None),
    ],
)
def test_thresholds(cumulative: dict[float, float], thresholds: tuple[float, float] | None) -> None:
    if thresholds is None:
        with pytest.raises(ValueError, match="name slowMs and verySlowMs"):
            choose_thresholds(Histogram(cumulative))
    else:
        assert choose_thresholds(Histogram(cumulative)) == thresholds


#: Few and many, so that any fraction is met by some bound, and missed by the one below.
_COUNTS = st.sampled_from([0, 1, 9, 90, 10_000]) | st.integers(0, 10_000)


@given(st.lists(_COUNTS, min_size=len(HISTOGRAM_BOUNDS_MS) + 1, max_size=len(HISTOGRAM_BOUNDS_MS) + 1))
def test_at_most_5_and_a_tenth_of_a_percent_are_slower(counts: list[int]) -> None:
    total, cumulative = 0.0, {}
    for bound, count in zip((*HISTOGRAM_BOUNDS_MS, INF), counts, strict=True):
        total += count
        cumulative[float(bound)] = total
    slow, very_slow = choose_thresholds(Histogram(cumulative))
    *_, last = HISTOGRAM_BOUNDS_MS
    slower = {bound: total - cumulative[bound] for bound in HISTOGRAM_BOUNDS_MS}
    assert slow == next((bound for bound, rest in slower.items() if rest <= 0.05 * total), last)
    above = {bound: rest for bound, rest in slower.items() if bound > slow}
    assert very_slow == next((bound for bound, rest in above.items() if rest <= 0.001 * total), last)


@pytest.mark.parametrize(
    ("named", "thresholds"),
    [
        ({}, (250, 1000)),
        ({"slowMs": 500}, (500, 1000)),
        ({"slowMs": 1000}, (1000, 2500)),
        ({"slowMs": 5000}, (5000, 10000)),
        ({"slowMs": 3_600_000}, (3_600_000, None)),
        ({"verySlowMs": 100}, (50, 100)),
        ({"verySlowMs": 0.5}, (None, 0.5)),
        ({"slowMs": 5, "verySlowMs": 10}, (5, 10)),
    ],
)
def test_a_named_threshold_and_the_baselines_are_in_order(
    named: dict[str, float], thresholds: tuple[float | None, float | None]
) -> None:
    """Out of order they would contradict each other, and no block could ever be judged."""
    spec = plan_spec(gates={"slos": [{"name": "latency", "latency": named}]})
    baseline = BaselineStatus(since=datetime.now(UTC), slow_ms=250, very_slow_ms=1000)
    assert rules.thresholds(spec, MigrationPlanStatus(baseline=baseline)) == thresholds
