"""The time by a Prometheus server's clock."""

from __future__ import annotations

import asyncio

from cutover.ports.clock import Clock
from cutover.ports.prometheus import Prometheus

#: Seconds by which the measured skew, or the operator's clock against a steady one, may change without effect.
_SAME_TIME = 0.25


class ServerTime:
    """The operator's clock, corrected by the skew that the client measures.

    Parameters
    ----------
    prometheus
        The server.
    clock
        The operator's clock.

    Attributes
    ----------
    skew
        Seconds by which the server's clock is ahead.
    """

    def __init__(self, prometheus: Prometheus, clock: Clock) -> None:
        self.skew = 0.0
        self._prometheus = prometheus
        self._clock = clock
        self._ahead: float | None = None  # wall clock minus steady clock, when the clocks were compared
        self._comparing = asyncio.Lock()

    def now(self) -> float:
        """Return Unix seconds by Prometheus' clock, as well as it is known.

        The time jumps when a new skew is measured, as if the clock were set.
        """
        skew = self._prometheus.skew
        if abs(skew - self.skew) > _SAME_TIME:
            self.skew = skew
        return self._clock.now() + self.skew

    @property
    def known(self) -> bool:
        """Whether the clocks were compared, and the operator's was not set since."""
        return self._ahead is not None and abs(self._now_ahead() - self._ahead) <= _SAME_TIME

    async def compare(self) -> None:
        """Compare the clocks, where that is necessary. Raises Unavailable."""
        async with self._comparing:
            if not self.known:
                ahead = self._now_ahead()
                await self._prometheus.compare_clocks()
                self._ahead = ahead

    def _now_ahead(self) -> float:
        return self._clock.now() - asyncio.get_running_loop().time()
