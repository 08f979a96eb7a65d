"""The judge's betting mathematics: wagers that are expected to grow only if a hypothesis is wrong.

A *bag* holds money, split over a few strengths of belief ``psi``. Each block multiplies every part by a factor whose
expectation is at most one while the hypothesis holds. So the total is a supermartingale, and by Ville's inequality it
ever reaches ``1/alpha`` with a probability of at most ``alpha``, however often it is looked at.

Background: game-theoretic statistics and e-processes (Ramdas, Grünwald, Vovk, Shafer 2023), safe two-sample tests
(Turner, Ly, Grünwald 2024), Poisson counts in production (Lindon and Malek 2022).
"""

from __future__ import annotations

import math

from cutover.domain.evidence.rules import ANSWERS

WORSE = (1.5, 3.0, 10.0, 100.0)
"""Strengths of the bets that EKS is worse than tolerated."""

WORSE_ANSWERS = (1.15, *WORSE)
"""As `WORSE`, for the mix of answers: where Heroku itself refuses or redirects many, a little more is already harm."""

BETTER = (0.1, 0.25, 0.5, 0.7)
"""Strengths of the bets that EKS is within the margin of the next step."""

DEAD = (0.02, 0.5)
"""Strengths of the bets that a leg answers too little: nothing, or about a third of what it should."""


def strengths(name: str) -> tuple[float, ...]:
    """Return the strengths of the bets that EKS is worse, by metric."""
    return WORSE_ANSWERS if name in ANSWERS else WORSE


Bag = tuple[float, ...]
"""Money per strength of belief, in the order of the strengths."""

TOP = 1e12
"""Wealth beyond this proves nothing more; clipping keeps every number finite."""

DUST = 1e-30
"""Wealth below this never matters again (fresh money overtakes it), and zero is shorter to store."""


def log_factors(
    psis: tuple[float, ...], bad_b: float, bad_a: float, total_b: float, c: float, margin: float
) -> tuple[float, ...]:
    """Return the logs of the betting factors of one block against ``p_b <= rho * p_a + margin`` (``>=`` if ``psi < 1``).

    With ``v = (1 + c) / (1 + psi*c)`` it is ``bad_b*ln(psi*v) + bad_a*ln(v) - total_b*margin*(psi*v - 1)``. For
    Poisson counts its exponential has expectation ``exp(total_b * (p_b - rho*p_a - margin) * (psi*v - 1))``, which is at
    most 1 under the hypothesis *for every* ``p_a``: what hits both legs alike cancels.

    Parameters
    ----------
    psis
        Strengths of belief: above 1 bets that b is worse than tolerated, below 1 that it is better. Positive.
    bad_b, bad_a
        Events counted on the judged leg and on its control.
    total_b
        Requests of the judged leg. Only used with a margin.
    c
        Expected ratio of the counts at the border without the margin: ``rho * total_b / total_a``. 0 without a
        control (then pass ``bad_a = 0``).
    margin
        Tolerated additional events per request of the judged leg.

    Returns
    -------
    tuple
        Natural logarithms, one per strength, finite for finite arguments.
    """
    # log1p and the closed form of psi*v - 1 stay exact where c is tiny (1 % on EKS) or huge (a nearly silent control).
    factors, log_c, tolerated = [], math.log1p(c), total_b * margin
    for psi in psis:
        log_v = log_c - math.log1p(psi * c)
        factors.append(bad_b * (math.log(psi) + log_v) + bad_a * log_v - tolerated * (psi - 1.0) / (1.0 + psi * c))
    return tuple(factors)


def bet(
    bag: Bag,
    log_factors: tuple[float, ...],
    *,
    cap: float,
    temper: float = 1.0,
    top: float = TOP,
    most_lost: float = math.inf,
) -> Bag:
    """Wager the bag on one block.

    Parameters
    ----------
    bag
        Money before the block.
    log_factors
        One per part of the bag, from `log_factors`.
    cap
        The most that one block may contribute, in nats. Lowering a factor is always fair, so the cap may depend on
        anything, even on the block.
    temper
        Divides the logarithms first; fair for 1 and above (Jensen).
    top
        Each part is clipped here.
    most_lost
        The most that one block may take away, in nats. Raising a factor is **not** fair: with a limit this is no longer a
        wager, and may only decide whether an earlier proof still stands.
    """
    moved = []
    for money, log in zip(bag, log_factors, strict=True):
        # The judge's innermost loop: with min() and max(), three calls for each part, it takes nearly three times as long.
        nats = log / temper
        nats = nats if -most_lost < nats < cap else cap if nats >= cap else -most_lost
        wealth = money * math.exp(nats)
        moved.append(wealth if DUST <= wealth < top else top if wealth >= top else 0.0)
    return tuple(moved)


def add(bag: Bag, money: float) -> Bag:
    """Spread fresh money evenly over the bag."""
    each = money / len(bag)
    return tuple([part + each for part in bag])


def empty(parts: int) -> Bag:
    """Return a bag without money."""
    return (0.0,) * parts


def remaining(money: float, flow: float, intervals: float) -> float:
    """Return the money that remains after some more intervals, if it is paid out ever more slowly and never runs out.

    Of ``W`` at the start, ``W*T/(t + T)`` remains at time ``t``. The reciprocal grows by 1/flow per interval, with
    ``flow = W*T``, so no clock needs to be stored.
    """
    return money * flow / (flow + money * intervals)
