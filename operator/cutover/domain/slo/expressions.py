"""Counts of a custom SLO's queries that are no plain counter selectors.

Such an expression is evaluated at the blocks' ends, and its rise in between is the count. The effect of a restart on a sum is
unknown then, and such a block is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cutover.domain.evidence.scrapes import Result
from cutover.domain.slo.custom import differing
from cutover.domain.slo.ratio import Count

#: Blocks within which an expression that fell and is back at its old value has only recovered.
LEAD_BLOCKS = 4

_INF = math.inf

#: Labels and values of the series that an expression has at one time.
Values = list[tuple[Mapping[str, str], float]]


def rise(result: Result, *, start: float, end: float, length: int) -> list[Count]:
    """Count the rise of an expression between the blocks' ends.

    Parameters
    ----------
    result
        Answer of ``query_range`` from `LEAD_BLOCKS` before ``start`` to ``end`` every ``length`` seconds.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the result is not such an answer.
    """
    values = _values(result, start - LEAD_BLOCKS * length, end, length)
    return [
        _rise(values[number - LEAD_BLOCKS : number], values[number], values[number + 1])
        for number in range(LEAD_BLOCKS, len(values) - 1)
    ]


def values_at(result: Result, at: float) -> Values:
    """Return the series of a range query that have a value at a time.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the result is not the answer of ``query_range``.
    """
    return [
        (item["metric"], float(text))
        for item in result
        for time, text in item["values"]
        if abs(float(time) - at) < 1e-3
    ]


def _values(result: Result, start: float, end: float, length: int) -> list[Values]:
    values: list[Values] = [[] for _ in range(round((end - start) / length) + 1)]
    for item in result:
        for at, text in item["values"]:
            which = round((float(at) - start) / length)
            if 0 <= which < len(values):
                values[which].append((item["metric"], float(text)))
    return values


def _rise(lead: Sequence[Values], before: Values, after: Values) -> Count:
    for found in (after, before):
        if len(found) > 1:
            return Count(0.0, ambiguity(found))
    if not before or not after:
        return Count(0.0, "it has no value; where that means 0, add: or vector(0)")
    (labels_before, first), (labels_after, last) = before[0], after[0]
    if labels_before != labels_after:
        return Count(0.0, "it is another series than before; add up all of them with sum()")
    if not (0.0 <= first < _INF and 0.0 <= last < _INF):
        return Count(0.0, f"it is {last:g}, which is no count")
    if last < first:
        return Count(
            0.0, f"it fell from {first:.10g} to {last:.10g}; a plain counter selector would survive a restart"
        )
    # What a sum lost by a failed scrape comes back with the next scrape.
    if any(first < value <= last for found in lead for _, value in found):
        return Count(
            0.0, f"it fell, and is back at {last:.10g}; a plain counter selector would survive a missed scrape"
        )
    return Count(last - first)


def ambiguity(found: Values) -> str:
    """Return the message for several series where one is expected."""
    return f"it has {len(found)} series where one is expected, {differing([labels for labels, _ in found])}"
