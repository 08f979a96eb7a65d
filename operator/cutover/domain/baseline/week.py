"""The record by the hour of the week: how busy each is, and how much answers differ from day to day."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from cutover.domain.baseline.record import Hour, Record, added, added_buckets, counts_by
from cutover.domain.baseline.used import NOTHING, Used, most_of
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import HOURS, hour_of_week
from cutover.domain.evidence.metrics import counts_of
from cutover.domain.evidence.rules import MetricName

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
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
    used
        The most that was used in any of them.
    """

    number: int
    hours: int = 0
    minutes: int = 0
    counts: Counts = field(default_factory=Counts)
    buckets: Mapping[float, float] = field(default_factory=dict)
    used: Used = NOTHING

    @property
    def rate(self) -> float | None:
        """Requests per second; ``None`` where less than half an hour is recorded."""
        return rate_of(self.counts.requests, self.minutes)


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
            most_of(hour.used for hour in hours),
        )
        for number, hours in found.items()
    )


def rates(record: Record) -> tuple[float | None, ...]:
    """Return the requests per second of each hour of the week, without all else: each reconcile in preflight asks."""
    requests, minutes = [0.0] * HOURS, [0] * HOURS
    for hour in record.hours:
        number = hour_of_week(hour.start)
        requests[number] += hour.counts.requests
        minutes[number] += hour.minutes
    return tuple(rate_of(all_of, of) for all_of, of in zip(requests, minutes, strict=True))


def rate_of(requests: float, minutes: int) -> float | None:
    """Return the requests per second; ``None`` where less than half an hour is recorded."""
    return requests / (60.0 * minutes) if minutes >= 30 else None


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
    # An incident would move the fraction of its hour of the day, and with it all others of that hour: it goes first.
    odd = sorted(
        (_oddness(cell, median(bad / total for bad, total in cells)), which, number)
        for which, cells in by_day.items()
        for number, cell in enumerate(cells)
    )
    left_out = {(which, number) for _, which, number in odd[len(odd) - _left_out(len(odd)) :]}
    statistic, degrees = 0.0, 0
    for which, cells in by_day.items():
        kept = [cell for number, cell in enumerate(cells) if (which, number) not in left_out]
        fraction = sum(bad for bad, _ in kept) / sum(total for _, total in kept) if kept else 0.0
        if len(kept) > 1 and 0 < fraction < 1:
            statistic += sum(
                (bad - total * fraction) ** 2 / variance
                for bad, total in kept
                if (variance := total * fraction * (1 - fraction)) > 0
            )
            degrees += len(kept) - 1
    return min(max(statistic / degrees, 1.0), MOST_DISPERSION) if degrees else 1.0


def _left_out(hours: int) -> int:
    """Return how many hours the dispersion leaves out; none of a record of a day."""
    return math.ceil(_LEFT_OUT * hours) if hours > 24 else 0


def _oddness(cell: tuple[float, float], usual: float) -> float:
    """Return how far an hour is from what is usual, in variances; at least one bad request is."""
    bad, total = cell
    return (bad - total * usual) ** 2 / max(total * usual * (1 - usual), 1.0)
