"""The takeover is judged: Heroku after it, as the gateway counts it, against Heroku of the same hours before."""

from __future__ import annotations

from cutover.api.v1alpha1 import BaselineSource, BaselineStatus, ComparisonStatus, MigrationPlanStatus
from cutover.domain.baseline.comparison import LEAST_REQUESTS, compare, mix_text
from cutover.domain.baseline.record import Record, RecordReading, added, counts_by, same_hours
from cutover.domain.baseline.reference import hourly_reference
from cutover.domain.baseline.released import releases_text
from cutover.domain.baseline.week import ANSWERS, dispersion
from cutover.domain.commands.annotations import Skippable, assignment, skip_hold
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.people import note_skips, skip
from cutover.domain.engine.wanted import COMPARED
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import keep_hours
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.rules import MetricName
from cutover.domain.evidence.tolerances import thresholds
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.steps import next_step

#: A comparison begins with so many requests and seconds since the takeover, or with fewer requests after the longest time.
#: One that is a hold is made anew with what comes after it, so that the hold ends when the difference does.
ENOUGH_REQUESTS, SHORTEST_SECONDS, LONGEST_SECONDS = 1000.0, 60.0, 600.0


def compared(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus | Outcome:
    """Compare Heroku with the same hours before; return the status with the result, or wait, or hold."""
    recorded = status.baseline
    if recorded is None or recorded.record is None or context.spec.baseline.source is None:
        return status
    if recorded.takeover is not None and recorded.takeover.verdict in COMPARED:
        return status
    checkpoint = status.checkpoint
    counted = load_evidence(checkpoint).record if checkpoint is not None else Counts()
    comparison = recorded.takeover
    if comparison is None:
        comparison = ComparisonStatus(since=recorded.since, verdict="Comparing")
        status = _noted(status, recorded, comparison)
    if skipped := _skipped(context, status, comparison):
        return skipped
    earlier = comparison.earlier if len(comparison.earlier) == len(counted) else Counts()
    after = Counts(*(now - before for now, before in zip(counted, earlier, strict=True)))
    if min(after) < -1:  # counted otherwise since an edit of the plan, or the evidence was edited
        anew = ComparisonStatus(
            since=context.time, verdict=comparison.verdict, message=comparison.message, earlier=tuple(counted)
        )
        status, comparison, after = _noted(status, recorded, anew), anew, Counts()
    seconds = context.now - comparison.since.timestamp()
    enough = after.requests >= ENOUGH_REQUESTS and seconds >= SHORTEST_SECONDS
    if not enough and seconds < LONGEST_SECONDS:
        if comparison.verdict == "Differs":
            return _held(context, status, comparison)
        message = (
            f"comparing Heroku since the takeover with the same hours before: {after.requests:,.0f} requests so far"
        )
        return Outcome(status, "Recording", message, requeue=NEXT_BLOCK)
    reading = context.seen.record or RecordReading()
    if reading.record is None:
        why = reading.problem or reading.impossible
        if not why:
            return Outcome(status, "Recording", "reading Heroku's record of the time before", requeue=1)
        if reading.problem:
            return held(context, status, Hold(HoldReason.PROMETHEUS_UNAVAILABLE, f"Heroku's record: {why}"))
        return _noted(status, recorded, comparison.evolve(verdict="TooFew", message=why))
    return _result(context, status, recorded, comparison, reading.record, after, counted)


def _result(
    context: Context,
    status: MigrationPlanStatus,
    recorded: BaselineStatus,
    comparison: ComparisonStatus,
    record: Record,
    after: Counts,
    counted: Counts,
) -> MigrationPlanStatus | Outcome:
    """Return what the comparison leads to."""
    slow = _comparable_threshold(context, status, record)
    hours = same_hours(record.hours, comparison.since.timestamp(), context.now, least=LEAST_REQUESTS)
    before = added(counts_by(hour, slow) for hour in hours)
    if min(before.requests, after.requests) < LEAST_REQUESTS:
        message = (
            f"too few requests to compare Heroku with: {after.requests:,.0f} since the takeover, and"
            f" {before.requests:,.0f} in the same hours before"
        )
        return _usable(context, _noted(status, recorded, comparison.evolve(verdict="TooFew", message=message)), record)
    metrics: tuple[MetricName, ...] = (*ANSWERS, "slow")
    spread = {metric: dispersion(record, metric, slow) for metric in metrics}
    found = compare(before, after, spread, context.rules.harm_limit)
    mixes = f"since the takeover {mix_text(after)}, and in the same hours before {mix_text(before)}"
    if not found.differs:
        return _usable(context, _noted(status, recorded, comparison.evolve(verdict="Alike", message=mixes)), record)
    said = f"Heroku {found.what} since the takeover than it did before: {mixes}"
    if recorded.record is not None and (mark := releases_text(recorded.record.releases, recorded.record.last_release)):
        said += f"; {mark}"
    anew = ComparisonStatus(since=context.time, verdict="Differs", message=said, earlier=tuple(counted))
    return _held(context, _noted(status, recorded, anew), anew)


def _usable(context: Context, status: MigrationPlanStatus, record: Record) -> MigrationPlanStatus:
    """Keep what is normal in each hour of the week for the steps, and for 100 %.

    Where a person skips a difference there is no such reference: Heroku is not what was recorded.
    """
    assert status.baseline is not None, "it was compared"
    hours = hourly_reference(record, context.rules, thresholds(context.spec, status))
    return status.evolve(baseline=status.baseline.evolve(hours=keep_hours(hours)))


def _comparable_threshold(context: Context, status: MigrationPlanStatus, record: Record) -> float | None:
    """Return the plan's first threshold; ``None`` where another place took the times than the gateway.

    Heroku's router leaves out TLS and the way through the Internet, which the gateways' times have.
    """
    return thresholds(context.spec, status)[0] if record.source == BaselineSource.GATEWAY else None


def _skipped(context: Context, status: MigrationPlanStatus, comparison: ComparisonStatus) -> Outcome | None:
    """Go on in spite of a difference, because a person says so; ``None`` if nobody does."""
    upcoming, recorded = next_step(context.spec, 0), status.baseline
    command = skip(context, status, upcoming) if upcoming is not None else None
    if recorded is None or command is None or Skippable.TAKEOVER_DIFFERS not in command.holds:
        return None
    if comparison.verdict != "Differs":
        return None  # there is nothing to skip yet
    noted, events = note_skips(context, status, command, [(Skippable.TAKEOVER_DIFFERS, comparison.message)])
    status = _noted(noted, recorded, comparison.evolve(verdict="Skipped"))
    return Outcome(status, "Recording", f"going on, {command.who}: {comparison.message}", events=events, requeue=0)


def _held(context: Context, status: MigrationPlanStatus, comparison: ComparisonStatus) -> Outcome:
    upcoming = next_step(context.spec, 0)
    command = skip_hold(status.attempt, upcoming.weight if upcoming else 100, Skippable.TAKEOVER_DIFFERS)
    message = (
        f"{comparison.message}; it is compared anew every {LONGEST_SECONDS / 60:.0f} min, and goes on once that is over; to go"
        f" on in spite of it: {assignment(command)}"
    )
    return held(context, status, Hold(HoldReason.TAKEOVER_DIFFERS, message))


def _noted(status: MigrationPlanStatus, recorded: BaselineStatus, comparison: ComparisonStatus) -> MigrationPlanStatus:
    return status.evolve(baseline=recorded.evolve(takeover=comparison))
