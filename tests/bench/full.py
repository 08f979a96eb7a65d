"""Days at 100 %: how often the two keys roll back or hold a healthy service, and how soon they leave a dead one.

``python tests/bench/full.py --days 20`` simulates days with quiet nights, second by second where something happens. What
decides is the operator's own code, as :mod:`cutover.domain.engine.phases.full` asks it; the pairs come as often as it wants
them. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cutover.domain.engine.phases.full import UNCONFIRMED_SECONDS
from cutover.domain.engine.probe_intervals import (
    FULL_PAIR_SECONDS,
    MOST_FULL_PAIR_SECONDS,
    URGENCY_SECONDS,
    URGENT_PAIR_SECONDS,
)
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, consume, judge
from cutover.domain.evidence.live_key import failing_since, live_key
from cutover.domain.evidence.pace import Pace, keep_pace
from cutover.domain.evidence.pairs import NO_PAIRS, take
from cutover.domain.evidence.probe_key import ProbeKey, probe_key
from cutover.domain.evidence.worth import Pair, Worth

DAY = 86_400
#: Seconds from the end of a block until it is judged, and from a decision until the gateway has the route.
READ_SECONDS, ROUTE_SECONDS = 2.0, 0.5
#: Seconds after which a probe without an answer is given up.
TIME_OUT = 5.0
ERRORS, SLOW, VERY_SLOW = 0.001, 0.04, 0.001
#: Heroku's record of the steps before.
RECORD = Counts(requests=20_000, errors=20, timed=20_000, slow=800, very_slow=20)


@dataclass
class Faults:
    """From when until when a leg fails all its requests, in order; by leg, and what kind it is."""

    heroku: list[tuple[float, float]] = field(default_factory=list)
    eks: list[tuple[float, float]] = field(default_factory=list)
    hangs: bool = False


@dataclass(frozen=True)
class Conditions:
    """What a day is like.

    Parameters
    ----------
    restarts
        Longest time for which all pods of EKS fail, every ten minutes; Heroku's dynos, too.
    shared
        Incidents of both legs an hour, 5 to 60 s long.
    heroku
        Incidents of Heroku alone an hour, 5 to 60 s long.
    errors
        Errors of the users' requests, and of the probes of EKS.
    drops
        How often a day the users are fewer by the given factor at once, for ten minutes.
    bursts
        Standard deviation of a block's rate, as a fraction of the rate.
    """

    restarts: float = 0.0
    shared: float = 0.0
    heroku: float = 0.0
    errors: float = ERRORS
    drops: tuple[int, float] = (0, 1.0)
    bursts: float = 0.0


NULLS = {
    "nothing happens": Conditions(),
    "bursts of 30 %": Conditions(bursts=0.3),
    "both legs restart, up to 12 s": Conditions(restarts=12.0),
    "both legs restart, up to 30 s": Conditions(restarts=30.0),
    "incidents of both legs": Conditions(shared=2.0),
    "incidents of Heroku alone": Conditions(heroku=2.0),
    "errors at the limit, 1 %": Conditions(errors=0.01),
    "two thirds of the users go, 4 times": Conditions(drops=(4, 0.33)),
    "all of it": Conditions(restarts=12.0, shared=1.0, heroku=1.0, drops=(2, 0.33), bursts=0.3),
}


@dataclass
class Found:
    """What became of a run: seconds of the first rollback, and the holds."""

    back: float = math.inf
    rollbacks: int = 0
    unconfirmed: int = 0
    probes: int = 0
    pairs: int = 0


def faults_of(r: random.Random, world: Conditions, seconds: float) -> Faults:
    faults = Faults()
    if world.restarts:
        for leg in (faults.heroku, faults.eks):
            leg += [(at, at + r.uniform(0, world.restarts)) for at in _every(r, 600, seconds)]
    for per_hour, legs in ((world.shared, (faults.heroku, faults.eks)), (world.heroku, (faults.heroku,))):
        if per_hour:
            for at in _every(r, 3600 / per_hour, seconds):
                length = r.uniform(5, 60)
                for leg in legs:
                    leg.append((at, at + length))
    faults.heroku.sort()
    faults.eks.sort()
    return faults


def _every(r: random.Random, mean: float, seconds: float) -> list[float]:
    times, at = [], r.expovariate(1 / mean)
    while at < seconds:
        times.append(at)
        at += r.expovariate(1 / mean)
    return times


def _overlap(spans: Sequence[tuple[float, float]], start: float, end: float) -> float:
    return min(end - start, sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans))


def run(
    r: random.Random,
    rng: np.random.Generator,
    world: Conditions,
    faults: Faults,
    *,
    rate: float,
    seconds: float,
    block: float,
    dies_at: float = math.inf,
    flat: bool = False,
) -> Found:
    """Watch EKS at 100 %, and go on after a rollback as if it had been none."""
    rules = GateRules(block_seconds=block)
    evidence, pace, pairs, found = Evidence.start(RECORD), Pace(), NO_PAIRS, Found()
    drops = [r.uniform(0, seconds) for _ in range(round(world.drops[0] * seconds / DAY))]
    turned: float | None = None
    worse, next_pair, waiting = False, r.uniform(0, FULL_PAIR_SECONDS), list[Pair]()
    told_unconfirmed = told_probes = False
    first = last = 0
    start = r.uniform(0, block)
    while start < seconds:
        end = start + block
        # Only the faults that are near.
        while last < len(faults.eks) and faults.eks[last][0] < end:
            last += 1
        while first < last and faults.eks[first][1] < start:
            first += 1
        near = faults.eks[first:last]
        dead = max(0.0, end - max(start, dies_at))
        bad_part = min(1.0, (_overlap(near, start, end) + dead) / block)
        quiet = 1.0 if flat else 0.05 + 0.95 * (0.5 - 0.5 * math.cos(2 * math.pi * start / DAY)) ** 2
        mean = rate * quiet * block * max(0.0, rng.normal(1.0, world.bursts) if world.bursts else 1.0)
        if any(at <= start < at + 600 for at in drops):
            mean *= world.drops[1]
        failed = int(rng.poisson(mean * bad_part)) if not faults.hangs else 0
        served = int(rng.poisson(mean * (1 - bad_part)))
        errors, slow = rng.binomial(served, world.errors), rng.binomial(served, SLOW)
        counts = Counts(
            requests=served + failed,
            errors=errors + failed,
            timed=served,
            slow=slow,
            very_slow=min(slow, rng.binomial(served, VERY_SLOW)),
        )
        # The pairs of the time until this block is judged come first.
        until = end + READ_SECONDS
        while next_pair < until or waiting:
            if waiting and waiting[0].done <= min(next_pair, until):
                pair = waiting.pop(0)
                pairs = take(pairs, pair)
                found.pairs += 1
                key = probe_key(pairs, pair.done, limit=rules.harm_limit, block_seconds=block)
                if key is ProbeKey.EKS_WORSE:
                    live = turned is not None or worse or failing_since(pace, pairs.row_since)
                    if live:
                        found.rollbacks += 1
                        found.back = min(found.back, pair.done + ROUTE_SECONDS)
                        if dies_at < math.inf:
                            return found
                        pairs, evidence, pace, turned, worse = (
                            NO_PAIRS,
                            Evidence.start(RECORD),
                            pace._replace(newest=()),
                            None,
                            False,
                        )
                    elif not told_probes:
                        told_probes = True
                        found.probes += 1
                else:
                    told_probes = False
                continue
            if next_pair >= until:
                break
            urgent = (pairs.row and next_pair - pairs.row_since < URGENCY_SECONDS) or (
                turned is not None and next_pair - turned < URGENCY_SECONDS
            )
            eks_dead = (
                _overlap(faults.eks[max(0, first - 1) : last + 2], next_pair, next_pair + 1e-6) > 0
                or next_pair >= dies_at
            )
            heroku_dead = _near(faults.heroku, next_pair)
            eks = Worth.FAILED if eks_dead or r.random() < world.errors else Worth.GOOD
            heroku = Worth.FAILED if heroku_dead or r.random() < ERRORS else Worth.GOOD
            done = next_pair + (TIME_OUT if eks_dead and faults.hangs else 0.05)
            waiting.append(Pair(next_pair, done, heroku, eks))
            waiting.sort(key=lambda pair: pair.done)
            next_pair += URGENT_PAIR_SECONDS if urgent else min(max(block, FULL_PAIR_SECONDS), MOST_FULL_PAIR_SECONDS)
            if len(waiting) == 1 and done <= next_pair:
                continue
        one = Block(start, end, Counts(), counts)
        evidence = consume(evidence, one, rules=rules, weight=100, next_weight=100, observed_at=0.0)
        pace = keep_pace(pace, one, judged=True)
        worse = judge(evidence, rules=rules, weight=100, next_weight=100).worse
        turned = (turned if turned is not None else end) if live_key(pace, evidence, rules) else None
        pace = pace._replace(turned_since=turned)
        lasting = (turned is not None and until - turned >= UNCONFIRMED_SECONDS) or (worse and turned is None)
        if lasting and not told_unconfirmed:
            found.unconfirmed += 1
        told_unconfirmed = lasting
        start = end
    return found


def _near(spans: Sequence[tuple[float, float]], at: float) -> bool:
    return any(a <= at < b for a, b in spans)


def healthy(days: int, block: float, rates: Sequence[float]) -> None:
    """Print rollbacks and holds of healthy days."""
    print(f"\nhealthy days at 100 %, nights with a twentieth of the requests, {days} days each, blocks of {block:g} s")
    print(
        "per day: rollbacks / holds HarmUnconfirmed / holds EksProbesFail, at "
        f"{', '.join(f'{rate:g}' for rate in rates)} requests/s by day; pairs a day\n"
    )
    for name, world in NULLS.items():
        cells, pairs = [], 0
        for rate in rates:
            total = Found()
            for day in range(days):
                r, rng = random.Random(f"{name} {rate} {day}"), np.random.default_rng([day, int(10 * rate), len(name)])
                one = run(r, rng, world, faults_of(r, world, DAY), rate=rate, seconds=DAY, block=block)
                total.rollbacks += one.rollbacks
                total.unconfirmed += one.unconfirmed
                total.probes += one.probes
                total.pairs += one.pairs
            cells.append(f"{total.rollbacks / days:.2f} / {total.unconfirmed / days:.2f} / {total.probes / days:.2f}")
            pairs = round(total.pairs / days)
        print(f"{name:40} {'  '.join(f'{cell:20}' for cell in cells)} {pairs:,}", flush=True)


def dead(runs: int, rates: Sequence[float]) -> None:
    """Print the seconds from the death of EKS to weight 0."""
    print(
        f"\nEKS dies at 100 %: seconds to weight 0 at the gateway, median (most) of {runs}; – where not within 10 min\n"
    )
    for block in (5.0, 15.0):
        for hangs in (False, True):
            cells = []
            for rate in rates:
                waits = []
                for number in range(runs):
                    r, rng = random.Random(f"{rate} {number}"), np.random.default_rng([number, int(10 * rate)])
                    onset = 900 + r.uniform(0, 60)
                    one = run(
                        r,
                        rng,
                        Conditions(),
                        Faults(hangs=hangs),
                        rate=rate,
                        seconds=onset + 600,
                        block=block,
                        dies_at=onset,
                        flat=True,
                    )
                    waits.append(one.back - onset)
                waits.sort()
                cells.append(f"{rate:g}/s: {waits[runs // 2]:.0f} ({waits[-1]:.0f})")
            print(
                f"blocks of {block:g} s, {'hangs, nothing is counted' if hangs else 'refuses'}: {', '.join(cells)}",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=10, help="healthy days of each kind")
    parser.add_argument("--runs", type=int, default=60, help="deaths of each kind")
    parser.add_argument("--block", type=float, default=15.0, help="length of a block of the healthy days, seconds")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 5.0, 50.0], help="requests a second, by day")
    options = parser.parse_args()
    dead(options.runs, options.rates)
    healthy(options.days, options.block, options.rates)


if __name__ == "__main__":
    main()
