"""Which steps would be judged in quiet hours only, by the record's rates and the plan's holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cutover.api.v1alpha1 import Approval, MigrationPlanSpec, Schedule
from cutover.domain import schedule
from cutover.domain.baseline.record import HOUR
from cutover.domain.evidence.hourly import HOURS, hour_of_week

#: Less than this part of the busiest hour's requests is quiet: what fails under load is not seen then.
QUIET = 0.25
#: Freezes that may follow one another.
_MOST_WAITS = 64


@dataclass(frozen=True, slots=True)
class StepHours:
    """When a step is judged at the earliest, and how busy it is then.

    Parameters
    ----------
    weight
        The step's.
    begin, end
        Unix seconds, by the least time at the weight.
    busiest
        Requests per second of the busiest hour of the week in it; ``None`` if that is not known.
    """

    weight: int
    begin: float
    end: float
    busiest: float | None


def step_hours(spec: MigrationPlanSpec, week: Sequence[float | None], start: float) -> Iterator[StepHours]:
    """Yield when each step is judged if the plan begins at a time and nothing holds it but the calendar.

    It ends at a step that waits for people, as nobody knows for how long.

    Parameters
    ----------
    spec
        The plan's spec.
    week
        Requests per second of each hour of the week; ``None`` where they are not known.
    start
        Unix seconds.
    """
    at: float | None = start
    for step in spec.steps:
        at = None if at is None or step.approval is Approval.MANUAL else _opens(spec.schedule, at)
        if at is None or step.weight > spec.ceiling:
            return
        held = step.hold.total_seconds() + (spec.soak.total_seconds() if step.weight == 100 else 0.0)
        yield StepHours(step.weight, at, at + held, _busiest(week, at, at + held))
        at += held


def quiet_steps(spec: MigrationPlanSpec, week: Sequence[float | None], start: float) -> tuple[StepHours, ...]:
    """Return the steps that would be judged in quiet hours only; the arguments as for :func:`step_hours`."""
    busiest = max((rate for rate in week if rate is not None), default=0.0)
    return tuple(
        one
        for one in step_hours(spec, week, start)
        if one.busiest is not None and one.busiest < QUIET * busiest and one.end - one.begin < HOURS * HOUR
    )


def _busiest(week: Sequence[float | None], begin: float, end: float) -> float | None:
    """Return the rate of the busiest hour; ``None`` if one is not known, which may be the busiest."""
    hours = min(int(max(end - 1.0, begin) // HOUR) - int(begin // HOUR) + 1, HOURS)
    known = [rate for number in range(hours) if (rate := week[hour_of_week(begin + HOUR * number)]) is not None]
    return max(known) if len(known) == hours else None


def _opens(plan: Schedule | None, at: float) -> float | None:
    """Return when the calendar lets a step begin that is ready at a time; ``None`` if it does not."""
    if plan is None:
        return at
    moment = datetime.fromtimestamp(at, UTC)
    for _ in range(_MOST_WAITS):
        if freeze := schedule.active_freeze(plan, moment):
            moment = freeze.to.astimezone(UTC)
        elif not schedule.in_window(plan, moment):
            opening = schedule.next_opening(plan, moment)
            if opening is None:
                return None
            moment = max(opening.astimezone(UTC), moment + timedelta(seconds=1))
        else:
            return moment.timestamp()
    return None


def when_text(at: float, plan: Schedule | None) -> str:
    """Return a time in words, in the plan's time zone: ``Tue 22:10``."""
    return f"{datetime.fromtimestamp(at, ZoneInfo(plan.time_zone if plan else 'UTC')):%a %H:%M}"
