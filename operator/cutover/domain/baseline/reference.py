"""From the record to a reference: what is normal of each metric in an hour of the week, and how sure that is.

An hour of the cutover is another week than those of the record. So its real fraction differs from what was counted by chance,
as few requests tell little, and because weeks differ. The first is known from the counts, the second from the record itself:
from how much the same hours of it differ. Two forms of that are looked for, and the wider counts: bad requests in clumps, of
which a busy hour averages many out, and whole hours that are better or worse, of which it averages none.

Both make the counts weigh less: so many requests without any dispersion would tell as much. The upper limit is that of the
weighed counts (:func:`cutover.domain.evidence.metrics.upper_limit`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median_low
from typing import NamedTuple

from cutover.api.v1alpha1 import BaselineSource
from cutover.domain.baseline.record import Record, counts_by
from cutover.domain.baseline.week import ANSWERS
from cutover.domain.evidence.hourly import HOURS, HourlyReference, Normal, hour_of_week
from cutover.domain.evidence.live_key import exceeds
from cutover.domain.evidence.memory import SICK_FACTOR
from cutover.domain.evidence.metrics import LATENCIES, counts_of, upper_limit
from cutover.domain.evidence.rules import GateRules, MetricName, MetricRule

#: Hours of the day, which are taken together where the hour of the week has too few requests.
_DAY = 24
#: The same hours, at least, of a week and of a day. One alone does not tell whether it was usual.
_LEAST_HOURS = {HOURS: 2, _DAY: 3}
#: Pairs of the same hours without which nothing is known of how much they differ.
_LEAST_DEGREES = 24
#: Standard errors that are added to the dispersion: its upper limit at about 99 %.
_DISPERSION_ERRORS = 2.33
#: An hour of the week with so many times the least requests is sure enough, however sure that hour of all days is.
_PLENTY = 4.0

Cell = tuple[float, float]
"""Bad and all requests of an hour."""


class Spread(NamedTuple):
    """How much the same hours differ, as an upper limit.

    Parameters
    ----------
    clumps
        Variance of the counts in multiples of what chance makes, at least 1.
    drift
        Variance of the fraction from hour to hour, relative to its square.
    """

    clumps: float
    drift: float


class _Known(NamedTuple):
    """What is normal in an hour, its requests, and how many they weigh as much as."""

    requests: float
    weight: float
    normal: Normal


def hourly_reference(
    record: Record, rules: GateRules, thresholds: tuple[float | None, float | None]
) -> HourlyReference:
    """Return what is normal in each hour of the week.

    Parameters
    ----------
    record
        The record. Its latencies count only where the plan's gateways took them.
    rules
        The plan's rules. A metric exceeds an upper limit in any hour of a week with a chance of at most ``reference_doubt``, and
        a reached fraction in one hour with at most ``alpha``.
    thresholds
        X1 and X2, milliseconds; ``None`` for unknown.
    """
    judged = {rule.name: rule for rule in rules.metrics}
    known = thresholds if record.source == BaselineSource.GATEWAY else (None, None)
    slow_by = dict(zip(LATENCIES, known, strict=True))
    hours: dict[MetricName, list[Normal | None]] = {}
    for name, rule in judged.items():
        bound = slow_by.get(name)
        if name in ANSWERS or bound is not None:
            hours[name] = _hours(_cells(record, name, bound), rule, rules)
    hours = {name: normals for name, normals in hours.items() if any(normals)}
    slow, very_slow = (bound or 0.0 for bound in known)
    return HourlyReference.of(hours, codes=rules.codes, thresholds=(slow, very_slow))


def _cells(record: Record, name: MetricName, bound: float | None) -> list[tuple[int, Cell]]:
    """Return the bad and all requests of each recorded hour, with its hour of the week."""
    cells = list[tuple[int, Cell]]()
    for hour in record.hours:
        if not hour.minutes:
            continue
        if bound is None:
            bad, total = counts_of(hour.counts, name)
        else:
            counts = counts_by(hour, bound)
            bad, total = counts.slow, counts.timed
        if total >= 1:
            cells.append((hour_of_week(hour.start), (min(max(bad, 0.0), total), total)))
    return cells


def _hours(cells: Sequence[tuple[int, Cell]], rule: MetricRule, rules: GateRules) -> list[Normal | None]:
    least = _least(rule, rules)
    by_week, by_day = (_group(cells, rule, period, rules) for period in (HOURS, _DAY))
    found = list[Normal | None]()
    for number in range(HOURS):
        of_week, of_day = by_week.get(number), by_day.get(number % _DAY)
        best = of_week
        if of_day is not None and (of_week is None or of_week.weight < min(_PLENTY * least, of_day.weight)):
            best = of_day
        found.append(best.normal if best is not None and best.requests >= least else None)
    return found


def _least(rule: MetricRule, rules: GateRules) -> float:
    """Return the fewest requests that tell anything: with fewer, none that is bad would not be known to be below the floor."""
    return -math.log(rules.reference_doubt / HOURS) / rule.floor


def _group(cells: Iterable[tuple[int, Cell]], rule: MetricRule, period: int, rules: GateRules) -> dict[int, _Known]:
    """Return what is normal in each hour of a period. None reaches more than the worst hour of the record did."""
    doubt, least = rules.reference_doubt / HOURS, _least(rule, rules)
    groups: dict[int, list[Cell]] = {}
    for number, cell in cells:
        groups.setdefault(number % period, []).append(cell)
    kept = {number: without_incidents(group, rule) for number, group in groups.items()}
    spread = spread_of(kept.values())
    if spread is None:
        return {}
    worst = max((bad / total for group in kept.values() for bad, total in group if total >= least), default=0.0)
    found = dict[int, _Known]()
    for number, group in kept.items():
        if len(group) >= _LEAST_HOURS[period]:
            bad, total = sum(bad for bad, _ in group), sum(total for _, total in group)
            counted, weight = bad / total, weight_of(bad, total, len(group), spread)
            of_weeks = weight_of(bad, total, len(group), spread, counted_well=True)
            reached = upper_limit(counted * of_weeks, of_weeks, rules.alpha) if of_weeks < math.inf else counted
            reached = max(min(reached, worst), counted)
            found[number] = _Known(total, weight, Normal(reached, upper_limit(counted * weight, weight, doubt)))
    return found


def without_incidents(group: Sequence[Cell], rule: MetricRule) -> list[Cell]:
    """Return the hours without incidents: those beyond the floor and far worse than the same hours of most weeks.

    An hour that is as bad in most weeks is a habit, and one that has more bad requests by chance is no incident.
    """
    usual = median_low(bad / total for bad, total in group)
    limit = max(SICK_FACTOR * usual, rule.floor)
    return [(bad, total) for bad, total in group if not exceeds(bad, limit * total)]


def spread_of(groups: Iterable[Sequence[Cell]]) -> Spread | None:
    """Return how much the hours within groups differ; ``None`` if too few are the same hours."""
    pearson = squares = by_chance = means = 0.0
    degrees = seen = 0
    for group in groups:
        if len(group) < 2:
            continue
        seen += len(group) - 1
        every = sum(total for _, total in group)
        fraction = sum(bad for bad, _ in group) / every
        if not 0 < fraction < 1:
            continue
        degrees += len(group) - 1
        for bad, total in group:
            square, variance, others = (
                (bad - total * fraction) ** 2,
                total * fraction * (1 - fraction),
                1 - total / every,
            )
            pearson += square / variance
            squares += square
            by_chance += variance * others
            means += (total * fraction) ** 2 * others
    if seen < _LEAST_DEGREES:
        return None
    if not degrees:
        return Spread(1.0, 0.0)
    unsure = 1.0 + _DISPERSION_ERRORS * math.sqrt(2.0 / degrees)
    drift = (squares * unsure - by_chance) / means if means else 0.0
    return Spread(max(unsure * pearson / degrees, 1.0), max(drift, 0.0))


def weight_of(bad: float, total: float, hours: int, spread: Spread, *, counted_well: bool = False) -> float:
    """Return the requests without dispersion that tell as much of another such hour as these hours do.

    Parameters
    ----------
    bad, total
        Counts of the hours together.
    hours
        How many there are.
    spread
        How much they differ.
    counted_well
        Whether to leave out that few requests tell little: infinite where hours do not differ.
    """
    fraction = (bad + 1.0) / (total + 2.0)
    # Variance of the fraction of an hour, in multiples of that of one request.
    of_hour = max((spread.clumps - 1.0) * hours / total, spread.drift * fraction / (1.0 - fraction))
    variance = of_hour * (1.0 + 1.0 / hours) + (0.0 if counted_well else 1.0 / total)
    return 1.0 / variance if variance else math.inf
