"""The record by the hour of the week: how busy each is, and how much answers differ from day to day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cutover.domain.baseline.record import HOUR, Hour, Record, added, added_buckets, counts_by
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.metrics import counts_of
from cutover.domain.evidence.rules import MetricName

HOURS = 168
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
#: Hour of the week in which Unix time begins, a Thursday.
_FIRST = 72
#: The metrics of answers, which do not depend on the plan's thresholds.
ANSWERS: tuple[MetricName, ...] = ("errors", "refused", "redirected")
#: Part of the hours that the dispersion leaves out, those that differ most: an incident of an hour is no habit.
_LEFT_OUT = 0.01
MOST_DISPERSION = 10_000.0


@dataclass(frozen=True, slots=True)
class WeekHour:
    """One hour of the week in all weeks of the record.

    Parameters
    ----------
    number
        0 is Monday from 00:00 to 01:00 UTC, 167 the last hour of Sunday.
    hours
        How many there were in the record.
    minutes
        Minutes of them that were recorded without loss.
    counts, buckets
        As of an :class:`Hour`, all together.
    """

    number: int
    hours: int = 0
    minutes: int = 0
    counts: Counts = field(default_factory=Counts)
    buckets: Mapping[float, float] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Requests per second; ``None`` where less than half an hour is recorded."""
        return self.counts.requests / (60.0 * self.minutes) if self.minutes >= 30 else None


@dataclass(frozen=True, slots=True)
class Peak:
    """The busiest hour of the record.

    Parameters
    ----------
    rate
        Requests per second.
    at
        Unix seconds of its start; ``None`` if no hour is known.
    """

    rate: float
    at: float | None

    @property
    def hour(self) -> str:
        """Its hour of the week, in words; ``""`` if no hour is known."""
        return "" if self.at is None else name_of(hour_of_week(self.at))


def hour_of_week(at: float) -> int:
    """Return the hour of the week, in UTC, that a time in Unix seconds lies in."""
    return (math.floor(at / HOUR) + _FIRST) % HOURS


def name_of(number: int) -> str:
    """Return an hour of the week in words: ``Tue 14:00``."""
    return f"{_DAYS[number // 24]} {number % 24:02d}:00"


def by_week(record: Record) -> tuple[WeekHour, ...]:
    """Return the record by the hour of the week, all 168 of them."""
    found: dict[int, list[Hour]] = {number: [] for number in range(HOURS)}
    for hour in record.hours:
        found[hour_of_week(hour.start)].append(hour)
    return tuple(
        WeekHour(
            number,
            len(hours),
            sum(hour.minutes for hour in hours),
            added(hour.counts for hour in hours),
            added_buckets(hour.buckets for hour in hours),
        )
        for number, hours in found.items()
    )


def peak(record: Record) -> Peak:
    """Return the busiest hour."""
    rates = [(rate, hour.start) for hour in record.hours if (rate := hour.rate) is not None]
    rate, at = max(rates, default=(0.0, None))
    return Peak(rate, at)


def dispersion(record: Record, metric: MetricName, slow_ms: float | None = None) -> float:
    """Return how many times more a metric differs from day to day than by chance: 1 where requests go wrong one by one.

    It is Pearson's statistic per degree of freedom (McCullagh and Nelder 1989), where each hour of the day has a fraction of
    its own, so that a quiet night is no dispersion. Errors that come in clumps of ten have one of ten.

    Parameters
    ----------
    record
        The record.
    metric
        One of the answers, or ``slow``.
    slow_ms
        The bound beyond which requests are slow.
    """
    by_day: dict[int, list[tuple[float, float]]] = {}
    for hour in record.hours:
        counts = hour.counts if metric in ANSWERS else counts_by(hour, slow_ms)
        bad, total = counts_of(counts, metric)
        if hour.minutes and total > 0:
            by_day.setdefault(hour_of_week(hour.start) % 24, []).append((min(max(bad, 0.0), total), total))
    terms, degrees = list[float](), 0.0
    for cells in by_day.values():
        fraction = sum(bad for bad, _ in cells) / sum(total for _, total in cells)
        if len(cells) > 1 and 0 < fraction < 1:
            terms += [(bad - total * fraction) ** 2 / (total * fraction * (1 - fraction)) for bad, total in cells]
            degrees += len(cells) - 1
    left_out = math.ceil(_LEFT_OUT * len(terms)) if len(terms) > 24 else 0
    kept = sorted(terms)[: len(terms) - left_out]
    degrees -= left_out
    return min(max(sum(kept) / degrees, 1.0), MOST_DISPERSION) if degrees > 0 else 1.0
