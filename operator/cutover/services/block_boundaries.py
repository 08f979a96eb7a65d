"""Where blocks begin and end: just after the gateways' scrapes.

Prometheus scrapes each target at a constant offset of its own. If a block ended just before the scrape, its last seconds would
be known a whole interval later, and a rollback would be late by as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cutover.ports.block_feed import BlockSubscription
from cutover.ports.clock import Clock
from cutover.services.scrape_timing import ScrapeTiming

#: Seconds until the times of the gateways' scrapes are read again.
TIMING_SECONDS = 600.0
#: Seconds by which they may differ and be taken for the same.
_SAME_PHASE = 0.25


class Boundaries:
    """The boundaries of blocks, by how often and when the gateways are scraped.

    Parameters
    ----------
    clock
        The operator's clock.
    timing
        How often and when the gateways are scraped, where that is given and never looked at.

    Attributes
    ----------
    look_at
        Unix seconds, by the operator's clock, at which to look at the scrapes again.
    """

    def __init__(self, clock: Clock, timing: ScrapeTiming | None) -> None:
        self._clock = clock
        self._timing = timing
        self.look_at = 0.0 if timing is None else math.inf

    @property
    def known(self) -> bool:
        """Whether the scrapes were seen: before, there are no boundaries."""
        return self._timing is not None

    @property
    def recent(self) -> bool:
        """Whether what is known of the gateways' scrapes is recent enough."""
        left = self.look_at - self._clock.now()
        return math.isinf(left) or 0 < left <= 2 * TIMING_SECONDS

    def look_again_in(self, seconds: float) -> None:
        """Look at the scrapes again in some seconds."""
        self.look_at = self._clock.now() + seconds

    def last(self, at: float, length: int, scrape: float) -> float:
        """Return the last block boundary at or before a time."""
        phase = self._timing.phases.get(scrape, 0.0) if self._timing is not None else 0.0
        return math.floor((at - phase) / length) * length + phase

    def first_after(self, since: float, wanted: BlockSubscription) -> float:
        """Return the first block boundary at or after a time.

        A block that ``since`` divides is left out, as a part of it may have been consumed.
        """
        before = self.last(since, wanted.block_seconds, wanted.scrape_seconds)
        return before if before == since else before + wanted.block_seconds

    def interval(self, observers: Sequence[str]) -> float | None:
        """Return the seconds between two scrapes of some gateways, as seen lately."""
        return self._timing.interval(observers) if self._timing is not None else None

    def learn(self, found: ScrapeTiming, delivered: Sequence[tuple[float, float]]) -> set[float]:
        """Take over what was found; return the seconds between two scrapes whose blocks have other boundaries now.

        Parameters
        ----------
        found
            How often and when the gateways were scraped lately.
        delivered
            Of each plan the end of the last delivered block, and the seconds between two scrapes.
        """
        before = self._timing or ScrapeTiming()
        phases = {scrape: self._settled_phase(scrape, phase, delivered) for scrape, phase in found.phases.items()}
        self._timing = found.over(before, phases)
        return {scrape for scrape, phase in phases.items() if before.phases.get(scrape) != phase}

    def _settled_phase(self, scrape: float, phase: float, delivered: Sequence[tuple[float, float]]) -> float:
        """Return the phase so far, or that of the blocks that were consumed before a restart, if it still fits the scrapes."""
        known: Iterable[float]
        if self._timing is not None:
            known = [self._timing.phases[scrape]] if scrape in self._timing.phases else []
        else:
            known = (end % scrape for end, interval in delivered if interval == scrape and (end * 4).is_integer())
        return next((one for one in known if _apart(one, phase, scrape) <= _SAME_PHASE), phase)


def _apart(one: float, other: float, scrape: float) -> float:
    """Return the seconds between two phases, modulo the scrape interval."""
    distance = abs(one - other) % scrape
    return min(distance, scrape - distance)
