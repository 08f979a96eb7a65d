"""Choose the latency thresholds from Heroku's latency histogram in the baseline."""

from __future__ import annotations

from cutover.api.v1alpha1 import HISTOGRAM_BOUNDS_MS
from cutover.domain.baseline.histogram import Histogram

#: Requests that are enough to know that at most 0.1 % of them exceed a bound.
LEAST_REQUESTS = 1000
SLOW_FRACTION = 0.05
VERY_SLOW_FRACTION = 0.001


def choose_thresholds(histogram: Histogram) -> tuple[float, float]:
    """Return X1 and X2 in milliseconds: the first bounds that at most 5 % and 0.1 % of the requests exceed.

    X2 is kept above X1: if all requests fall into one bucket, the two would be the same bound.

    Raises
    ------
    ValueError
        If the histogram has none of the mesh's bounds; the text is for people.
    """
    bounds = [bound for bound in HISTOGRAM_BOUNDS_MS if bound in histogram.cumulative]
    if not bounds:
        raise ValueError("Heroku's latency histogram has none of Istio's default bounds; name slowMs and verySlowMs")
    slow = _first_bound(histogram, bounds, SLOW_FRACTION)
    very_slow = _first_bound(histogram, bounds, VERY_SLOW_FRACTION)
    if very_slow <= slow:
        very_slow = next((bound for bound in bounds if bound > slow), slow)
    return slow, very_slow


def _first_bound(histogram: Histogram, bounds: list[float], fraction: float) -> float:
    allowed = fraction * histogram.total
    return next((b for b in bounds if histogram.total - histogram.cumulative[b] <= allowed), bounds[-1])
