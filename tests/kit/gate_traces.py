"""Synthetic traffic of a cutover, second by second, for the tests of the gate: bursts, clumps, incidents, hangs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, Judgement, begin_step, consume, judge

Fault = Literal["none", "refuse", "hang"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """What both legs are like. Ratios are fractions of requests, times seconds."""

    rate: float = 50.0
    errors: float = 0.001
    slow: float = 0.04
    very_slow: float = 0.001
    refused: float = 0.0
    redirected: float = 0.0
    bursts: float = 0.0
    """Standard deviation of the rate of a second, as a fraction of the rate; it hits both legs."""
    clumps: float = 0.0
    """Errors that come at once on one leg alone: share of its requests for 3 s, once per two minutes and leg."""
    incidents: float = 0.0
    """Shared incidents per minute: 5 to 60 s in which both legs fail or hang alike."""
    skew: float = 0.0
    """By how much EKS may begin and end a shared incident before or after Heroku, seconds."""
    stalls: float = 0.0
    """Longest time for which a leg may answer nothing and then everything (a collection of garbage), seconds."""
    blips: float = 0.0
    """Longest time for which a leg may fail every request (a pod that restarts), seconds; once per two minutes."""
    gaps: float = 0.0
    """Share of blocks that are lost with a scrape."""


@dataclass(frozen=True)
class Regression:
    """What goes wrong on EKS from `onset` (seconds into the step) on."""

    onset: float = 0.0
    errors: float = 0.0
    very_slow: float = 0.0
    refused: float = 0.0
    redirected: float = 0.0
    fault: Fault = "none"


def blocks_of(
    rng: np.random.Generator,
    traffic: Traffic,
    *,
    weight: float,
    seconds: int,
    block: int = 5,
    start: int = 0,
    regression: Regression | None = None,
) -> list[Block]:
    """Return the blocks of one step."""
    regression = regression or Regression(onset=float(seconds))
    rate = np.full(seconds, float(traffic.rate))
    if traffic.bursts:
        rate *= rng.gamma(1 / traffic.bursts**2, traffic.bursts**2, seconds)
    arrivals = rng.poisson(rate)
    # How much of each second the regression is there: onsets are anywhere inside a block.
    bad = np.clip(np.arange(seconds) + 1 - regression.onset, 0.0, 1.0)
    incidents = _incidents(rng, traffic, seconds)
    legs = []
    requests_b = rng.binomial(arrivals, weight / 100)
    for leg, requests in enumerate((arrivals - requests_b, requests_b)):
        errors = np.full(seconds, traffic.errors)
        very = np.full(seconds, traffic.very_slow)
        refused, redirected = np.full(seconds, traffic.refused), np.full(seconds, traffic.redirected)
        answered = np.ones(seconds)
        for mode, heroku_span, eks_span in incidents:
            lo, hi = eks_span if leg else heroku_span
            inside = _inside(seconds, lo, hi)
            if mode == "hang":
                answered *= 1 - inside
            else:
                errors = np.maximum(errors, inside * (1.0 if mode == "all" else 0.3))
        if traffic.clumps:
            for begin in map(int, np.flatnonzero(rng.random(seconds) < 1 / 120)):
                errors[begin : begin + 3] = np.maximum(errors[begin : begin + 3], traffic.clumps)
        if traffic.blips:
            for begin in map(int, np.flatnonzero(rng.random(seconds) < 1 / 120)):
                errors = np.maximum(errors, _inside(seconds, begin, begin + rng.uniform(0, traffic.blips)))
        if leg:
            errors = np.maximum(errors, bad * regression.errors)
            very = np.maximum(very, bad * regression.very_slow)
            # A request that would have been refused or redirected anyway stays so.
            refused += (1 - refused) * bad * regression.refused
            redirected += (1 - redirected) * bad * regression.redirected
            if regression.fault == "refuse":
                errors = np.maximum(errors, bad)
            if regression.fault == "hang":
                answered *= 1 - bad
        got = rng.binomial(requests, answered).astype(float)
        if traffic.stalls:
            got = _stall(rng, got, traffic.stalls)
        n = got.astype(np.int64)
        e = rng.binomial(n, errors)
        v = rng.binomial(n, very)
        s = np.minimum(n, v + rng.binomial(n, traffic.slow - traffic.very_slow))
        f = rng.binomial(n - e, refused)
        d = rng.binomial(n - e - f, redirected)
        legs.append((n, e, n, s, v, f, d))
    lost = rng.random(seconds) < traffic.gaps
    made = []
    for lo in range(0, seconds - block + 1, block):
        counts = [Counts(*(float(series[lo : lo + block].sum()) for series in leg)) for leg in legs]
        gap = "missed scrape" if lost[lo] else ""
        made.append(Block(float(start + lo), float(start + lo + block), counts[0], counts[1], gap))
    return made


def _inside(seconds: int, lo: float, hi: float) -> Array:
    t = np.arange(seconds)
    inside: Array = np.clip(np.minimum(t + 1, hi) - np.maximum(t, lo), 0.0, 1.0)
    return inside


def _incidents(
    rng: np.random.Generator, traffic: Traffic, seconds: int
) -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    found = []
    for _ in range(rng.poisson(traffic.incidents * seconds / 60)):
        lo = rng.uniform(0, seconds)
        hi = lo + rng.uniform(5, 60)
        early, late = rng.uniform(-traffic.skew, traffic.skew, 2)
        found.append((str(rng.choice(["some", "all", "hang"])), (lo, hi), (lo + early, hi + late)))
    return found


def _stall(rng: np.random.Generator, got: Array, longest: float) -> Array:
    for begin in map(int, np.flatnonzero(rng.random(len(got)) < 1 / 120)):
        end = min(len(got) - 1, begin + round(rng.uniform(0, longest)))
        held = got[begin:end].sum()
        got[begin:end] = 0
        got[end] += held
    return got


@dataclass
class Run:
    """A cutover that is being judged."""

    rules: GateRules
    evidence: Evidence
    now: int = 0

    def step(
        self,
        blocks: list[Block],
        weight: float,
        next_weight: float,
        until: Callable[[Judgement], bool] = lambda judgement: False,
        observed_at: float | None = None,
    ) -> float | None:
        """Judge the blocks as a new step; return the end of the block after which `until` holds, or None."""
        self.evidence = begin_step(self.evidence)
        observed = blocks[0].start if observed_at is None else observed_at
        for block in blocks:
            self.evidence = consume(
                self.evidence, block, rules=self.rules, weight=weight, next_weight=next_weight, observed_at=observed
            )
            self.now = int(block.end)
            if until(judge(self.evidence, rules=self.rules, weight=weight, next_weight=next_weight)):
                return block.end
        return None


def cutover(
    rng: np.random.Generator,
    traffic: Traffic,
    rules: GateRules,
    *,
    seconds: int = 600,
    weights: tuple[float, ...] = (10, 25, 50),
    block: int = 5,
) -> str:
    """Judge a cutover without a regression; return the metric that rolled it back, or ''."""
    run = Run(rules, Evidence.start())
    for weight, next_weight in zip(weights, (*weights[1:], 100), strict=True):
        blocks = blocks_of(rng, traffic, weight=weight, seconds=seconds, block=block, start=run.now)
        if run.step(blocks, weight, next_weight, until=lambda judgement: judgement.worse) is not None:
            return judge(run.evidence, rules=rules, weight=weight, next_weight=next_weight).main_metric
    return ""
