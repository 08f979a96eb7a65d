"""Money that is not wagered yet."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.domain.evidence.wager import remaining

STEP_MONEY, WATCH_MONEY = 0.4, 0.6
"""All the money of a test: for the beginnings of steps, and for all other time."""

STEP_LUMP = 0.1
"""The money with which a step begins."""

FLOW = WATCH_MONEY * 320.0
"""Sets the flow of the watch money: it begins with 0.6/320 per interval (1/192 where all the money is for watching)."""


@dataclass(frozen=True, slots=True)
class Purse:
    """Money that is not wagered yet; it is put in over time, so that a late regression is found like an early one.

    Bets against a healthy leg are soon lost, so the power of the test at any moment depends on the money that was put in
    lately. Until time ``t`` the watch money has put in ``W*t/(t + T)``: like a steady ``W/T`` at first, and it never runs
    out (a soak of a day, an approval that takes the night), at the price of ``2*ln(1 + t/T)`` nats for an onset at ``t``.
    All money that is ever put in is in the purse at the start.

    Parameters
    ----------
    steps
        Money left for the beginnings of steps.
    watch
        Money left for all other time.
    """

    steps: float = STEP_MONEY
    watch: float = WATCH_MONEY

    @property
    def total(self) -> float:
        """All money that is left."""
        return self.steps + self.watch

    def draw(self, *, first: bool, intervals: float) -> tuple[Purse, float]:
        """Take out the money that is wagered with the next block.

        Parameters
        ----------
        first
            Whether it is the first block of a step, which gets a lump on top: never more than half of what remains for
            steps, so that any number of steps gets some.
        intervals
            Length of the block, in the intervals in which ``T`` is counted.

        Returns
        -------
        tuple
            The purse afterwards and the money.
        """
        lump = min(STEP_LUMP, self.steps / 2.0) if first else 0.0
        watch = remaining(self.watch, FLOW, intervals)
        return Purse(self.steps - lump, watch), lump + (self.watch - watch)
