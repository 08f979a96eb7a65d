"""Every step, with the numbers of both legs by which it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cutover.api.durations import span
from cutover.api.v1alpha1 import GateKind, GateNumbers, Mode
from cutover.domain.evidence.rules import ALIVE
from cutover.domain.evidence.sentences import sentence
from cutover.report.charts import legs_chart, shows_legs
from cutover.report.page import Block, Cell, Chart, Facts, Prose, Section, Table
from cutover.report.record import Record
from cutover.report.stages import End, Stage
from cutover.report.words import count, harm, milliseconds, moment, percent, safety, verdict

_GONE = "The record has no numbers of this step any more: a plan keeps those of its newest decisions."
_NOT_JUDGED = "Nothing was judged at this weight."


def steps(record: Record, spans: tuple[Stage, ...]) -> Section:
    """Return the section, with a part for each time at a weight above 0."""
    baseline = record.plan.status.baseline
    slower = {
        "slow": baseline.slow_ms if baseline else None,
        "verySlow": baseline.very_slow_ms if baseline else None,
    }
    shown = [stage for stage in spans if stage.weight > 0 and not stage.completed]
    if not shown:
        return Section("Steps", (Prose("No request was sent to EKS."),))
    several = len({stage.attempt for stage in spans}) > 1
    titles: Counter[str] = Counter()
    sections = []
    for number, stage in enumerate(shown):
        title = f"{stage.weight} %" + (f", attempt {stage.attempt}" if several else "")
        titles[title] += 1
        if titles[title] > 1:
            title += f", time {titles[title]}"
        sections.append(Section(title, tuple(_blocks(stage, f"legs-{number}", slower))))
    return Section("Steps", (), tuple(sections))


def _blocks(stage: Stage, name: str, slower: Mapping[str, float | None]) -> list[Block]:
    facts = [
        ("From", moment(stage.since)),
        ("For", span(stage.seconds, exact=stage.seconds < 600)),
        ("Ended", _end(stage)),
    ]
    blocks: list[Block] = [Facts(tuple(facts))]
    if not stage.gates:
        unjudged = stage.end in (End.NOT_YET, End.WITHDRAWN)
        return [*blocks, Prose(_NOT_JUDGED if unjudged else _GONE)]
    comparing = [gate for gate in stage.gates if gate.kind is not GateKind.BOUND]
    bounds = [gate for gate in stage.gates if gate.kind is GateKind.BOUND]
    if comparing:
        head = ("Gate", "Verdict", "Heroku", "EKS", "Evidence of harm", "Evidence of safety")
        blocks.append(
            Table(
                "Both legs, as judged by users' requests", head, tuple(_compared(gate, slower) for gate in comparing)
            )
        )
    if bounds:
        rows = tuple((_name(gate), verdict(gate), sentence(gate)) for gate in bounds)
        blocks.append(Table("Values that must stay inside a bound", ("Gate", "Verdict", "Value"), rows))
    drawn = [gate for gate in comparing if shows_legs(gate)]
    if any(gate.ratios and (gate.ratios.heroku or gate.ratios.eks) for gate in drawn):
        title = f"Requests that went wrong at {stage.weight} %, of each leg's"
        text = "; ".join(
            f"{gate.name}: Heroku {percent(gate.ratios.heroku)}, EKS {percent(gate.ratios.eks)}"
            for gate in drawn
            if gate.ratios
        )
        text = f"{text}. The mark on EKS' bar is what is tolerated."
        blocks.append(Chart(title, text, legs_chart(name, title, text, drawn)))
    return blocks


def _compared(gate: GateNumbers, slower: Mapping[str, float | None]) -> tuple[Cell, ...]:
    counts, ratios = gate.counts, gate.ratios
    heroku = counts.heroku if counts else None
    eks = counts.eks if counts else None
    if gate.name == ALIVE:
        # Its counts are of good answers in the last minute, and have no fraction of Heroku's.
        said = (
            f"{count(heroku.total)} good answers expected" if heroku else "–",
            f"{count(eks.total - eks.bad)} good answers" if eks else "–",
        )
    else:
        said = (
            f"{percent(ratios.heroku if ratios else None)} of {count(heroku.total)}" if heroku else "no control",
            f"{percent(ratios.eks if ratios else None)} of {count(eks.total)}" if eks else "–",
        )
    above = slower.get(gate.name)
    name = _name(gate) + (f", above {milliseconds(above)}" if above is not None else "")
    return (name, verdict(gate), *said, harm(gate.evidence), safety(gate.evidence))


def _name(gate: GateNumbers) -> str:
    return f"{gate.name}, only observed" if gate.mode is Mode.OBSERVE else gate.name


def _end(stage: Stage) -> str:
    if stage.left_by is None:
        return stage.end.value
    by = f", by {stage.left_by.by}" if stage.left_by.by else ""
    return f"{stage.end.value} ({stage.left_by.reason}{by})"
