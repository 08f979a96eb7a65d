"""Heroku's record of the time before the takeover: whether there is enough of it, and what the status keeps of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from cutover.api.durations import span
from cutover.api.v1alpha1 import BaselineSource, BaselineStatus, MigrationPlanStatus, RecordStatus, format_duration
from cutover.domain.baseline.record import Reach, Record, RecordReading, quantile
from cutover.domain.baseline.week import dispersion, peak
from cutover.domain.commands.annotations import Skippable, assignment, skip_hold
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held, holds_skipped
from cutover.domain.engine.moves import take_over
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import note_skips, skip
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.steps import next_step

BASELINE_INCOMPLETE = Skippable.BASELINE_INCOMPLETE
#: Seconds beyond the window for which Prometheus should keep samples, so that the oldest hour is there until it is read.
SPARE_SECONDS = 86_400.0


def awaited_record(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Wait until there is enough of the record; ``None`` if there is, if the plan asks for none, or if people skip it."""
    if context.spec.baseline.source is None:
        return None
    reading = context.seen.record or RecordReading()
    if BASELINE_INCOMPLETE in holds_skipped(context, status, next_step(context.spec, 0)):
        # What there is of it is read all the same; without an answer nobody waits for one.
        return None if reading.record is not None or reading.impossible or reading.problem else _reading(status)
    if reading.impossible:
        return _incomplete(context, status, reading.impossible)
    if reading.reach is None:
        if not reading.problem:
            return _reading(status)
        return held(context, status, Hold(HoldReason.PROMETHEUS_UNAVAILABLE, f"Heroku's record: {reading.problem}"))
    least = context.spec.baseline.min_coverage
    if reading.reach.part < least:
        return _incomplete(context, status, _what_is_there(context, reading, reading.reach))
    return None if reading.record is not None else _reading(status)


def take_over_with_record(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Route the hosts' traffic, once the record is kept; note what was skipped for it."""
    source = context.spec.baseline.source
    if source is None:
        return take_over(context, status)
    reading, kept = context.seen.record or RecordReading(), context.seen.kept
    if reading.record is not None and kept is None:
        return Outcome(status, "Trying", "keeping Heroku's record in a ConfigMap", requeue=1)
    events = list[Event]()
    least, reach, upcoming = context.spec.baseline.min_coverage, reading.reach, next_step(context.spec, 0)
    command = skip(context, status, upcoming) if upcoming is not None else None
    if command is not None and BASELINE_INCOMPLETE in command.holds and (reach is None or reach.part < least):
        there = _what_is_there(context, reading, reach) if reach is not None else reading.impossible or reading.problem
        status, told = note_skips(context, status, command, [(BASELINE_INCOMPLETE, there)])
        events += told
    record = None
    if reading.record is not None:
        record = record_status(reading.record, kept.config_map if kept is not None else "")
    outcome = take_over(context, status.evolve(baseline=BaselineStatus(since=context.time, record=record)))
    if kept is not None and kept.problem:
        events.append(Event("Warning", "RecordNotKept", f"Heroku's record is not kept in full: {kept.problem}"))
    return replace(outcome, events=(*events, *outcome.events))


def record_status(record: Record, config_map: str) -> RecordStatus:
    """Return what the status keeps of a record."""
    total, busiest, buckets = record.total, peak(record), record.buckets
    parts = (number / total.requests if total.requests else 0.0 for number in total)
    _, errors, _, _, _, refused, redirected, throttled, _ = (float(f"{part:.4g}") for part in parts)
    return RecordStatus(
        source=record.source,
        since=datetime.fromtimestamp(record.reach.start, UTC),
        until=datetime.fromtimestamp(record.reach.until, UTC),
        coverage=round(record.reach.part, 4),
        requests=round(total.requests),
        errors=errors,
        refused=refused,
        redirected=redirected,
        throttled=throttled,
        median_ms=_short(quantile(buckets, 0.5)),
        p95_ms=_short(quantile(buckets, 0.95)),
        p99_ms=_short(quantile(buckets, 0.99)),
        peak_per_second=float(f"{busiest.rate:.4g}"),
        peak_hour=busiest.hour,
        dispersion=float(f"{dispersion(record, 'errors'):.3g}"),
        releases=record.released.number if record.released is not None else None,
        last_release=_last_release(record),
        config_map=config_map,
    )


def _last_release(record: Record) -> datetime | None:
    marks = record.released.newest if record.released is not None else ()
    return datetime.fromtimestamp(marks[-1].at, UTC) if marks else None


def _reading(status: MigrationPlanStatus) -> Outcome:
    return Outcome(status, "Preflight", "reading Heroku's record of the time before", requeue=1)


def _incomplete(context: Context, status: MigrationPlanStatus, what: str) -> Outcome:
    upcoming = next_step(context.spec, 0)
    command = skip_hold(
        status.attempt or context.spec.attempt, upcoming.weight if upcoming else 100, BASELINE_INCOMPLETE
    )
    ways = f"or set a shorter baseline.window in Git, or go on without it: {assignment(command)}"
    return held(context, status, Hold(HoldReason.BASELINE_INCOMPLETE, f"{what}; {ways}"), requeue=300)


def _what_is_there(context: Context, reading: RecordReading, reach: Reach) -> str:
    """Return how much is recorded, when it will be enough, and what is in the way."""
    spec = context.spec.baseline
    window, of = (
        format_duration(spec.window),
        "Heroku's logs" if spec.source is BaselineSource.DRAIN else "the gateways' counts",
    )
    there = f"{reach.part:.0%} of {window} are recorded by {of}, and {spec.min_coverage:.0%} are needed (baseline.minCoverage)"
    first = reach.first
    if first is None:
        return f"{there}: nothing of {context.spec.heroku.app} is there{_too_short(context, reading)}{_where(spec.source)}"
    since = f"since {_moment(first)}"
    if reach.missing:
        since += f", without {span(60.0 * reach.missing)} in between"
    enough = reach.enough_at(spec.min_coverage)
    later = f"it will be enough on {_moment(enough)} if nothing more is lost"
    problem = f"; not asked anew: {reading.problem}" if reading.problem else ""
    return f"{there}: {since}; {later}{_too_short(context, reading)}{problem}"


def _too_short(context: Context, reading: RecordReading) -> str:
    """Say that Prometheus keeps less than the window; ``""`` if it does not, or does not tell and may keep enough."""
    window, keeps = context.spec.baseline.window.total_seconds(), reading.keeps_seconds
    if keeps is not None and keeps < window:
        wanted = -(-(window + SPARE_SECONDS) // 86_400)
        return f"; Prometheus keeps samples for {span(keeps)} only: set --storage.tsdb.retention.time={wanted:.0f}d"
    reach = reading.reach
    if keeps is None and reach is not None and reach.minutes and not reach.minutes[0]:
        return f"; check that this Prometheus keeps samples for more than {span(window)}, as it does not tell"
    return ""


def _where(source: BaselineSource | None) -> str:
    if source is BaselineSource.DRAIN:
        return "; add the app's drain, and its token to the drain's Secret"
    return "; it has to be routed through these gateways, and counted under heroku.hostname"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%F %R} UTC"


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.4g}")
