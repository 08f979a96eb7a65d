"""Evidence of safety from pairs.

Where a plan says so, pairs are evidence of safety: anew in each step, by bets against "EKS answers
worse in more than 1.5 times as many pairs as Heroku, plus the step's margin". If that is so at a level, all through the step,
it is ever called safe with a chance of at most ``beta``. Only pairs that Heroku answered well count there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cutover.domain.evidence import wager
from cutover.domain.evidence.betting import SAFETY_FIRST, SAFETY_FLOW
from cutover.domain.evidence.pair_pool import MOST_WEALTH, Pool
from cutover.domain.evidence.rules import CAP_SECONDS
from cutover.domain.evidence.wager import BETTER, Bag
from cutover.domain.evidence.worth import LEVELS

ADVANCE_RATIO, ADVANCE_MARGIN = 1.5, 0.005
"""The next step may begin if EKS answers worse in at most this many times as many pairs as Heroku does, plus this fraction of
them divided by the next step's part of the users: the same as for users' errors."""

SAFETY_NATS = math.log(100.0) / 4.0
"""What the pairs of 15 s may contribute to safety at most, as for users' requests."""


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
        safety = bet_on_safety(safety._replace(pool=Pool(most)), max(1.0, 1 / (rate * CAP_SECONDS)))
        number += most
    return number


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


def bet_on_safety(safety: Safety, intervals: float) -> Safety:
    """Bet on the pool, ``intervals`` times 15 s after its first pair."""
    left = wager.remaining(safety.money, SAFETY_FLOW, intervals) if safety.money < 1.0 else 1.0 - SAFETY_FIRST
    bags = tuple(
        wager.bet(wager.add(bag, safety.money - left), factors, cap=SAFETY_NATS, top=MOST_WEALTH)
        for bag, factors in zip(
            safety.bags, safety.pool.factors(BETTER, ADVANCE_RATIO, safety.step.margin), strict=True
        )
    )
    return safety._replace(bags=bags, money=left, pool=Pool())
