"""The verdict of a bound: a value that must not be outside its limits for too long.

Nothing is remembered. All that is judged are the values of the last ``for``, which Prometheus keeps: after a crash the
same ones are read again.
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

#: A value may be missing; with two in a row nobody knows what was in between.
HOLE_IN_SCRAPES = 2.0
#: Seconds after which a reading says nothing of now, whatever the scrape interval. Plans ask at least every minute.
LONGEST_SILENCE = 120.0

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class BoundJudgement:
    """What is said of a bound.

    Parameters
    ----------
    verdict
        FAIL only where every value of the last ``for`` is outside.
    number
        The newest value, ``None`` without one.
    outside_seconds
        For how long it has been outside without a break; ``None`` while it is inside, or nobody knows.
    why
        Why there is no verdict, for people; ``""`` where there is one.
    """

    verdict: Verdict
    number: float | None = None
    outside_seconds: float | None = None
    why: str = ""


def judge(slo: BoundSlo, reading: SloReading, *, baseline: float | None, since: float, now: float) -> BoundJudgement:
    """Say what a bound's newest values mean.

    Parameters
    ----------
    slo
        What is tolerated.
    reading
        Values and problems.
    baseline
        What the query gave before anything moved, where that was recorded.
    since
        Unix seconds: values from before belong to another weight, and are not judged.
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
    """Return for how many seconds all values have been outside, ``None`` if the newest is not."""
    if least <= points[-1][1] <= most:
        return None
    newest = first = points[-1][0]
    for at, value in reversed(points[:-1]):
        if least <= value <= most or first - at > hole:
            break
        first = at
    return newest - first


def _limits(slo: BoundSlo, baseline: float | None) -> tuple[float, float]:
    """Return the smallest and the largest value that are tolerated, as far as they are known."""
    least = -math.inf if slo.min is None else slo.min
    most = math.inf if slo.max is None else slo.max
    if slo.times_baseline is not None and of_use(baseline):
        most = min(most, slo.times_baseline * baseline)
    return least, most


def of_use(baseline: float | None) -> TypeGuard[float]:
    """Tell whether a bound can be measured by what its query gave before.

    A multiple of nothing tolerates nothing: an idle pod's throttling would roll back with the first request.
    """
    return baseline is not None and 0 < baseline < math.inf


def _unknown_baseline(slo: BoundSlo, baseline: float | None) -> str:
    if slo.times_baseline is None or of_use(baseline):
        return ""
    times = times_before(slo.times_baseline)
    if baseline is None:
        return f"tolerated is at most {times}, which is not known: it is recorded before the first step only; write max instead"
    return f"tolerated is at most {times}, which was {baseline:.4g}; write max instead"


def points_of(result: Result) -> tuple[Points, str]:
    """Return the values of a range query, and what to say if the newest time has several.

    Times with several series, NaN or an infinite value have no point.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not the answer of ``query_range``.
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
    """Return the value of an instant query, and what to say if it has several.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not the answer of an instant query for a vector.
    """
    if len(result) > 1:
        labels = [item["metric"] for item in result]
        return None, f"{len(result)} series where one is expected, {differing(labels)}"
    for item in result:
        value = float(item["value"][1])
        return (value if math.isfinite(value) else None), ""
    return None, ""


def freshness_query(selectors: Sequence[str]) -> str:
    """Return the query for the times of the newest samples of some selectors, all in one."""
    return " or ".join(
        f'label_replace(max(timestamp({selector})), "selector", "{number}", "", "")'
        for number, selector in enumerate(selectors)
    )


def stale(result: Result, selectors: Sequence[str], *, now: float, limit: float) -> str:
    """Return which selector's newest sample is too old, ``""`` if none is.

    A selector without any sample is none of them: where it should have one the expression has no value, and where it
    need not (``errors or vector(0)``) that is no fault.

    Parameters
    ----------
    result
        Answer to `freshness_query`.
    selectors
        As given to it.
    now
        Unix seconds at which it was asked.
    limit
        Seconds.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is not the answer.
    """
    for item in result:
        age = now - float(item["value"][1])
        if age > limit:
            return f"the newest sample of {selectors[int(item['metric']['selector'])]} is {round(age)} s old"
    return ""
