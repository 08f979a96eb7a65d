"""Asks Prometheus what a report shows of a cutover: lines over time, and figures of both legs over spans of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from cutover.domain.evidence.lengths import UNSEEN_SECONDS
from cutover.domain.evidence.scrapes import Result
from cutover.domain.traffic import Leg
from cutover.ports.errors import QueryFailed, Unavailable
from cutover.ports.history import HistoryQueries
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.report.history import Figures, History, Line, Measure, Span
from cutover.report.record import Record
from cutover.report.sections.summary import axis
from cutover.report.spans import spans
from cutover.report.stages import stages

#: Points of a line: about one for four pixels of the chart.
POINTS = 220
#: A rate needs two scrapes, and some more for those that come late.
SCRAPES_IN_RATE = 4
_PRODUCT = "Istio"


async def with_history(record: Record, prometheus: Prometheus, queries: HistoryQueries) -> Record:
    """Return the record with what Prometheus has; never raises for an outage of it: the history says what is missing."""
    scale = axis(stages(record))
    if scale is None:
        return record
    plan, length = record.plan, record.plan.status.blocks
    scrape = length.scrape_seconds if length is not None else UNSEEN_SECONDS
    step = max(scrape, math.ceil((scale.until - scale.since) / POINTS))
    window = max(step, SCRAPES_IN_RATE * scrape)
    legs = queries.legs(plan)
    problems: list[str] = []
    lines: dict[Measure, tuple[Line, ...]] = {}
    throttled: tuple[tuple[float, float], ...] = ()
    figures: list[tuple[Span, Figures]] = []
    try:
        for measure in Measure:
            try:
                found = await prometheus.query_range(
                    queries.measure(plan, measure, window), scale.since, scale.until, step
                )
                lines[measure] = tuple(_lines(found, queries.label, legs))
            except QueryFailed as failed:
                problems.append(str(failed))
        try:
            found = await prometheus.query_range(queries.throttled(plan, window), scale.since, scale.until, step)
            throttled = next((_points(series) for series in found), ())
        except QueryFailed as failed:
            problems.append(str(failed))
        # Both legs of a span are in the same answers.
        for (since, until), same in groupby(spans(record), key=lambda one: (one.since, one.until)):
            wanted = list(same)
            try:
                by_leg = await _figures(prometheus, queries.figures(plan, until - since), until, queries.label, legs)
                figures += [(one, by_leg.get(one.leg, Figures())) for one in wanted]
            except QueryFailed as failed:
                problems.append(str(failed))
    except Unavailable as outage:  # nothing more is asked
        problems.append(str(outage))
    history = History(scale.since, scale.until, step, lines, tuple(figures), throttled, tuple(dict.fromkeys(problems)))
    return replace(record, history=history)


async def _figures(
    prometheus: Prometheus, queries: Mapping[str, str], at: float, label: str, legs: Mapping[str, Leg]
) -> dict[Leg, Figures]:
    """Return the figures of each leg that has requests. Raises Unavailable."""
    found: dict[Leg, dict[str, float]] = {}
    for name, query in queries.items():
        answer = await prometheus.query(query, at)
        with unavailable_if_malformed(_PRODUCT):
            for item in answer:
                leg, value = legs.get(str(item["metric"].get(label, ""))), float(item["value"][1])
                if leg is not None and math.isfinite(value):
                    found.setdefault(leg, {})[name] = value
        if not found:
            return {}  # no requests: nothing else will have a value
    return {leg: Figures(**values) for leg, values in found.items() if values.get("requests", 0.0) > 0}


def _lines(found: Result, label: str, legs: Mapping[str, Leg]) -> Iterator[Line]:
    with unavailable_if_malformed(_PRODUCT):
        by_leg = {legs.get(str(series["metric"].get(label, ""))): _points(series) for series in found}
    yield from (Line(leg, by_leg[leg]) for leg in Leg if by_leg.get(leg))


def _points(series: Mapping[str, object]) -> tuple[tuple[float, float], ...]:
    with unavailable_if_malformed("Prometheus"):
        pairs = [(float(at), float(value)) for at, value in series["values"]]  # type: ignore[attr-defined]
    return tuple((at, value) for at, value in pairs if math.isfinite(value))
