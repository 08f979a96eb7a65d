"""With a record of the weeks before and without: false evidence of harm at 100 %, and how soon harm is seen there.

``python tests/bench/full_record.py --runs 200`` makes up a service, records two weeks of it by the hour, takes what Heroku did
in half an hour of steps, and watches EKS for hours. What judges is the operator's own code, with the record's hours and
without them, on the same blocks. Above 50 % it does the same beside a thin Heroku. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from cutover.domain.baseline.record import HOUR, Hour, Reach, Record
from cutover.domain.baseline.reference import hourly_reference
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.hourly import HourlyReference
from cutover.domain.evidence.judge import Evidence, GateRules, begin_step, consume, wealth_of

#: A Monday, 00:00 UTC.
START = 1_798_416_000.0
BLOCK, DAY, WEEK = 15.0, 86_400.0, 604_800.0
X1, X2 = 250.0, 1000.0
RULES = GateRules()
#: Errors, slow, very slow, refused.
USUAL = np.array([0.001, 0.04, 0.001, 0.02])


@dataclass(frozen=True)
class Conditions:
    """What a service is like, before the takeover and after it, on either leg.

    Parameters
    ----------
    hourly, daily
        Standard deviation of the logarithm of each hour's, and of each day's, fractions of bad requests.
    clump
        Bad requests come so many at a time.
    job
        Factor on the errors of five minutes of each hour; over the hour they are as usual.
    night
        Factor on all fractions from 3 to 5 every night.
    incidents
        Incidents of ten minutes a week, in which a tenth fails.
    flat
        Whether there are as many requests by night.
    """

    hourly: float = 0.0
    daily: float = 0.0
    clump: int = 1
    job: float = 1.0
    night: float = 1.0
    incidents: float = 0.0
    flat: bool = False


WORLDS = {
    "the weeks are alike": Conditions(),
    "hours differ by a fifth": Conditions(hourly=0.2),
    "hours differ by half, days by a fifth": Conditions(hourly=0.5, daily=0.2),
    "bad requests ten at a time": Conditions(clump=10),
    "a job makes five times the errors for five minutes": Conditions(job=5.0),
    "four times as many every night": Conditions(night=4.0, hourly=0.2),
    "all of it": Conditions(hourly=0.3, daily=0.2, clump=5, job=3.0, night=3.0, incidents=2.0),
}


def busy(at: float, world: Conditions) -> float:
    """Return the part of the busiest hour's requests."""
    return 1.0 if world.flat else 0.1 + 0.9 * (0.5 - 0.5 * math.cos(2 * math.pi * at / DAY)) ** 2


class Service:
    """The service in one run: its fractions by the hour, drawn once."""

    def __init__(self, world: Conditions, rate: float, seed: Sequence[int]) -> None:
        self.world, self.rate, self.rng = world, rate, np.random.default_rng(seed)
        hours = 24 * 7 * 4
        every = np.repeat(self.rng.normal(-(world.daily**2) / 2, world.daily, (hours // 24, 4)), 24, axis=0)
        self._level = np.exp(every + self.rng.normal(-(world.hourly**2) / 2, world.hourly, (hours, 4)))
        number = self.rng.poisson(world.incidents * 4)
        self._incidents = sorted(START + self.rng.uniform(0, 4 * WEEK, number))

    def fractions(self, at: float) -> np.ndarray:
        hour = int((at - START) // HOUR)
        parts = USUAL * self._level[hour]
        if 3 <= hour % 24 < 5:
            parts = parts * self.world.night
        if self.world.job != 1.0:
            inside = at % HOUR < 300
            quiet = (1 - self.world.job / 12) / (11 / 12)
            parts = parts * np.array([self.world.job if inside else max(quiet, 0.1), 1, 1, 1])
        if any(begin <= at < begin + 600 for begin in self._incidents):
            parts = parts + np.array([0.1, 0, 0, 0])
        return np.minimum(parts, 0.9)

    def counts(self, at: float, seconds: float, part: float = 1.0, more: float = 0.0) -> Counts:
        """Return the counts of a leg with a part of the requests, and more errors."""
        n = self.rng.poisson(self.rate * busy(at, self.world) * part * seconds)
        parts = self.fractions(at)
        clump = self.world.clump
        bad = [min(n, clump * self.rng.poisson(n * p / clump)) for p in parts]
        errors = min(n, bad[0] + self.rng.binomial(n, more))
        return Counts(n, errors, n, max(bad[1], bad[2]), bad[2], refused=min(bad[3], n - errors))

    def record(self) -> Record:
        """Return the first two weeks by the hour."""
        hours, parts = list[Hour](), 12 if self.world.job != 1.0 or self.world.incidents else 1
        for number in range(336):
            begin, total = START + HOUR * number, Counts()
            for part in range(parts):
                total += self.counts(begin + HOUR * part / parts, HOUR / parts)
            below = {X1: total.timed - total.slow, X2: total.timed - total.very_slow, math.inf: total.timed}
            hours.append(Hour.of(begin, 60, total, below))
        return Record("Gateway", Reach(START + 2 * WEEK, (60,) * 336), tuple(hours))


@dataclass(frozen=True)
class Case:
    """What is asked of one run; ``errors`` begin an hour after the weight was seen."""

    world: Conditions
    rate: float
    weight: int
    hours: float
    errors: float = 0.0


def watch(case: Case, seed: int) -> tuple[float, float]:
    """Return the seconds until EKS is worse without the record and with it, from the onset on; infinity for never."""
    service = Service(case.world, case.rate, (seed, int(100 * case.rate), case.weight))
    hours = hourly_reference(service.record(), RULES, (X1, X2))
    begin = (
        START + 2 * WEEK + float(service.rng.integers(0, 7 * 24)) * HOUR + float(service.rng.integers(0, 240)) * BLOCK
    )
    steps = Counts()
    for number in range(120):
        steps += service.counts(begin - 1800 + BLOCK * number, BLOCK, part=0.7)
    onset = begin + (HOUR if case.errors else 0.0)
    blocks = list[Block]()
    at = begin
    while at < onset + HOUR * case.hours:
        heroku = service.counts(at, BLOCK, 1 - case.weight / 100) if case.weight < 100 else Counts()
        eks = service.counts(at, BLOCK, case.weight / 100, case.errors if at >= onset else 0.0)
        blocks.append(Block(at, at + BLOCK, heroku, eks, thresholds=(X1, X2)))
        at += BLOCK
    return _worse(blocks, steps, onset, case.weight, None), _worse(blocks, steps, onset, case.weight, hours)


def _worse(blocks: Sequence[Block], steps: Counts, onset: float, weight: int, hours: HourlyReference | None) -> float:
    evidence = begin_step(Evidence.start(steps)._replace(thresholds=(X1, X2)))
    for block in blocks:
        evidence = consume(
            evidence, block, rules=RULES, weight=weight, next_weight=100, observed_at=blocks[0].start, hours=hours
        )
        # What the judge compares with its limit; the rest of a judgement takes as long again.
        if sum(wealth_of(evidence, rule, RULES) for rule in RULES.metrics) >= RULES.harm_limit:
            return block.end - onset
    return math.inf


def every(case: Case, runs: int, pool: ProcessPoolExecutor) -> tuple[list[float], list[float]]:
    """Return the seconds of all runs without the record, and with it."""
    found = list(pool.map(partial(watch, case), range(runs), chunksize=5))
    return [one for one, _ in found], [one for _, one in found]


def _false(times: Sequence[float]) -> str:
    return f"{sum(time < math.inf for time in times)}"


def _span(times: Sequence[float]) -> str:
    middle = median(times)
    return "–" if middle == math.inf else f"{middle:.0f} s"


def _ratio(without: Sequence[float], with_it: Sequence[float]) -> str:
    if median(with_it) == math.inf:
        return "–"
    return "only with it" if median(without) == math.inf else f"{median(without) / median(with_it):.1f} times"


def nulls(weight: int, worlds: Sequence[str], runs: int, rates: Sequence[float], pool: ProcessPoolExecutor) -> None:
    """Print how often a healthy EKS is called worse."""
    print(f"\nhealthy, {weight} %, 4 h each: called worse of {runs}, without a record / with it")
    print(f"{'':45} " + "  ".join(f"{rate:>7g}/s" for rate in rates), flush=True)
    for name in worlds:
        cells = []
        for rate in rates:
            without, with_it = every(Case(WORLDS[name], rate, weight, 4.0), runs, pool)
            cells.append(f"{_false(without)} / {_false(with_it)}")
        print(f"{name:45} " + "  ".join(f"{cell:>9}" for cell in cells), flush=True)


def harms(
    weight: int,
    worlds: Sequence[str],
    errors: Sequence[float],
    runs: int,
    rates: Sequence[float],
    pool: ProcessPoolExecutor,
) -> None:
    """Print how soon errors that begin after an hour are seen."""
    print(
        f"\n0.1 % errors and more from one moment on, {weight} %: the median of {runs}, within 3 h, without / with a record"
    )
    for name in worlds:
        for rate in rates:
            cells = []
            for more in errors:
                without, with_it = every(Case(WORLDS[name], rate, weight, 3.0, more), runs, pool)
                cells.append(f"{100 * more:g} %: {_span(without)} / {_span(with_it)} ({_ratio(without, with_it)})")
            print(f"{name}, {rate:g}/s: {'; '.join(cells)}", flush=True)


def _tables(what: str) -> Iterator[Callable[..., None]]:
    if what in ("all", "nulls"):
        yield lambda runs, _, rates, pool: nulls(100, list(WORLDS), runs, rates, pool)
        yield lambda runs, _, rates, pool: nulls(95, list(WORLDS), runs, rates, pool)
    if what in ("all", "harms"):
        some = list(WORLDS)[:4]
        yield lambda _, runs, rates, pool: harms(100, some, (0.004, 0.01, 0.02, 0.05), runs, rates, pool)
        yield lambda _, runs, rates, pool: harms(95, some[:2], (0.01, 0.02, 0.05), runs, rates, pool)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="healthy cutovers of each kind")
    parser.add_argument("--harmed", type=int, default=20, help="harmed cutovers of each kind")
    parser.add_argument("--only", choices=("all", "nulls", "harms"), default="all")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 5.0, 50.0], help="requests a second, by day")
    options = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        for table in _tables(options.only):
            table(options.runs, options.harmed, options.rates, pool)


if __name__ == "__main__":
    main()
