"""The verdict of a bound: a value that must not be outside its limits for too long.

A bound has no state. Only the values of the last ``for`` are judged, which Prometheus keeps: after a crash the same values
are read again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from cutover.api.durations import span
from cutover.api.v1alpha1.gates import BoundSlo
from cutover.domain.evidence.scrapes import Result
from cutover.domain.evidence.sentences import times_before
from cutover.domain.slo.custom import SloReading, differing
from cutover.domain.verdicts import Verdict

#: One value may be missing; with two missing in a row it is unknown what was in between.
HOLE_IN_SCRAPES = 2.0
#: Seconds after which a reading is too old at any scrape interval. Every query is asked at least once a minute.
LONGEST_SILENCE = 120.0

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class BoundJudgement:
    """The judgement of a bound.

    Parameters
    ----------
    verdict
        FAIL only if every value of the last ``for`` is outside.
    number
        The newest value; ``None`` without a value.
    outside_seconds
        Seconds for which the value has been outside without a break; ``None`` if it is inside or unknown.
    why
        Why there is no verdict, for people; ``""`` if there is a verdict.
    """

    verdict: Verdict
    number: float | None = None
    outside_seconds: float | None = None
    why: str = ""


def judge(slo: BoundSlo, reading: SloReading, *, baseline: float | None, since: float, now: float) -> BoundJudgement:
    """Judge a bound by its newest values.

    Parameters
    ----------
    slo
        The bound's limits.
    reading
        The values that were read, or the problem.
    baseline
        Value of the query before the migration; ``None`` if it was not recorded.
    since
        Unix seconds. Earlier values belong to another weight, and are not judged.
    now
        Unix seconds.
    """
    points = [(at, value) for at, value in reading.points if at >= since and math.isfinite(value)]
    number = points[-1][1] if points else None
    if reading.problem is not None:
        return BoundJudgement(reading.problem.verdict, number, why=reading.problem.message)
    hole = HOLE_IN_SCRAPES * slo.scrape_interval.total_seconds()
    if not reading.asked_at:
        return BoundJudgement(Verdict.UNDECIDED, number, why="not asked yet")
    if number is None:
        if now - since <= max(hole, LONGEST_SILENCE):
            return BoundJudgement(Verdict.UNDECIDED, why="no value yet since the weight was seen")
        return BoundJudgement(
            Verdict.NO_DATA, why="the query gives no value; ask it in Prometheus: are its metrics there?"
        )
    if now - reading.asked_at > max(hole, LONGEST_SILENCE):
        asked = span(now - reading.asked_at, exact=True)
        why = f"Prometheus was asked {asked} ago for the last time; does it answer?"
        return BoundJudgement(Verdict.NO_DATA, number, why=why)
    if reading.asked_at - points[-1][0] > hole:
        why = f"the newest value is {span(reading.asked_at - points[-1][0], exact=True)} old"
        return BoundJudgement(Verdict.NO_DATA, number, why=why)

    least, most = _limits(slo, baseline)
    outside = _outside(points, least, most, hole)
    if outside is not None:
        failed = outside >= slo.for_.total_seconds()
        return BoundJudgement(Verdict.FAIL if failed else Verdict.UNDECIDED, number, outside)
    if why := _unknown_baseline(slo, baseline):
        return BoundJudgement(Verdict.NO_DATA, number, why=why)
    return BoundJudgement(Verdict.PASS, number)


def _outside(points: Sequence[tuple[float, float]], least: float, most: float, hole: float) -> float | None:
    """Return the seconds for which all values have been outside; ``None`` if the newest value is inside."""
    if least <= points[-1][1] <= most:
        return None
    newest = first = points[-1][0]
    for at, value in reversed(points[:-1]):
        if least <= value <= most or first - at > hole:
            break
        first = at
    return newest - first


def _limits(slo: BoundSlo, baseline: float | None) -> tuple[float, float]:
    """Return the smallest and the largest tolerated value, as far as they are known."""
    least = -math.inf if slo.min is None else slo.min
    most = math.inf if slo.max is None else slo.max
    if slo.times_baseline is not None and of_use(baseline):
        most = min(most, slo.times_baseline * baseline)
    return least, most


def of_use(baseline: float | None) -> TypeGuard[float]:
    """Tell whether a baseline can be multiplied into a limit.

    A multiple of 0 tolerates nothing: with the throttling of an idle pod as baseline, the first request would roll back.
    """
    return baseline is not None and 0 < baseline < math.inf


def _unknown_baseline(slo: BoundSlo, baseline: float | None) -> str:
    if slo.times_baseline is None or of_use(baseline):
        return ""
    times = times_before(slo.times_baseline)
    if baseline is None:
        return f"tolerated is at most {times}, which is not known, as it is recorded only before the first step; write max instead"
    return f"tolerated is at most {times}, which was {baseline:.4g}; write max instead"


def points_of(result: Result) -> tuple[Points, str]:
    """Return the values of a range query, and what is ambiguous if the newest time has several series.

    Times with several series, NaN or an infinite value are left out.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the result is not the answer of ``query_range``.
    """
    found: dict[float, list[tuple[Mapping[str, str], float]]] = {}
    for item in result:
        for at, text in item["values"]:
            found.setdefault(float(at), []).append((item["metric"], float(text)))
    ambiguous = ""
    if found and len(newest := found[max(found)]) > 1:
        ambiguous = f"{len(newest)} series where one is expected, {differing([labels for labels, _ in newest])}"
    points = tuple(
        (at, values[0][1]) for at, values in sorted(found.items()) if len(values) == 1 and math.isfinite(values[0][1])
    )
    return points, ambiguous


def value_of(result: Result) -> tuple[float | None, str]:
    """Return the value of an instant query, and what is ambiguous if it has several series.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the result is not the answer of an instant query for a vector.
    """
    if len(result) > 1:
        labels = [item["metric"] for item in result]
        return None, f"{len(result)} series where one is expected, {differing(labels)}"
    for item in result:
        value = float(item["value"][1])
        return (value if math.isfinite(value) else None), ""
    return None, ""


def freshness_query(selectors: Sequence[str]) -> str:
    """Return one query for the times of the newest samples of several selectors."""
    return " or ".join(
        f'label_replace(max(timestamp({selector})), "selector", "{number}", "", "")'
        for number, selector in enumerate(selectors)
    )


def stale(result: Result, selectors: Sequence[str], *, now: float, limit: float) -> str:
    """Return which selector's newest sample is too old; ``""`` if no sample is.

    A selector without samples does not count as stale: if it needs samples, the expression has no value anyway, and
    otherwise (``errors or vector(0)``) it is no fault.

    Parameters
    ----------
    result
        Answer to `freshness_query`.
    selectors
        The selectors that `freshness_query` was made for.
    now
        Unix seconds of the query.
    limit
        Seconds after which a sample is too old.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the result is not the answer to that query.
    """
    for item in result:
        age = now - float(item["value"][1])
        if age > limit:
            return f"the newest sample of {selectors[int(item['metric']['selector'])]} is {round(age)} s old"
    return ""
