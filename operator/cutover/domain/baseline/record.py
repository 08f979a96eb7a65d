"""Heroku's record of the time before the takeover, by the hour, and whether it is enough."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from cutover.domain.baseline.released import Released
from cutover.domain.baseline.used import NOTHING, Used
from cutover.domain.evidence.blocks import Counts

HOUR = 3600.0
#: Minutes of an hour; the coverage of the record is counted in them.
MINUTES = 60


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a record reaches back, and how whole it is.

    Parameters
    ----------
    until
        Unix seconds of its end, a whole hour.
    minutes
        Of each hour of the window, the oldest first, the minutes that were recorded without loss (0 to 60).
    """

    until: float
    minutes: tuple[int, ...]

    @property
    def part(self) -> float:
        """Part of the window's minutes that is recorded; 0 for no window."""
        return sum(self.minutes) / (MINUTES * len(self.minutes)) if self.minutes else 0.0

    @property
    def start(self) -> float:
        """Unix seconds at which the window begins."""
        return self.until - HOUR * len(self.minutes)

    @property
    def first(self) -> float | None:
        """Unix seconds of the first hour of which anything is recorded; ``None`` if nothing is."""
        number = next((number for number, minutes in enumerate(self.minutes) if minutes), None)
        return None if number is None else self.start + HOUR * number

    @property
    def missing(self) -> int:
        """Minutes that are missing since the first hour of which anything is recorded."""
        first = next((number for number, minutes in enumerate(self.minutes) if minutes), len(self.minutes))
        return sum(MINUTES - minutes for minutes in self.minutes[first:])

    def enough_at(self, least: float) -> float:
        """Return the Unix seconds at which enough is recorded if nothing is lost from now on: ``until`` if it is.

        Parameters
        ----------
        least
            Part of the window that is enough, above 0 and at most 1.
        """
        needed = least * MINUTES * len(self.minutes) - 1e-6
        kept = sum(self.minutes)
        for later, leaving in enumerate((*self.minutes, 0)):
            # After so many hours as many of the oldest have left the window, and each new one is whole.
            if kept + MINUTES * later >= needed:
                return self.until + HOUR * later
            kept -= leaving
        return self.until + HOUR * len(self.minutes)


@dataclass(frozen=True, slots=True)
class Hour:
    """What was counted of Heroku in one hour.

    Parameters
    ----------
    start
        Unix seconds, a whole hour.
    minutes
        Minutes that were recorded without loss.
    counts
        Requests by the class of their answers; ``timed`` are those in the histogram.
    bounds
        Bounds of its histogram in milliseconds, rising, ``inf`` for all. Most hours share one tuple.
    below
        Requests at or below each bound. There are hundreds of hours, so these are plain numbers.
    used
        What was used besides.
    """

    start: float
    minutes: int
    counts: Counts = field(default_factory=Counts)
    bounds: tuple[float, ...] = ()
    below: array[float] = field(default_factory=lambda: array("d"))
    used: Used = NOTHING

    @classmethod
    def of(
        cls, start: float, minutes: int, counts: Counts, buckets: Mapping[float, float], used: Used = NOTHING
    ) -> Self:
        """Return an hour; ``buckets`` has requests at or below each bound."""
        rising, most = list[float](), 0.0
        for bound in sorted(buckets):
            rising.append(most := max(most, buckets[bound]))  # each is extrapolated by itself
        timed = counts._replace(timed=buckets.get(math.inf, 0.0))
        return cls(start, minutes, timed, _shared(tuple(sorted(buckets))), array("d", rising), used)

    @property
    def buckets(self) -> Mapping[float, float]:
        """Requests at or below each bound."""
        return dict(zip(self.bounds, self.below, strict=True))

    @property
    def rate(self) -> float | None:
        """Requests per second; ``None`` where less than half of the hour is recorded."""
        return self.counts.requests / (60.0 * self.minutes) if self.minutes * 2 >= MINUTES else None


@dataclass(frozen=True, slots=True)
class Record:
    """All hours of the window, without holes in time.

    Parameters
    ----------
    source
        Who counted: ``Drain`` or ``Gateway``.
    reach
        Which minutes are recorded.
    hours
        The hours, the oldest first.
    most
        The most that was used in an hour.
    released
        The releases within it; ``None`` where nothing tells of any.
    unread
        Why what was used is missing for some hours or all; ``""`` if it was asked for and answered.
    """

    source: str
    reach: Reach
    hours: tuple[Hour, ...]
    most: Used = NOTHING
    released: Released | None = None
    unread: str = ""

    @property
    def total(self) -> Counts:
        """All requests."""
        return added(hour.counts for hour in self.hours)

    @property
    def buckets(self) -> Mapping[float, float]:
        """The latencies of all requests."""
        return added_buckets(hour.buckets for hour in self.hours)


@dataclass(frozen=True, slots=True)
class RecordReading:
    """What is known of a plan's record.

    Parameters
    ----------
    reach
        How far it reaches back; ``None`` before Prometheus has said so.
    record
        The record; ``None`` where too little of it is there.
    problem
        Why nothing newer is known; ``""`` if there is no reason.
    impossible
        Why there can be no record, whatever Prometheus says; ``""`` if there can.
    keeps_seconds
        For how long Prometheus keeps samples; ``None`` if it does not tell.
    """

    reach: Reach | None = None
    record: Record | None = None
    problem: str = ""
    impossible: str = ""
    keeps_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """Whether the record is kept in full.

    Parameters
    ----------
    config_map
        Name of the ConfigMap; ``""`` if there is none.
    problem
        Why there is none; ``""`` if there is one.
    """

    config_map: str = ""
    problem: str = ""


@lru_cache(maxsize=16)
def _shared(bounds: tuple[float, ...]) -> tuple[float, ...]:
    """Return the first of equal tuples."""
    return bounds


def added(counts: Iterable[Counts]) -> Counts:
    """Return the sum of counts."""
    total = Counts()
    for each in counts:
        total += each
    return total


def added_buckets(each: Iterable[Mapping[float, float]]) -> dict[float, float]:
    """Return the sum of histograms, by their bounds."""
    total: dict[float, float] = {}
    for buckets in each:
        for bound, number in buckets.items():
            total[bound] = total.get(bound, 0.0) + number
    return dict(sorted(total.items()))


def quantile(buckets: Mapping[float, float], part: float) -> float | None:
    """Return the milliseconds that a part of the requests took at most, as Prometheus estimates them.

    Within a bucket requests are taken as spread evenly. ``None`` without requests; the last finite bound for what is above it.
    """
    finite = sorted(bound for bound in buckets if math.isfinite(bound))
    total = buckets.get(math.inf, 0.0)
    if total <= 0 or not finite:
        return None
    wanted, low, below = part * total, 0.0, 0.0
    for bound in finite:
        here = buckets[bound]
        if here >= wanted:
            return low + (bound - low) * ((wanted - below) / (here - below) if here > below else 1.0)
        low, below = bound, here
    return finite[-1]


def counts_by(hour: Hour, slow_ms: float | None) -> Counts:
    """Return an hour's counts with the requests that were slower than a bound; nothing is timed without such a bound."""
    buckets = hour.buckets
    if slow_ms is None or slow_ms not in buckets or math.inf not in buckets:
        return hour.counts._replace(timed=0.0, slow=0.0)
    return hour.counts._replace(timed=buckets[math.inf], slow=buckets[math.inf] - buckets[slow_ms])


def same_hours(hours: Sequence[Hour], start: float, end: float, *, least: float) -> tuple[Hour, ...]:
    """Return the hours to compare a time with: the same hours of the week or, where those had too few requests, of the day.

    Parameters
    ----------
    hours
        The record's.
    start, end
        Unix seconds.
    least
        Requests that are enough.
    """
    now = range(math.floor(start / HOUR), max(math.ceil(end / HOUR), math.floor(start / HOUR) + 1))
    for period in (168, 24):
        wanted = {number % period for number in now}
        found = tuple(one for one in hours if one.minutes and round(one.start / HOUR) % period in wanted)
        if sum(one.counts.requests for one in found) >= least:
            return found
    return ()
