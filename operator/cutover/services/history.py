"""Asks Prometheus what a report shows of a cutover: lines over time, and figures of both legs over spans of time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from cutover.domain.baseline.used import Quantity, one_query
from cutover.domain.evidence.lengths import UNSEEN_SECONDS
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg
from cutover.ports.errors import QueryFailed, Unavailable
from cutover.ports.history import HistoryQueries
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.ports.records import UsageQueries
from cutover.report.history import Figures, History, Line, Measure, Span
from cutover.report.record import Record
from cutover.report.sections.summary import axis
from cutover.report.spans import AT_FULL, spans
from cutover.report.stages import stages
from cutover.report.timescale import TimeScale

#: Points of a line: about one for four pixels of the chart, spread over its stretches as they are drawn.
POINTS = 220
#: Stretches that are asked for one by one; of more, an axis is asked for as a whole.
MOST_STRETCHES = 12
#: A rate needs two scrapes, and some more for those that come late.
SCRAPES_IN_RATE = 4
#: Points that are so many steps apart are not joined.
_GAP_STEPS = 2.5


async def with_history(record: Record, prometheus: Prometheus, queries: HistoryQueries, usage: UsageQueries) -> Record:
    """Return the record with what Prometheus has; never raises for an outage of it: the history says what is missing."""
    scale = axis(stages(record))
    if scale is None:
        return record
    asking = _Asking(record.plan, prometheus, queries, usage)
    lines: dict[Measure, tuple[Line, ...]] = {}
    throttled: tuple[tuple[float, float], ...] = ()
    figures: list[tuple[Span, Figures]] = []
    used: dict[Quantity, float] = {}
    problems: list[str] = []
    try:
        for measure in Measure:
            try:
                lines[measure] = await asking.lines(scale, measure)
            except QueryFailed as failed:
                problems.append(str(failed))
        try:
            throttled = await asking.throttled(scale)
        except QueryFailed as failed:
            problems.append(str(failed))
        # Both legs of a span are in the same answers.
        for (since, until), same in groupby(spans(record), key=lambda one: (one.since, one.until)):
            wanted = list(same)
            try:
                by_leg = await asking.figures(since, until)
                figures += [(one, by_leg.get(one.leg, Figures())) for one in wanted]
            except QueryFailed as failed:
                problems.append(str(failed))
        full = next((one for one in spans(record) if one.label == AT_FULL), None)
        if full is not None:
            try:
                used = await asking.used(full.since, full.until)
            except QueryFailed as failed:
                problems.append(str(failed))
    except Unavailable as outage:  # nothing more is asked
        problems.append(str(outage))
    return replace(record, history=History(lines, tuple(figures), throttled, used, tuple(dict.fromkeys(problems))))


class _Asking:
    """Asks one server about one plan. All methods raise Unavailable, and QueryFailed where only their query fails."""

    def __init__(self, plan: Plan, prometheus: Prometheus, queries: HistoryQueries, usage: UsageQueries) -> None:
        self._plan, self._prometheus, self._queries, self._usage = plan, prometheus, queries, usage
        self._legs = queries.legs(plan)
        length = plan.status.blocks
        self._scrape = length.scrape_seconds if length is not None else UNSEEN_SECONDS

    async def lines(self, scale: TimeScale, measure: Measure) -> tuple[Line, ...]:
        """Return a measure of both legs over time."""
        found: dict[Leg, list[tuple[float, float]]] = {}
        for since, until, step in self._stretches(scale):
            query = self._queries.measure(self._plan, measure, self._window(step))
            answer = await self._prometheus.query_range(query, since, until, step)
            with unavailable_if_malformed(self._queries.product):
                for series in answer:
                    leg = self._legs.get(str(series["metric"].get(self._queries.label, "")))
                    if leg is not None:
                        found.setdefault(leg, []).extend(self._points(series, step))
        return tuple(Line(leg, tuple(found[leg])) for leg in Leg if leg in found)

    async def throttled(self, scale: TimeScale) -> tuple[tuple[float, float], ...]:
        """Return the fraction of periods in which the worst container was stopped, over time."""
        found: list[tuple[float, float]] = []
        for since, until, step in self._stretches(scale):
            query = self._usage.usage(self._plan, self._window(step))[Quantity.THROTTLED]
            for series in await self._prometheus.query_range(query, since, until, step):
                found += [(at, value) for at, value in self._points(series, step) if math.isfinite(value)]
        return tuple(found)

    async def figures(self, since: float, until: float) -> dict[Leg, Figures]:
        """Return the figures of each leg that has requests."""
        found: dict[Leg, dict[str, float]] = {}
        for name, query in self._queries.figures(self._plan, until - since).items():
            answer = await self._prometheus.query(query, until)
            with unavailable_if_malformed(self._queries.product):
                for item in answer:
                    leg = self._legs.get(str(item["metric"].get(self._queries.label, "")))
                    value = float(item["value"][1])
                    if leg is not None and math.isfinite(value):
                        found.setdefault(leg, {})[name] = value
            if not found:
                return {}  # no requests: nothing else will have a value
        return {leg: Figures(**values) for leg, values in found.items() if values.get("requests", 0.0) > 0}

    async def used(self, since: float, until: float) -> dict[Quantity, float]:
        """Return what the workload used, by one query; without what nothing tells."""
        found: dict[Quantity, float] = {}
        seconds = max(until - since, SCRAPES_IN_RATE * self._scrape)
        for item in await self._prometheus.query(one_query(self._usage.usage(self._plan, seconds)), until):
            with unavailable_if_malformed("cAdvisor or CoreDNS"):
                value = float(item["value"][1])
                if math.isfinite(value):
                    found[Quantity(item["metric"]["what"])] = value
        return found

    def _window(self, step: float) -> float:
        return max(step, SCRAPES_IN_RATE * self._scrape)

    def _stretches(self, scale: TimeScale) -> list[tuple[float, float, float]]:
        """Return begin, end and step of each query: a short step of a long cutover needs points of its own."""
        stretches = scale.stretches
        if len(stretches) > MOST_STRETCHES:
            return [(scale.since, scale.until, self._step(scale.until - scale.since, 1.0))]
        whole = stretches[-1].right - stretches[0].left
        return [(one.since, one.until, self._step(one.seconds, one.width / whole)) for one in stretches]

    def _step(self, seconds: float, part: float) -> float:
        return max(self._scrape, math.ceil(seconds / max(POINTS * part, 1.0)))

    def _points(self, series: Mapping[str, Any], step: float) -> tuple[tuple[float, float], ...]:
        """Return the points of a series, with a point that is no number in each gap."""
        found: list[tuple[float, float]] = []
        with unavailable_if_malformed(self._queries.product):
            for at, value in ((float(at), float(value)) for at, value in series["values"]):
                if not math.isfinite(value):
                    continue
                if found and at - found[-1][0] > _GAP_STEPS * step:
                    found.append((at, math.nan))
                found.append((at, value))
        return tuple(found)
