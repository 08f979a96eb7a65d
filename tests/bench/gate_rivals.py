"""How others decide, for the benchmark of the gates: the rules of Flagger, Argo Rollouts and Kayenta, and a z-test.

Each is written from what its sources do, with the settings of its documentation, and is given the best of cases: no
delay but the interval, the share that was asked for, one series per query. All run on the same ladder with the same
hold as our judge: where the rule is content and the hold is over, the next step begins.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import numpy as np
from gate_worlds import EKS, ERRORS, HEROKU, REQUESTS, SLOW, TIMED, VERY_SLOW, Array, Trace

Ending = Literal["advance", "rollback", "stuck"]

INTERVAL = 60
"""Time between two looks of all the rivals but Kayenta, and the window of their queries, seconds."""
MOST_BAD = 0.01
"""Success rate of 99 %, and a p99 below the threshold, which is to say at most 1 % slower than it."""
RATIOS = ((ERRORS, REQUESTS), (VERY_SLOW, TIMED))
"""What Flagger, Argo and the z-test look at."""


class Rule(Protocol):
    """Something that judges a cutover, step by step; made anew for each."""

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        """Return how the step ends, and after how many seconds."""
        ...


def _window(trace: Trace, end: int) -> list[float] | None:
    """Return EKS' bad ratios of the last interval (NaN where there were no requests), or None where nothing is known."""
    blocks = slice(max(0, end - INTERVAL) // trace.block, end // trace.block)
    if trace.lost[blocks].all():
        return None
    eks = trace.counts[EKS][:, blocks].sum(axis=1)
    return [float(eks[bad] / eks[total]) if eks[total] else math.nan for bad, total in RATIOS]


def _looks(trace: Trace, every: int) -> range:
    return range(every, trace.blocks * trace.block + 1, every)


class Flagger:
    """Failed checks are counted over the whole cutover; one tick after the limit it rolls back. No data is a failure.

    Parameters
    ----------
    threshold
        Failed checks before the rollback.
    """

    def __init__(self, threshold: int = 5) -> None:
        self.threshold = threshold
        self.failed = 0

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        for now in _looks(trace, INTERVAL):
            if self.failed >= self.threshold:
                return "rollback", now
            ratios = _window(trace, now)
            if ratios is None or not all(ratio <= MOST_BAD for ratio in ratios):
                self.failed += 1
            elif now >= hold:
                return "advance", now
        return "stuck", trace.blocks * trace.block


class Argo:
    """A background analysis: aborts when one metric has failed more often than the limit.

    A query error is repeated every 10 s and aborts when there are five in a row, which an outage of 40 s is enough for.

    Parameters
    ----------
    failure_limit
        Failed measurements of a metric that are tolerated.
    """

    def __init__(self, failure_limit: int = 0) -> None:
        self.failure_limit = failure_limit
        self.failed = [0] * len(RATIOS)

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        for now in _looks(trace, INTERVAL):
            ratios = _window(trace, now)
            if ratios is None:
                answers = np.flatnonzero(~trace.lost[now // trace.block :])
                silent = answers[0] * trace.block if len(answers) else trace.block * trace.blocks
                if silent >= 40:
                    return "rollback", now + 40
                continue
            for metric, ratio in enumerate(ratios):
                # NaN is not at least 99 %.
                self.failed[metric] += not ratio <= MOST_BAD
            if max(self.failed) > self.failure_limit:
                return "rollback", now
            if now >= hold:
                return "advance", now
        return "stuck", trace.blocks * trace.block


class ZTest:
    """A one-sided two-sample z-test at 1 %, on all that was counted since the step began, looked at every interval."""

    CRITICAL = 2.326

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        for now in _looks(trace, INTERVAL):
            counts = trace.counts[:, :, : now // trace.block][:, :, ~trace.lost[: now // trace.block]].sum(axis=2)
            for bad, total in RATIOS:
                n_a, n_b = counts[HEROKU, total], counts[EKS, total]
                if not (n_a and n_b):
                    continue
                pooled = (counts[HEROKU, bad] + counts[EKS, bad]) / (n_a + n_b)
                spread = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
                if spread and (counts[EKS, bad] / n_b - counts[HEROKU, bad] / n_a) / spread > self.CRITICAL:
                    return "rollback", now
            if now >= hold:
                return "advance", now
        return "stuck", trace.blocks * trace.block


class Kayenta:
    """Mann-Whitney at 98 % with a tolerance of a quarter of the estimate, on the ratios of the step's blocks.

    Judged every 5 minutes from 50 points on; it fails when one metric is high. Its removal of outliers is left out.
    """

    INTERVAL = 300
    POINTS = 50
    CRITICAL = 2.326
    TOLERANCE = 0.25

    def step(self, trace: Trace, hold: int) -> tuple[Ending, int]:
        for now in _looks(trace, self.INTERVAL):
            counts = trace.counts[:, :, : now // trace.block][:, :, ~trace.lost[: now // trace.block]]
            judged = 0
            for bad, total in ((ERRORS, REQUESTS), (SLOW, TIMED), (VERY_SLOW, TIMED)):
                control, experiment = (self._points(counts[leg, bad], counts[leg, total]) for leg in (HEROKU, EKS))
                if min(len(control), len(experiment)) < self.POINTS:
                    continue
                judged += 1
                if self._high(control, experiment):
                    return "rollback", now
            if judged and now >= hold:
                return "advance", now
        return "stuck", trace.blocks * trace.block

    @staticmethod
    def _points(bad: Array, total: Array) -> Array:
        some = total > 0
        points: Array = bad[some] / total[some]
        return points

    def _high(self, control: Array, experiment: Array) -> bool:
        # The estimate (Hodges and Lehmann) is the median of all differences, the ends of its interval are quantiles.
        differences = np.sort(np.subtract.outer(experiment, control), axis=None)
        n = len(differences)
        # Ties make the spread smaller.
        _, ties = np.unique(np.concatenate([control, experiment]), return_counts=True)
        both = len(control) + len(experiment)
        spread = math.sqrt(n / 12 * (both + 1 - float((ties.astype(float) ** 3 - ties).sum()) / (both * (both - 1))))
        lower = differences[max(0, math.floor(n / 2 - self.CRITICAL * spread))]
        return bool(lower > self.TOLERANCE * abs(np.median(differences)))
