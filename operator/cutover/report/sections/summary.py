"""The outcome, at a glance and as a picture of the weight over time."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import Phase
from cutover.report.charts import LEFT, RIGHT, Level, Mark, weights_chart
from cutover.report.page import Block, Chart, Facts, Section, Tag, Tone
from cutover.report.record import Record
from cutover.report.stages import Stage
from cutover.report.timescale import TimeScale
from cutover.report.words import count, decision, moment, weights

_OUTCOMES = {
    Phase.COMPLETED: Tag("Completed", Tone.GOOD),
    Phase.ROLLED_BACK: Tag("Rolled back", Tone.BAD),
    Phase.ROLLING_BACK: Tag("Rolling back", Tone.BAD),
    Phase.SOAKING: Tag("Soaking", Tone.CALM),
    Phase.SHIFTING: Tag("Shifting", Tone.CALM),
}


#: How much of the time before is shown of the rest after a rollback.
_REST = 0.08


def outcome(record: Record) -> Tag:
    """Return what came of the migration, in a word."""
    return _OUTCOMES.get(record.plan.status.phase, Tag(record.plan.status.phase.value))


def lead(record: Record) -> str:
    """Return what came of the migration, in a sentence."""
    status, spec = record.plan.status, record.plan.spec
    hosts = ", ".join(spec.traffic.hosts)
    match status.phase:
        case Phase.COMPLETED:
            return f"All requests for {hosts} are answered by EKS. Heroku's app {spec.heroku.app} gets none of them."
        case Phase.ROLLED_BACK:
            return f"All requests for {hosts} are answered by Heroku again. {_capital(status.message)}"
        case Phase.ROLLING_BACK:
            return f"Requests for {hosts} are on their way back to Heroku. {_capital(status.message)}"
        case _:
            share = "none" if not status.weight else f"{status.weight} %"
            return f"The migration is under way: {share} of the requests for {hosts} are meant for EKS. {_capital(status.message)}"


def summary(record: Record, spans: tuple[Stage, ...], scale: TimeScale | None) -> Section:
    """Return the section."""
    blocks: list[Block] = [Facts(_facts(record, spans))]
    if scale is not None:
        blocks.append(_chart(record, spans, scale))
    return Section("Summary", tuple(blocks))


def axis(spans: tuple[Stage, ...]) -> TimeScale | None:
    """Return the time axis of all charts of a report; ``None`` where nothing was decided."""
    shown = [stage for stage in spans if not stage.completed]
    if not shown:
        return None
    bounds = [*(stage.since.timestamp() for stage in shown), shown[-1].until.timestamp()]
    if shown[-1].at_rest:
        last = max([shown[-1].since, *(entry.at for entry in shown[-1].entries)]).timestamp()
        bounds[-1] = last + max(_REST * (last - bounds[0]), 1.0)
    return TimeScale.of(bounds, LEFT, RIGHT)


def times(scale: TimeScale) -> str:
    """Return how the time axis of the charts is to be read."""
    return "Times are UTC." if scale.linear else "Times are UTC; each stage has a scale of its own."


def changes(spans: tuple[Stage, ...]) -> tuple[float, ...]:
    """Return the Unix seconds at which the weight changed."""
    return tuple(stage.since.timestamp() for stage in spans if not stage.completed)


def _facts(record: Record, spans: tuple[Stage, ...]) -> tuple[tuple[str, str], ...]:
    plan, ledger = record.plan, record.ledger
    status = plan.status
    facts = [("Plan", plan.key), ("Attempt", str(status.attempt or plan.spec.attempt))]
    if ledger:
        ended = next((entry for entry in reversed(ledger) if entry.decision in ("Complete", "RolledBack")), None)
        facts.append(("First decision", moment(ledger[0].at)))
        if ended is not None and status.phase in (Phase.COMPLETED, Phase.ROLLED_BACK):
            facts.append(("Last decision", moment(ended.at)))
            facts.append(("Took", span((ended.at - ledger[0].at).total_seconds())))
    if spans:
        facts.append(("Highest weight", f"{max(stage.weight for stage in spans)} %"))
    if judged := sum(_eks_requests(stage) for stage in spans):
        facts.append(("Requests to EKS that were judged", count(judged)))
    holds = [entry for entry in ledger if entry.decision == "Hold"]
    facts.append(("Recorded holds", str(len(holds))))
    if status.held is not None:
        facts.append(("Held now", f"{status.held.reason}, since {moment(status.held.since)}"))
    back = next((entry for entry in reversed(ledger) if entry.decision == "RollBack"), None)
    if back is not None:
        by = back.by or (f"the gate {back.subject}" if back.subject else "")
        facts.append(("Rolled back for", f"{back.reason}{f', by {by}' if by else ''}"))
    return tuple(facts)


def _eks_requests(stage: Stage) -> float:
    """Return the requests of EKS that were judged in a stage: those of its gate that counted most."""
    return max((gate.counts.eks.total for gate in stage.gates if gate.counts and gate.counts.eks), default=0.0)


def _chart(record: Record, spans: tuple[Stage, ...], scale: TimeScale) -> Chart:
    shown = [stage for stage in spans if not stage.completed]
    levels = [Level(stage.since.timestamp(), float(stage.weight)) for stage in shown]
    marks = [
        Mark(
            entry.at.timestamp(),
            number,
            decision(entry).tone,
            f"{number}: {entry.decision}, {entry.reason}, {weights(entry)}",
        )
        for number, entry in enumerate(record.ledger, start=1)
    ]
    waits = [
        (entry.at.timestamp(), stage.until.timestamp())
        for stage in shown
        for entry in stage.entries
        if entry.decision == "Hold"
    ]
    steps = ", ".join(f"{stage.weight} % for {span(stage.seconds)}" for stage in shown)
    hatched = " Hatched: from when a hold was recorded until the next move." if waits else ""
    text = f"Percent of requests meant for EKS: {steps}. Numbers are those of the decisions below.{hatched} {times(scale)}"
    title = "Weight over time, with the decisions"
    return Chart(title, text, weights_chart("weights", title, text, levels, marks, scale, waits))


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if not text or text.endswith(".") else ".")
