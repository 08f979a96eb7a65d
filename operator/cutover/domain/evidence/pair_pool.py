"""Pairs that are judged together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cutover.domain.evidence import wager
from cutover.domain.evidence.worth import LEVELS, Pair

MOST_WEALTH = 1e4
"""Wealth of a bet beyond this proves nothing more."""


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
