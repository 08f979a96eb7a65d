"""Blocks: the counts of both legs at the gateway in one interval."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """Increments of one leg's counters in one interval.

    Parameters
    ----------
    requests
        Requests that were answered or failed at the gateway, without client aborts.
    errors
        Requests that count as errors (5xx; for Heroku also 421 and 495).
    timed
        Requests in the latency histogram: the denominator of ``slow`` and ``very_slow``. It may lag ``requests`` by one
        flush of the proxy's statistics.
    slow
        Timed requests slower than the plan's first threshold (X1).
    very_slow
        Timed requests slower than the plan's second threshold (X2).
    """

    requests: float = 0.0
    errors: float = 0.0
    timed: float = 0.0
    slow: float = 0.0
    very_slow: float = 0.0

    @property
    def successes(self) -> float:
        """Requests that were answered without an error."""
        return self.requests - self.errors

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.errors + other.errors,
            self.timed + other.timed,
            self.slow + other.slow,
            self.very_slow + other.very_slow,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """The counts of both legs in one interval, read at the same timestamps.

    Parameters
    ----------
    start, end
        Unix seconds. Blocks are aligned to the clock (multiples of their length, plus the offset at which the gateways
        are scraped), so that a replay after a restart gives the same blocks.
    heroku, eks
        The increments of each leg within ``(start, end]``.
    gap
        Why the block must not be judged (a missed scrape, an inconsistent increment, …); ``""`` if it is usable. The
        counts of an unusable block mean nothing.
    """

    start: float
    end: float
    heroku: Counts = field(default_factory=Counts)
    eks: Counts = field(default_factory=Counts)
    gap: str = ""

    @property
    def usable(self) -> bool:
        """Whether the block may be judged."""
        return not self.gap

    @property
    def requests(self) -> float:
        """Requests of both legs."""
        return self.heroku.requests + self.eks.requests
