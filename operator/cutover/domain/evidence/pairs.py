"""Pairs: probes of both legs for the same path at the same time, and what they prove against EKS.

At 100 % no user's request goes to Heroku, so nothing in the metrics tells a fault of EKS from an incident that Heroku would
have had as well, or from a change of the traffic. A pair does: both legs are asked the same.

A pair speaks against EKS if Heroku answered it and EKS' answer is worth less (:class:`cutover.domain.evidence.worth.Worth`): an
error where Heroku answers, a refusal where Heroku does not refuse, a slow answer where Heroku's is not. There are two ways to
enough of them:

- **In a row**: pairs one after the other, as many as :mod:`cutover.domain.evidence.probe_key` says and for as long. This finds a
  dead leg fast. It has no error bound: an outage of EKS alone that lasts longer is what it is made to find.
- **By evidence**: at each level of worth the judge's bets (:mod:`cutover.domain.evidence.wager`) on pairs of 15 s, against
  "EKS answers worse in at most 1.25 times as many pairs as Heroku, plus 1 %". Ever reaching ``1/alpha`` has a chance of at
  most ``alpha`` as long as that holds, for all pairs that one process has asked. Levels are apart, so that a Heroku that is
  slow does not pay for an EKS that fails.

Pairs are evidence of safety, too, where a plan says so: :mod:`cutover.domain.evidence.paired_safety`. What they say now is a key
of few words: :mod:`cutover.domain.evidence.probe_key`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cutover.domain.evidence import wager
from cutover.domain.evidence.pair_pool import MOST_WEALTH, Pool
from cutover.domain.evidence.paired_safety import PairedStep, Safety, bet_on_safety
from cutover.domain.evidence.rules import CAP_SECONDS
from cutover.domain.evidence.wager import WORSE, Bag
from cutover.domain.evidence.worth import LEVELS, Pair, Worth

RATIO, MARGIN = 1.25, 0.01
"""EKS may answer worse in this many times as many pairs as Heroku does, plus this fraction of the pairs."""

POOL_NATS = math.log(100.0) / 3.0
"""What the pairs of 15 s may contribute at most, because faults come in clumps: three pools prove a leg that always fails."""

FLOW = 192.0
"""Sets the flow of the money, in pools; as for the watch money of the judge."""

OVER_SECONDS = 300.0
"""Seconds without a pair against EKS after which what was against it is over."""


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
    safety = bet_on_safety(pairs.safety, intervals) if pairs.safety is not None else None
    return pairs._replace(bags=bags, money=left, pool=Pool(), safety=safety)
