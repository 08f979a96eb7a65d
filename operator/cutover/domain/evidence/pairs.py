"""Pairs: probes of both legs for the same path at the same time, and what they prove against EKS.

At 100 % no user's request goes to Heroku, so nothing in the metrics tells a fault of EKS from an incident that Heroku would
have had as well, or from a change of the traffic. A pair does: both legs are asked the same.

A pair speaks against EKS if Heroku answered it and EKS' answer is worth less (:class:`Worth`): an error where Heroku answers, a
refusal where Heroku does not refuse, a slow answer where Heroku's is not. There are two ways to enough of them:

- **In a row**: `IN_A_ROW` pairs one after the other, over `outage_seconds`. This finds a dead leg fast. It has no error
  bound: an outage of EKS alone that lasts longer is what it is made to find.
- **By evidence**: at each level of worth the judge's bets (:mod:`cutover.domain.evidence.wager`) on pairs of 15 s, against
  "EKS answers worse in at most 1.25 times as many pairs as Heroku, plus 1 %". Ever reaching ``1/alpha`` has a chance of at
  most ``alpha`` as long as that holds, for all pairs that one process has asked. Levels are apart, so that a Heroku that is
  slow does not pay for an EKS that fails.

Where a plan says so, pairs are evidence of safety, too (:class:`PairedStep`): anew in each step, by bets against "EKS answers
worse in more than 1.5 times as many pairs as Heroku, plus the step's margin". If that is so at a level, all through the step,
it is ever called safe with a chance of at most ``beta``. Only pairs that Heroku answered well count there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from cutover.domain.evidence import wager
from cutover.domain.evidence.answers import Answer, answer_of
from cutover.domain.evidence.betting import SAFETY_FIRST, SAFETY_FLOW
from cutover.domain.evidence.rules import CAP_SECONDS
from cutover.domain.evidence.wager import BETTER, WORSE, Bag
from cutover.domain.traffic import Leg, Probe

IN_A_ROW = 6
"""Pairs in a row that must speak against EKS."""
RATIO, MARGIN = 1.25, 0.01
"""EKS may answer worse in this many times as many pairs as Heroku does, plus this fraction of the pairs."""
POOL_NATS = math.log(100.0) / 3.0
"""What the pairs of 15 s may contribute at most, because faults come in clumps: three pools prove a leg that always fails."""
FLOW = 192.0
"""Sets the flow of the money, in pools; as for the watch money of the judge."""

ADVANCE_RATIO, ADVANCE_MARGIN = 1.5, 0.005
"""The next step may begin if EKS answers worse in at most this many times as many pairs as Heroku does, plus this fraction of
them divided by the next step's part of the users: the same as for users' errors."""
SAFETY_NATS = math.log(100.0) / 4.0
"""What the pairs of 15 s may contribute to safety at most, as for users' requests."""

OVER_SECONDS = 300.0
"""Seconds without a pair against EKS after which what was against it is over."""
MOST_WEALTH = 1e4
"""Wealth of a bet beyond this proves nothing more."""

FRESH_SECONDS = 60.0
"""Seconds after which the newest pair says nothing about now."""
FAILS = 2
"""Unhealthy answers in a row with which a leg counts as failing; a single one is noise."""
SHORTEST_OUTAGE, LONGEST_OUTAGE = 12.0, 25.0
"""Seconds that an outage of EKS alone must last at least, with short and with long blocks. Most restarts are shorter."""


class Worth(IntEnum):
    """What an answer is worth to a user, best first."""

    GOOD = 0
    SLOW = 1
    """Good, but slower than the plan's second threshold."""
    REDIRECTED = 2
    REFUSED = 3
    """Throttled, too."""
    FAILED = 4
    """An error, a fault on the way, or no answer."""


LEVELS = (Worth.SLOW, Worth.REDIRECTED, Worth.REFUSED, Worth.FAILED)
"""What a pair is counted for: that one leg's answer is worth so little, or less, and the other's is worth more."""

_WORTH = {
    Answer.NOBODY: Worth.FAILED,
    Answer.ERROR: Worth.FAILED,
    Answer.REFUSED: Worth.REFUSED,
    Answer.THROTTLED: Worth.REFUSED,
    Answer.REDIRECTED: Worth.REDIRECTED,
}


def worth(probe: Probe, leg: Leg, very_slow_ms: float | None) -> Worth:
    """Return what the answer to a probe of a leg is worth.

    Parameters
    ----------
    very_slow_ms
        The plan's second threshold in milliseconds; ``None`` if it is unknown or unused.
    """
    if not probe.healthy:
        return Worth.FAILED
    slow = very_slow_ms is not None and 1000.0 * probe.seconds > very_slow_ms
    # A provider that tells no code says by ``healthy`` all that it knows.
    answer = answer_of(str(probe.status), heroku=leg is Leg.HEROKU) if probe.status else Answer.OK
    found = _WORTH.get(answer, Worth.GOOD)
    return max(found, Worth.SLOW if slow else Worth.GOOD)


@dataclass(frozen=True, slots=True)
class Pair:
    """The answers of both legs to the same request.

    Parameters
    ----------
    at, done
        Unix seconds at which both were asked, and at which both had answered or were given up.
    heroku, eks
        What their answers are worth.
    """

    at: float
    done: float
    heroku: Worth
    eks: Worth

    @property
    def against_eks(self) -> bool:
        """Whether Heroku answered, and better than EKS."""
        return self.heroku is not Worth.FAILED and self.eks > self.heroku

    @property
    def against_heroku(self) -> bool:
        """Whether EKS answered, and better than Heroku."""
        return self.eks is not Worth.FAILED and self.heroku > self.eks

    @property
    def denied(self) -> bool:
        """Whether Heroku refused or redirected what EKS answered well."""
        return self.heroku in (Worth.REDIRECTED, Worth.REFUSED) and self.eks <= Worth.SLOW


class PairedStep(NamedTuple):
    """A step in which pairs are evidence of safety.

    Parameters
    ----------
    attempt, weight
        The step.
    next_weight
        Percent of requests to EKS in the next step.
    since
        Unix seconds from which on pairs count: a leg changed what it runs.
    """

    attempt: int
    weight: int
    next_weight: int
    since: float = 0.0

    @property
    def margin(self) -> float:
        """Fraction of the pairs that EKS may answer worse."""
        return ADVANCE_MARGIN * 100.0 / self.next_weight


def pairs_needed(step: PairedStep, rate: float, limit: float) -> int:
    """Return how many pairs prove a leg that answers all of them well.

    Parameters
    ----------
    rate
        Pairs per second, above 0.
    limit
        Evidence of safety that is enough, above 1.
    """
    safety, number = Safety(step), 0
    while safety.evidence < limit:
        most = math.ceil(CAP_SECONDS * rate)
        safety = _bet_on_safety(safety._replace(pool=Pool(most)), max(1.0, 1 / (rate * CAP_SECONDS)))
        number += most
    return number


class Pool(NamedTuple):
    """Pairs that are judged together.

    Parameters
    ----------
    pairs
        How many there are.
    heroku, eks
        By level, in how many of them this leg's answer is worth so little, or less, and the other's more.
    """

    pairs: int = 0
    heroku: tuple[int, ...] = (0,) * len(LEVELS)
    eks: tuple[int, ...] = (0,) * len(LEVELS)

    def add(self, pair: Pair) -> Pool:
        """Return the pool with one more pair."""
        return Pool(
            self.pairs + 1,
            tuple(n + (pair.heroku >= level > pair.eks) for n, level in zip(self.heroku, LEVELS, strict=True)),
            tuple(n + (pair.eks >= level > pair.heroku) for n, level in zip(self.eks, LEVELS, strict=True)),
        )

    def factors(self, strengths: tuple[float, ...], ratio: float, margin: float) -> Iterator[tuple[float, ...]]:
        """Yield, level by level, the log factors of the bets about EKS."""
        for heroku, eks in zip(self.heroku, self.eks, strict=True):
            yield wager.log_factors(strengths, eks, heroku, self.pairs, ratio, margin)


class Safety(NamedTuple):
    """The evidence of safety that pairs have brought in a step.

    Parameters
    ----------
    step
        The step.
    pairs
        Pairs that count.
    bags, money
        By level, wagers of the bets that EKS is within the margin, and money that is not put in yet.
    pool
        Pairs that wait to be judged together.
    """

    step: PairedStep
    pairs: int = 0
    bags: tuple[Bag, ...] = ((0.0,) * len(BETTER),) * len(LEVELS)
    money: float = 1.0
    pool: Pool = Pool()

    @property
    def evidence(self) -> float:
        """The evidence that EKS is within the margin, at each level."""
        return self.money + min(map(sum, self.bags))


class Pairs(NamedTuple):
    """What is known from a plan's pairs. It is immutable.

    Parameters
    ----------
    asked, against_eks, against_heroku, both_failed
        Numbers of pairs, since this process began to ask.
    row, row_since
        Newest pairs in a row that speak against EKS, and the Unix seconds at which the first of them was asked.
    heroku_row, both_row, denied_row
        Newest pairs in a row that Heroku failed, that both legs failed, and that Heroku refused or redirected while EKS
        answered well.
    last
        The newest pair.
    against_at
        Unix seconds at which the newest pair that speaks against EKS was answered.
    bags, money
        By level, wagers of the bets that EKS is worse, and money that is not put in yet.
    pool
        Pairs that wait to be judged together.
    pool_since
        Unix seconds at which the first of them was asked.
    safety
        The evidence of safety in the present step; ``None`` where pairs are none.
    """

    asked: int = 0
    against_eks: int = 0
    against_heroku: int = 0
    both_failed: int = 0
    row: int = 0
    row_since: float = 0.0
    heroku_row: int = 0
    both_row: int = 0
    denied_row: int = 0
    last: Pair | None = None
    against_at: float = -math.inf
    bags: tuple[Bag, ...] = ((0.0,) * len(WORSE),) * len(LEVELS)
    money: float = 1.0
    pool: Pool = Pool()
    pool_since: float = 0.0
    safety: Safety | None = None

    @property
    def harm(self) -> float:
        """The evidence that EKS answers worse: the levels share the money."""
        return self.money + sum(map(sum, self.bags))


#: Before the first pair.
NO_PAIRS = Pairs()


def enter(pairs: Pairs, step: PairedStep | None) -> Pairs:
    """Begin to earn evidence of safety in a step; without a step, or with another one, what was earned is gone."""
    if step == (pairs.safety.step if pairs.safety is not None else None):
        return pairs
    return pairs._replace(safety=None if step is None else Safety(step))


def take(pairs: Pairs, pair: Pair) -> Pairs:
    """Return what is known after one more pair, in the order in which they were answered."""
    # By times that the clock was set back from, nothing would be judged until it is there again.
    pairs = pairs._replace(pool_since=min(pairs.pool_since, pair.at), against_at=min(pairs.against_at, pair.done))
    if pairs.pool.pairs and pair.at - pairs.pool_since >= CAP_SECONDS:
        pairs = _bet(pairs, (pair.at - pairs.pool_since) / CAP_SECONDS)
    if pair.done - pairs.against_at > OVER_SECONDS:
        # Good pairs are few, and their bets would take hours to lose what an incident won. To drop wealth is always fair.
        pairs = pairs._replace(bags=NO_PAIRS.bags)
    against_eks, against_heroku = pair.against_eks, pair.against_heroku
    heroku_failed = pair.heroku is Worth.FAILED
    both = heroku_failed and pair.eks is Worth.FAILED
    first = pairs.row == 0
    safety = pairs.safety
    if safety is not None and pair.heroku <= Worth.SLOW and pair.at >= safety.step.since:
        safety = safety._replace(pairs=safety.pairs + 1, pool=safety.pool.add(pair))
    return pairs._replace(
        asked=pairs.asked + 1,
        against_eks=pairs.against_eks + against_eks,
        against_heroku=pairs.against_heroku + against_heroku,
        both_failed=pairs.both_failed + both,
        row=pairs.row + 1 if against_eks else 0,
        row_since=pair.at if against_eks and (first or pair.at < pairs.row_since) else pairs.row_since,
        heroku_row=pairs.heroku_row + 1 if heroku_failed else 0,
        both_row=pairs.both_row + 1 if both else 0,
        denied_row=pairs.denied_row + 1 if pair.denied else 0,
        last=pair,
        against_at=pair.done if against_eks else pairs.against_at,
        pool=pairs.pool.add(pair),
        pool_since=pairs.pool_since if pairs.pool.pairs else pair.at,
        safety=safety,
    )


def _bet(pairs: Pairs, intervals: float) -> Pairs:
    """Bet on the pool. Which leg answers worse is counted, so what hits both alike is in neither count."""
    left = wager.remaining(pairs.money, FLOW, intervals)
    fresh = (pairs.money - left) / len(LEVELS)
    bags = tuple(
        wager.bet(wager.add(bag, fresh), factors, cap=POOL_NATS, top=MOST_WEALTH)
        for bag, factors in zip(pairs.bags, pairs.pool.factors(WORSE, RATIO, MARGIN), strict=True)
    )
    safety = _bet_on_safety(pairs.safety, intervals) if pairs.safety is not None else None
    return pairs._replace(bags=bags, money=left, pool=Pool(), safety=safety)


def _bet_on_safety(safety: Safety, intervals: float) -> Safety:
    left = wager.remaining(safety.money, SAFETY_FLOW, intervals) if safety.money < 1.0 else 1.0 - SAFETY_FIRST
    bags = tuple(
        wager.bet(wager.add(bag, safety.money - left), factors, cap=SAFETY_NATS, top=MOST_WEALTH)
        for bag, factors in zip(
            safety.bags, safety.pool.factors(BETTER, ADVANCE_RATIO, safety.step.margin), strict=True
        )
    )
    return safety._replace(bags=bags, money=left, pool=Pool())


class ProbeKey(StrEnum):
    """What the pairs say now."""

    UNKNOWN = "Unknown"
    """There is no young pair."""
    ALIKE = "Alike"
    """Nothing speaks against a leg."""
    UNSURE = "Unsure"
    """Some pairs speak against EKS, not yet enough of them."""
    EKS_WORSE = "EksWorse"
    """Enough pairs speak against EKS, and Heroku answers."""
    HEROKU_FAILS = "HerokuFails"
    """Heroku does not answer, EKS does."""
    BOTH_FAIL = "BothFail"
    """Neither leg answers."""


def probe_key(pairs: Pairs, now: float, *, limit: float, block_seconds: float) -> ProbeKey:
    """Return what a plan's pairs say.

    Parameters
    ----------
    pairs
        What is known from them.
    now
        Unix seconds.
    limit
        Evidence that is enough, ``1/alpha``.
    block_seconds
        Length of the plan's blocks.
    """
    last = pairs.last
    if last is None or abs(now - last.done) > FRESH_SECONDS:
        return ProbeKey.UNKNOWN
    if pairs.both_row >= FAILS:
        return ProbeKey.BOTH_FAIL
    if pairs.heroku_row >= FAILS:
        return ProbeKey.HEROKU_FAILS
    # The newest pair of a leg that is only worse may be good; but not all of a minute.
    proven = pairs.harm >= limit and now - pairs.against_at <= FRESH_SECONDS
    if pairs.heroku_row == 0 and (proven or in_a_row(pairs, block_seconds)):
        return ProbeKey.EKS_WORSE
    return ProbeKey.UNSURE if pairs.row else ProbeKey.ALIKE


def in_a_row(pairs: Pairs, block_seconds: float) -> bool:
    """Tell whether an outage of EKS alone is long enough, by pairs in a row."""
    return (
        pairs.last is not None
        and pairs.row >= IN_A_ROW
        and pairs.last.done - pairs.row_since >= outage_seconds(block_seconds)
    )


def outage_seconds(block_seconds: float) -> float:
    """Return the seconds for which pairs in a row must speak against EKS.

    A plan with short blocks wants to roll back soon; with long blocks, the metrics take longer than this anyway.
    """
    return min(max(2.0 * block_seconds, SHORTEST_OUTAGE), LONGEST_OUTAGE)
