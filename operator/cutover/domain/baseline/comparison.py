"""Heroku after the takeover against Heroku of the same hours before.

The formula is the judge's for two legs (:func:`cutover.domain.evidence.wager.log_factors`), with the time before in place of
the other leg. Nothing cancels between two times as it does between two legs, so what is tolerated is as wide as where the
judge compares with the time before the first step, and the counts weigh as little as answers differ from day to day.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.metrics import counts_of
from cutover.domain.evidence.mix import RECORD_REQUESTS, SESSIONS
from cutover.domain.evidence.rules import MetricName
from cutover.domain.evidence.wager import log_factors, strengths

#: Requests that a comparison needs of each time.
LEAST_REQUESTS = RECORD_REQUESTS
_MOST_NATS = 700.0
_DONE: Mapping[MetricName, str] = {
    "errors": "fails",
    "refused": "refuses",
    "redirected": "redirects",
    "slow": "is slow at",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result.

    Parameters
    ----------
    evidence
        Evidence of the largest difference; below 1 where there is none.
    limit
        How much of it is enough.
    what
        The largest difference, such as ``refuses more``.
    """

    evidence: float
    limit: float
    what: str

    @property
    def differs(self) -> bool:
        """Whether the difference is proven."""
        return self.evidence >= self.limit


def compare(before: Counts, after: Counts, spread: Mapping[MetricName, float], limit: float) -> Comparison:
    """Compare two times.

    Parameters
    ----------
    before, after
        Requests of both. Times are compared only where both have timed requests: where they were taken at the same place.
    spread
        By metric, how many times more it differs from day to day than by chance; 1 for a metric that is not named.
    limit
        Evidence at which one comparison alone differs. With several comparisons each needs that many times more.
    """
    found = list(_evidence(before, after, spread))
    worst, what = max(found, default=(0.0, ""))
    return Comparison(worst, limit * max(len(found), 1), what)


def _evidence(before: Counts, after: Counts, spread: Mapping[MetricName, float]) -> Iterator[tuple[float, str]]:
    """Yield the evidence of each difference, and its words. Fewer errors, and fewer slow requests, are no difference."""
    metrics: tuple[MetricName, ...] = ("errors", "refused", "redirected", "slow")
    for metric in metrics:
        was, now = counts_of(before, metric), counts_of(after, metric)
        if min(was[1], now[1]) < LEAST_REQUESTS:
            continue
        yield _wealth(metric, now, was, spread.get(metric, 1.0)), f"{_DONE[metric]} more"
        if metric in ("refused", "redirected"):
            yield _wealth(metric, was, now, spread.get(metric, 1.0)), f"{_DONE[metric]} fewer"


def _wealth(metric: MetricName, judged: tuple[float, float], control: tuple[float, float], spread: float) -> float:
    """Return the evidence that one time has more than is tolerated of the other."""
    (bad_b, total_b), (bad_a, total_a) = judged, control
    psis, c = strengths(metric), SESSIONS.ratio * total_b / total_a
    nats = log_factors(psis, bad_b / spread, bad_a / spread, total_b / spread, c, SESSIONS.margin)
    return math.fsum(math.exp(min(each, _MOST_NATS)) for each in nats) / len(psis)


def mix_text(counts: Counts) -> str:
    """Return which answers there were, as a part of a sentence."""
    if counts.requests <= 0:
        return "no requests"
    parts = (
        (counts.ok + counts.excepted, "good"),
        (counts.refused, "refused"),
        (counts.redirected, "redirected"),
        (counts.throttled, "throttled"),
        (counts.errors, "failed"),
    )
    said = ", ".join(f"{_percent(number / counts.requests)} {name}" for number, name in parts if number > 0)
    return f"{said} of {counts.requests:,.0f} requests"


def _percent(fraction: float) -> str:
    percent = 100.0 * fraction
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
