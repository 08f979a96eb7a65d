"""Before and after: both legs' figures, over time and over spans, and the same hours on Heroku."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from cutover.api.durations import span
from cutover.api.v1alpha1 import GateNumbers
from cutover.domain.baseline.released import releases_text
from cutover.domain.baseline.used import Quantity
from cutover.domain.traffic import Leg
from cutover.report.charts import NAMES, lines_chart
from cutover.report.history import Figures, History, Measure, Span
from cutover.report.page import Block, Cell, Chart, Facts, Prose, Section, Table
from cutover.report.record import Costs, Record
from cutover.report.sections.summary import changes, times
from cutover.report.spans import AT_FULL, SAME_HOURS
from cutover.report.spans import spans as spans_of
from cutover.report.stages import Stage
from cutover.report.timescale import TimeScale
from cutover.report.week import UsedBefore
from cutover.report.words import count, milliseconds, moment, percent

#: Title, text of a value, and the least that an axis shows, so that one failure of thousands does not look like many.
_TITLES: Mapping[Measure, tuple[str, Callable[[float], str], float]] = {
    Measure.RATE: ("Requests per second", lambda value: f"{value:,.3g}", 1.0),
    Measure.ERRORS: ("Failed requests, of each leg's", percent, 0.01),
    Measure.P95: ("Latency, 95th percentile", milliseconds, 10.0),
}
#: What is shown, its name in Heroku's record, the same on EKS with how much of it is one there, and how a value is written.
_USED: tuple[tuple[str, str, Quantity, float, Callable[[float], str]], ...] = (
    (
        "Memory of the largest web dyno or Pod",
        "memoryMiB",
        Quantity.MEMORY,
        1024.0**2,
        lambda value: f"{value:,.0f} MiB",
    ),
    ("Load of the busiest dyno, CPUs of the busiest Pod", "load", Quantity.LOAD, 1.0, lambda value: f"{value:.2g}"),
    ("Connections of a database on Heroku", "connections", Quantity.CONNECTIONS, 1.0, count),
    (
        "DNS questions per second, of the whole cluster",
        "clusterDnsPerSecond",
        Quantity.DNS,
        1.0,
        lambda value: f"{value:,.3g}",
    ),
    (
        "Periods in which EKS' worst container was stopped for its CPU limit",
        "throttled",
        Quantity.THROTTLED,
        1.0,
        percent,
    ),
)
_BEFORE = (
    "Before is the record of the time before the takeover, by the hour. Dynos and databases are measured by Heroku, as the"
    " drain tells; DNS and CPU limits are EKS' in both columns, where Pods had no users before. The column at 100 % has the"
    " maximum of that time; for CPUs, the 95th percentile."
)
_HEAD = ("Leg", "When", "Requests", "Failed", "p50", "p95", "p99")
_INTERPOLATED = (
    "Figures are Prometheus' own, from the gateways' counters. Percentiles are interpolated between the bounds of a histogram,"
    " and only as fine as those. Requests to EKS include the operator's own probes. No gate judges by these figures."
)


def comparison(record: Record, spans: tuple[Stage, ...], scale: TimeScale | None) -> Section:
    """Return the section."""
    blocks: list[Block] = []
    history = record.history
    known = [(one, figures) for one, figures in history.figures if figures != Figures()] if history else []
    known += _of_the_record(record)
    if known:
        blocks += [Table("Both legs before, during and after", _HEAD, tuple(_row(*one) for one in known))]
        blocks += [Prose(_INTERPOLATED), *_without_same_hours(known)]
    else:
        blocks += _by_the_ledger(record, spans)
        if history is None:
            blocks.append(
                Prose(
                    "Prometheus was not asked for this report: there are no percentiles and no lines over time. Give its"
                    " address with --prometheus."
                )
            )
    if mark := _releases(record):
        blocks.append(Prose(mark))
    if used := _used(record):
        blocks += [
            Table("What was used", ("What", "Before: usual", "Before: most", "EKS at 100 %"), used),
            Prose(_BEFORE),
        ]
    if record.costs != Costs():
        rows = ((NAMES[Leg.HEROKU], record.costs.heroku or "–"), (NAMES[Leg.EKS], record.costs.eks or "–"))
        blocks.append(Table("Cost, as told by who asked for this report", ("Leg", "Cost"), rows))
    if history is not None:
        blocks += [Prose(f"Prometheus could not be asked for all of it: {one}.") for one in history.problems]
        if scale is not None:
            blocks += _charts(history, spans, scale)
    return Section("Before and after", tuple(blocks))


def _releases(record: Record) -> str:
    """Return that the record spans releases; ``""`` if it does not, or nothing tells."""
    baseline = record.plan.status.baseline
    known = baseline.record if baseline is not None else None
    text = releases_text(known.releases, known.last_release) if known is not None else ""
    return f"{text[:1].upper()}{text[1:]}: figures of before it are of other code or configuration." if text else ""


def _used(record: Record) -> tuple[tuple[Cell, ...], ...]:
    """Return what was used before and after; only what either tells."""
    after = record.history.used if record.history is not None else {}
    before = record.week.used if record.week is not None else {}
    return tuple(
        (
            what,
            said(known.usual) if known else "–",
            _most(known, said),
            said(after[quantity] / one) if quantity in after else "–",
        )
        for what, name, quantity, one, said in _USED
        if (known := before.get(name)) is not None or quantity in after
    )


def _most(known: UsedBefore | None, said: Callable[[float], str]) -> str:
    if known is None:
        return "–"
    return said(known.most) + (f" of {said(known.limit)}" if known.limit is not None else "")


def _of_the_record(record: Record) -> list[tuple[Span, Figures]]:
    """Return the figures of Heroku's record at the hours of the week at which EKS was at 100 %."""
    full = next((one for one in spans_of(record) if one.label == AT_FULL), None)
    if record.week is None or full is None:
        return []
    figures = record.week.over(full.since, full.until)
    if figures == Figures():
        return []
    return [
        (replace(full, leg=Leg.HEROKU, label=f"{SAME_HOURS} of the week, by the record before the takeover"), figures)
    ]


def _row(one: Span, figures: Figures) -> tuple[Cell, ...]:
    return (
        NAMES[one.leg],
        f"{one.label}, {span(one.until - one.since)}",
        count(figures.requests),
        percent(figures.errors),
        milliseconds(figures.p50),
        milliseconds(figures.p95),
        milliseconds(figures.p99),
    )


def _without_same_hours(known: list[tuple[Span, Figures]]) -> list[Block]:
    if any(one.label.startswith(SAME_HOURS) for one, _ in known) or not any(one.label == AT_FULL for one, _ in known):
        return []
    return [
        Prose(
            "Prometheus has no requests of Heroku at the same hours before: the gateways count Heroku's requests from the"
            " takeover on only. Different hours have different traffic; compare them with care."
        )
    ]


def _by_the_ledger(record: Record, spans: tuple[Stage, ...]) -> list[Block]:
    """Return the last comparison of both legs that the ledger has."""
    compared = [stage for stage in spans if 0 < stage.weight < 100 and stage.gates]
    baseline = record.plan.status.baseline
    blocks: list[Block] = []
    if baseline is not None:
        facts = [("Heroku's record began", moment(baseline.since)), ("Requests in it", count(baseline.requests))]
        facts += [("Slow is above", milliseconds(baseline.slow_ms))] if baseline.slow_ms is not None else []
        facts += (
            [("Very slow is above", milliseconds(baseline.very_slow_ms))] if baseline.very_slow_ms is not None else []
        )
        blocks.append(Facts(tuple(facts)))
    if compared:
        last = compared[-1]
        rows = tuple(_fractions(gate) for gate in last.gates if gate.ratios is not None and gate.name != "alive")
        caption = f"Both legs side by side at {last.weight} %, the last step with a control"
        blocks.append(Table(caption, ("Fraction of requests", "Heroku", "EKS"), rows))
    return blocks


def _fractions(gate: GateNumbers) -> tuple[Cell, ...]:
    ratios = gate.ratios
    return (gate.name, percent(ratios.heroku if ratios else None), percent(ratios.eks if ratios else None))


def _charts(history: History, spans: tuple[Stage, ...], scale: TimeScale) -> list[Block]:
    found: list[Block] = []
    for measure, lines in history.lines.items():
        title, label, least = _TITLES[measure]
        said = [
            f"{NAMES[line.leg]} between {label(min(values))} and {label(max(values))}"
            for line in lines
            if (values := [value for _, value in line.points if math.isfinite(value)])
        ]
        text = f"{'; '.join(said) or 'no data'}. Vertical lines: the weight changed. {times(scale)}"
        svg = lines_chart(f"line-{measure}", title, text, lines, scale, label, changes(spans), least)
        found.append(Chart(title, text, svg))
    return found
