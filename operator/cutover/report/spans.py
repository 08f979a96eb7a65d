"""Which spans of time are described by figures: before, side by side, after, and the same hours on Heroku."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from cutover.domain.traffic import Leg
from cutover.report.history import Span
from cutover.report.record import Record
from cutover.report.stages import Stage, stages

DAY = 86_400.0
#: The same hours are looked for so many days back at most.
MOST_DAYS_BACK = 28
#: Spans that are shorter say nothing.
LEAST_SECONDS = 10.0

BEFORE, AT_FULL, SAME_HOURS = "before the first step", "at 100 %", "the same hours"


def spans(record: Record) -> tuple[Span, ...]:
    """Return the spans of the plan's last attempt, in the order in which they are shown."""
    of_attempt = [stage for stage in stages(record) if stage.attempt == record.plan.status.attempt]
    shifted = [stage for stage in of_attempt if stage.weight > 0]
    if not shifted:
        return ()
    began = shifted[0].since.timestamp()
    found = [
        Span(BEFORE, Leg.HEROKU, stage.since.timestamp(), began)
        for stage in of_attempt[:1]
        if stage.weight == 0 and stage.since < shifted[0].since
    ]
    if both := [stage for stage in shifted if 0 < stage.weight < 100]:
        last = both[-1]
        since, until = last.since.timestamp(), last.until.timestamp()
        found += [Span(f"side by side at {last.weight} %", leg, since, until) for leg in (Leg.HEROKU, Leg.EKS)]
    if whole := _whole(shifted):
        since, until = whole
        found.append(Span(AT_FULL, Leg.EKS, since, until))
        found += _same_hours(since, until, began)
    return tuple(one for one in found if one.until - one.since >= LEAST_SECONDS)


def _whole(shifted: Sequence[Stage]) -> tuple[float, float] | None:
    """Return the last time at 100 %, up to the end of the migration."""
    full = [stage for stage in shifted if stage.weight == 100 and not stage.completed]
    return (full[-1].since.timestamp(), full[-1].until.timestamp()) if full else None


def _same_hours(since: float, until: float, began: float) -> list[Span]:
    """Return the same hours on Heroku, whole weeks and whole days back, before EKS had any request."""
    found = []
    for days, unit in ((7, "week"), (1, "day")):
        back = max(1, ceil((until - began) / (days * DAY)))
        if back * days <= MOST_DAYS_BACK:
            many = f"{back} {unit}s" if back > 1 else f"a {unit}"
            shift = back * days * DAY
            found.append(Span(f"{SAME_HOURS} {many} before", Leg.HEROKU, since - shift, until - shift))
    return found
