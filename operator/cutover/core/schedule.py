"""Whether the calendar lets weight rise. Rollbacks never ask."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cutover.api.v1alpha1 import Freeze, Schedule, Weekday

_DAYS = tuple(Weekday)


def active_freeze(schedule: Schedule, now: datetime) -> Freeze | None:
    """Return the freeze that ``now`` lies in."""
    return next((freeze for freeze in schedule.freezes if freeze.from_ <= now < freeze.to), None)


def in_window(schedule: Schedule, now: datetime) -> bool:
    """Tell whether ``now`` lies in a window, by the wall clock of the schedule's time zone.

    A schedule without windows is always open. Comparing wall clocks gives the meaning that people expect on the days
    on which clocks change.

    Raises
    ------
    zoneinfo.ZoneInfoNotFoundError
        Where the time zone does not exist; :func:`cutover.core.support.problems` has refused it before.
    """
    if not schedule.windows:
        return True
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    day, clock = _DAYS[local.weekday()], f"{local:%H:%M}"
    return any(day in window.days and window.from_ <= clock < window.to for window in schedule.windows)


def next_opening(schedule: Schedule, now: datetime) -> datetime | None:
    """Return the start of the next window within a week, to tell people; freezes are not looked at."""
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    openings = []
    for offset in range(8):
        date = (local + timedelta(days=offset)).date()
        for window in schedule.windows:
            if _DAYS[date.weekday()] in window.days:
                hour, minute = (int(part) for part in window.from_.split(":"))
                opening = datetime(date.year, date.month, date.day, hour, minute, tzinfo=local.tzinfo)
                if opening > now:
                    openings.append(opening)
    return min(openings, default=None)
