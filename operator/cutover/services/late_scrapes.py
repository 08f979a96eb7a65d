"""Scrapes of the gateways that are due before the end of a block and not visible yet, for which the block waits.

A scrape is visible when it has ended, which may take a scrape interval, or longer where servers forward samples. A block that
is cut without it would lack its increments, and so would the next block.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

from cutover.domain.evidence.scrapes import Result, Source, source_of
from cutover.services.reading import SCRAPE_JITTER

#: Fraction of a scrape interval after which the sampler checks again for an awaited scrape.
LOOK_AGAIN = 0.05
#: Fraction by which the last two scrapes are further apart, or closer, than known where the times of scrapes are read anew.
_ODD = 0.25


class Due(NamedTuple):
    """Scrapes that are due before the end of a block and not visible yet.

    Parameters
    ----------
    deadlines
        Unix seconds until which each of them is waited for.
    odd
        Whether the scrapes of a gateway come otherwise than known.
    """

    deadlines: tuple[float, ...]
    odd: bool

    def late(self, now: float) -> bool:
        """Tell whether any is waited for still."""
        return any(now < deadline for deadline in self.deadlines)


class LateScrapes:
    """How late the gateways' scrapes are.

    Attributes
    ----------
    waits
        Times that blocks were postponed.
    patience
        Seconds from the end of a block until it is read, where the scrapes' usual lateness turned out to be longer.
    """

    def __init__(self) -> None:
        self.waits = 0
        self.patience = 0.0
        self._gateways: dict[int, frozenset[Source]] = {}
        self._awaited = 0.0  # end of the block that was postponed last

    def note(self, length: int, gateways: Collection[Source]) -> None:
        """Note which gateways had counters when blocks of a length were read last."""
        self._gateways[length] = frozenset(gateways)

    def due(self, presence: Result, length: int, scrape: float, end: float, settle: float) -> Due:
        """Return which scrapes are due before the end of a block of a length, and not visible yet.

        Parameters
        ----------
        presence
            The gateways' scrapes so far.
        length
            Seconds of the block.
        scrape
            Seconds between two scrapes, as known.
        end
            Unix seconds of the block's end.
        settle
            Seconds that a scrape takes at most until it is visible.
        """
        gateways, deadlines = self._gateways.get(length), list[float]()
        counting, as_known = {source.namespace for source in gateways or ()}, set[str]()
        for item in presence:
            labels = item["metric"]
            # Before the first block every target counts.
            if gateways is None or source_of(labels, labels.get("namespace", "")) in gateways:
                times = [sample[0] for sample in item["values"]]  # failed scrapes have a sample, too
                interval = min((later - at for at, later in pairwise(times)), default=scrape)
                if len(times) > 1 and abs(times[-1] - times[-2] - scrape) < _ODD * scrape:
                    as_known.add(labels.get("namespace", ""))
                due = times[-1] + interval
                if due - SCRAPE_JITTER <= end:
                    deadlines.append(due + interval + settle)
        return Due(tuple(deadlines), odd=not (as_known and counting <= as_known))

    def postpones(self, due: Due, scrape: float, end: float, now: float) -> bool:
        """Tell whether blocks wait for a scrape.

        The next block is read about as late as this one: where all scrapes are late that saves queries.
        """
        if due.late(now):
            self.waits += 1
            self._awaited = end
            return True
        if self._awaited != end:
            self.patience = max(0.0, self.patience - LOOK_AGAIN * scrape)
        elif not due.deadlines:
            self.patience = min(now - end - LOOK_AGAIN * scrape, scrape)
        return False
