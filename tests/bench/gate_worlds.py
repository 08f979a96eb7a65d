"""Made-up traffic of a cutover, second by second, as the gateway would count it: for the benchmark of the gates.

It knows nothing of the judge. Everything random comes from the generator that is passed in, so that a seed names a
cutover, and every judge can be shown the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Fault = Literal["", "refuse", "hang"]

HEROKU, EKS = 0, 1
REQUESTS, ERRORS, TIMED, SLOW, VERY_SLOW, REFUSED, REDIRECTED = range(7)
TIME_OUT = 30
"""A request that hangs ends as an error, and as a very slow one, after this time: the route's time-out, seconds."""
CLUMP_SECONDS, CLUMP_EVERY = 3, 120
SCAN_REQUESTS, SCAN_SECONDS = 300, 15
"""A bot that looks for what is not there: its requests, all refused, and how long it takes."""
STORM_SHARE, STORM_SECONDS, STORM_EVERY = 0.3, 60, 600
"""A storm of sign-ins: the share of requests that it makes refused on both legs, how long and how often."""


@dataclass(frozen=True)
class Conditions:
    """What both legs are like. Ratios are fractions of requests, times seconds.

    Parameters
    ----------
    bursts
        Standard deviation of a second's rate, as a fraction of the rate; it hits both legs.
    clumps
        Share of one leg's requests that fail for 3 s, about every two minutes, on each leg for itself; as often, as
        large a share is slow, and half of that very slow.
    restarts
        Longest time for which one leg fails every request, about every two minutes, on each leg for itself.
    only_eks
        Whether clumps and restarts are EKS' alone. Then they come every half hour, within the tolerance on average.
    incidents
        Shared incidents per minute: for 5 to 60 s both legs fail a third, fail all, or hang.
    ragged
        By how much the legs may enter and leave a shared incident apart.
    drift
        Factor between the best and the worst latency ratios of half an hour; both legs alike.
    skew
        By how much a reading of EKS' counters, or of a histogram, may be behind that of Heroku's counters.
    lost
        Share of blocks that are lost with a scrape. Where it is not 0, Prometheus is also away once in each step, for
        90 to 240 s.
    refused, redirected
        Answers of both legs.
    mix_drift
        Factor between the least and the most refused and redirected answers of half an hour; both legs alike.
    scans
        Bots per minute that look for what is not there.
    loyal
        Whether all requests of a bot go to one leg, as with a cookie, or each by itself.
    storms
        Whether there are storms of sign-ins.
    """

    errors: float = 0.001
    slow: float = 0.04
    very_slow: float = 0.001
    bursts: float = 0.0
    clumps: float = 0.0
    restarts: float = 0.0
    only_eks: bool = False
    incidents: float = 0.0
    ragged: float = 0.0
    drift: float = 1.0
    skew: int = 0
    lost: float = 0.0
    refused: float = 0.0
    redirected: float = 0.0
    mix_drift: float = 1.0
    scans: float = 0.0
    loyal: bool = False
    storms: bool = False


@dataclass(frozen=True)
class Regression:
    """What goes wrong on EKS from the onset on, as fractions of its requests."""

    errors: float = 0.0
    slow: float = 0.0
    very_slow: float = 0.0
    refused: float = 0.0
    redirected: float = 0.0
    fault: Fault = ""


@dataclass(frozen=True)
class Trace:
    """What was counted in one step.

    Parameters
    ----------
    weight, next_weight
        Percent of requests to EKS in this step and in the next.
    block
        Length of a block, seconds.
    counts
        Increments, by leg, kind and block.
    lost
        Blocks that nobody saw.
    harmed
        Requests that the regression has harmed until the end of each second.
    shared
        Seconds in which Heroku suffers from an incident.
    """

    weight: float
    next_weight: float
    block: int
    counts: Array
    lost: Flags
    harmed: Array
    shared: Flags

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.lost)


def trace(
    rng: np.random.Generator,
    world: Conditions,
    rate: float,
    *,
    weight: float,
    next_weight: float,
    seconds: int,
    block: int,
    regression: Regression | None = None,
    onset: float = 0.0,
) -> Trace:
    """Make one step."""
    arrivals = rng.poisson(_rates(rng, world, rate, seconds))
    drift = _drift(rng, world, seconds)
    incidents = _incidents(rng, world, seconds)
    present = np.clip(np.arange(seconds) + 1 - onset, 0.0, 1.0) if regression else np.zeros(seconds)
    to_eks = rng.binomial(arrivals, weight / 100)
    read = np.arange(0, seconds + 1, block)
    counts = np.zeros((2, 7, len(read) - 1))
    answers = _Answers(rng, world, seconds, weight / 100)
    harmed = np.zeros(seconds)
    for leg, requests in ((HEROKU, arrivals - to_eks), (EKS, to_eks)):
        errors, slow, very = np.full(seconds, world.errors), world.slow * drift, world.very_slow * drift
        hung = np.zeros(seconds)
        for mode, spans in incidents:
            inside = _inside(seconds, *spans[leg])
            if mode == "hang":
                hung = np.maximum(hung, inside)
            else:
                errors = np.maximum(errors, inside * (1.0 if mode == "all" else 0.3))
        every = CLUMP_EVERY
        if world.only_eks:
            every = 15 * CLUMP_EVERY if leg == EKS else 0
        for begin in _moments(rng, seconds, world.clumps, every):
            errors[begin : begin + CLUMP_SECONDS] = world.clumps
        for begin in _moments(rng, seconds, world.clumps, every):
            slow[begin : begin + CLUMP_SECONDS] = world.clumps
            very[begin : begin + CLUMP_SECONDS] = world.clumps / 2
        for begin in _moments(rng, seconds, world.restarts, every):
            errors = np.maximum(errors, _inside(seconds, begin, begin + rng.uniform(0, world.restarts)))
        if leg == EKS and regression:
            dead = present if regression.fault == "refuse" else np.zeros(seconds)
            hung = np.maximum(hung, present) if regression.fault == "hang" else hung
            extra = regression.slow + regression.very_slow
            extra_answers = regression.refused + regression.redirected
            share = 1.0 if regression.fault else min(1.0, regression.errors + extra + extra_answers)
            harmed = np.cumsum(requests * present * share)
            errors = np.minimum(1.0, np.maximum(errors + present * regression.errors, dead))
            very = np.minimum(1.0, very + present * regression.very_slow)
            slow = np.minimum(1.0, slow + present * extra)
        scanned = answers.scans[leg]
        gone_wrong = present if leg == EKS else np.zeros(seconds)
        counted = np.stack(_counted(rng, requests + scanned, errors, slow, very, hung))
        counted = np.concatenate([counted, answers.of(rng, counted, scanned, gone_wrong, regression)])
        late = rng.integers(0, world.skew + 1, len(read)) if leg == EKS else 0
        lag = rng.integers(0, world.skew + 1, len(read))
        for kinds, behind in (
            (slice(REQUESTS, TIMED), late),
            (slice(TIMED, REFUSED), lag),
            (slice(REFUSED, None), late),
        ):
            total = np.concatenate([np.zeros((counted[kinds].shape[0], 1)), np.cumsum(counted[kinds], axis=1)], axis=1)
            counts[leg, kinds] = np.diff(total[:, np.maximum(read - behind, 0)], axis=1)
    shared = np.zeros(seconds, bool)
    for _, spans in incidents:
        shared |= _inside(seconds, *spans[HEROKU]) > 0
    return Trace(weight, next_weight, block, counts, _lost(rng, world, seconds, block), harmed, shared)


class _Answers:
    """Refused and redirected answers of both legs, second by second."""

    def __init__(self, rng: np.random.Generator, world: Conditions, seconds: int, weight: float) -> None:
        turn = 2 * np.pi * (np.arange(seconds) / 1800 + (rng.random() if world.mix_drift > 1 else 0.0))
        wave = world.mix_drift ** (np.sin(turn) / 2) if world.mix_drift > 1 else np.ones(seconds)
        self.refused, self.redirected = np.minimum(1.0, world.refused * wave), np.minimum(1.0, world.redirected * wave)
        if world.storms:
            for begin in np.flatnonzero(rng.random(seconds) < 1 / STORM_EVERY):
                self.refused[begin : begin + STORM_SECONDS] = np.maximum(
                    self.refused[begin : begin + STORM_SECONDS], STORM_SHARE
                )
        self.scans = (np.zeros(seconds, np.int64), np.zeros(seconds, np.int64))
        for begin in np.flatnonzero(rng.random(seconds) < world.scans / 60) if world.scans else ():
            span = slice(begin, min(begin + SCAN_SECONDS, seconds))
            size = rng.poisson(SCAN_REQUESTS / SCAN_SECONDS, span.stop - span.start)
            to_eks = size * (rng.random() < weight) if world.loyal else rng.binomial(size, weight)
            self.scans[HEROKU][span] += size - to_eks
            self.scans[EKS][span] += to_eks

    def of(
        self,
        rng: np.random.Generator,
        counted: Array,
        scanned: NDArray[np.int64],
        gone_wrong: Array,
        regression: Regression | None,
    ) -> Array:
        """Return refused and redirected answers of a leg."""
        refused, redirected = self.refused, self.redirected
        if regression is not None:
            refused = refused + (1 - refused) * gone_wrong * regression.refused
            redirected = redirected + (1 - redirected) * gone_wrong * regression.redirected
        if not (refused.any() or redirected.any() or scanned.any()):
            return np.zeros((2, len(scanned)))
        good = (counted[REQUESTS] - counted[ERRORS]).astype(np.int64)
        of_bots = np.minimum(scanned, good)
        some = rng.binomial(good - of_bots, refused)
        moved = rng.binomial(good - of_bots - some, redirected)
        return np.stack([some + of_bots, moved]).astype(float)


def _rates(rng: np.random.Generator, world: Conditions, rate: float, seconds: int) -> Array:
    if not world.bursts:
        return np.full(seconds, rate)
    variance = world.bursts**2
    return rate * rng.gamma(1 / variance, variance, seconds)


def _drift(rng: np.random.Generator, world: Conditions, seconds: int) -> Array:
    turn = 2 * np.pi * (np.arange(seconds) / 1800 + rng.random())
    wave: Array = world.drift ** (np.sin(turn) / 2)
    return wave


def _incidents(
    rng: np.random.Generator, world: Conditions, seconds: int
) -> list[tuple[str, tuple[tuple[float, float], tuple[float, float]]]]:
    found = []
    for _ in range(rng.poisson(world.incidents * seconds / 60)):
        lo = rng.uniform(0, seconds)
        hi = lo + rng.uniform(5, 60)
        early, late = rng.uniform(-world.ragged, world.ragged, 2)
        found.append((str(rng.choice(["some", "all", "hang"])), ((lo, hi), (lo + early, hi + late))))
    return found


def _moments(rng: np.random.Generator, seconds: int, size: float, every: int) -> list[int]:
    return [int(at) for at in np.flatnonzero(rng.random(seconds) < 1 / every)] if size and every else []


def _inside(seconds: int, lo: float, hi: float) -> Array:
    """How much of each second lies between the two."""
    t = np.arange(seconds)
    inside: Array = np.clip(np.minimum(t + 1, hi) - np.maximum(t, lo), 0.0, 1.0)
    return inside


def _counted(
    rng: np.random.Generator, requests: NDArray[np.int64], errors: Array, slow: Array, very: Array, hung: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Increments of the counters, second by second, by kind."""
    if hung.any():
        hanging = rng.binomial(requests, hung)
        timed_out = np.concatenate([np.zeros(TIME_OUT, np.int64), hanging])[: len(requests)]
        requests = requests - hanging
    else:
        timed_out = np.zeros(len(requests), np.int64)
    slow_ones = rng.binomial(requests, slow)
    very_slow_ones = rng.binomial(slow_ones, np.minimum(1.0, very / slow))
    answered = (requests + timed_out).astype(float)
    return (
        answered,
        (rng.binomial(requests, errors) + timed_out).astype(float),
        answered,
        (slow_ones + timed_out).astype(float),
        (very_slow_ones + timed_out).astype(float),
    )


def _lost(rng: np.random.Generator, world: Conditions, seconds: int, block: int) -> Flags:
    lost: Flags = rng.random(seconds // block) < world.lost
    if world.lost:
        begin, length = rng.uniform(0, seconds), rng.uniform(90, 240)
        lost[int(begin / block) : int((begin + length) / block)] = True
    return lost
