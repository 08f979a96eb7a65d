"""Blocks: the counts of both legs at the gateway in one interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Counts(NamedTuple):
    """Increments of one leg's counters in one interval. It is a tuple because each block adds up dozens of them.

    Parameters
    ----------
    requests
        Requests that were answered or failed at the gateway, without client aborts and upgraded connections.
    errors
        Requests that count as errors. Classes of answers: :class:`cutover.domain.evidence.answers.Answer`.
    timed
        Requests in the latency histogram: the denominator of ``slow`` and ``very_slow``. It may lag ``requests`` by one
        flush of the proxy's statistics.
    slow
        Timed requests slower than the plan's first threshold (X1).
    very_slow
        Timed requests slower than the plan's second threshold (X2).
    refused, redirected, throttled
        Requests that were refused, redirected or throttled.
    excepted
        Requests whose answers have a code that the plan excepts: neither refused or redirected, nor good.
    """

    requests: float = 0.0
    errors: float = 0.0
    timed: float = 0.0
    slow: float = 0.0
    very_slow: float = 0.0
    refused: float = 0.0
    redirected: float = 0.0
    throttled: float = 0.0
    excepted: float = 0.0

    @property
    def successes(self) -> float:
        """Requests that were answered without an error."""
        return self.requests - self.errors

    @property
    def ok(self) -> float:
        """Requests with a good answer: what is in no other class."""
        return self.requests - self.errors - self.refused - self.redirected - self.throttled - self.excepted

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        """Return the sum, field by field: not the tuple of both."""
        return Counts(
            self.requests + other.requests,
            self.errors + other.errors,
            self.timed + other.timed,
            self.slow + other.slow,
            self.very_slow + other.very_slow,
            self.refused + other.refused,
            self.redirected + other.redirected,
            self.throttled + other.throttled,
            self.excepted + other.excepted,
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
    ambiguous
        Whether the block is unusable because its counters are of several clusters.
    heroku_codes, eks_codes
        Each leg's answers by HTTP status, for people; those of upgraded connections (101) are in no other count.
    thresholds
        X1 and X2, milliseconds, by which ``slow`` and ``very_slow`` were counted: ``None`` for one that was not known yet,
        whose count is 0; 0 if nobody asks. They say what the counts mean, and are not compared.
    """

    start: float
    end: float
    heroku: Counts = field(default_factory=Counts)
    eks: Counts = field(default_factory=Counts)
    gap: str = ""
    heroku_codes: Mapping[str, float] = field(default_factory=dict)
    eks_codes: Mapping[str, float] = field(default_factory=dict)
    ambiguous: bool = False
    thresholds: tuple[float | None, float | None] = field(default=(0.0, 0.0), compare=False)

    @property
    def usable(self) -> bool:
        """Whether the block may be judged."""
        return not self.gap

    @property
    def requests(self) -> float:
        """Requests of both legs."""
        return self.heroku.requests + self.eks.requests
