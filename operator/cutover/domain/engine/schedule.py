"""Whether the calendar lets weight rise. Rollbacks never ask."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cutover.api.v1alpha1 import Freeze, Schedule, Weekday

_DAYS = tuple(Weekday)
_MINUTE = timedelta(minutes=1)
#: A window once a week may lie in the hour that clocks skip.
_DAYS_AHEAD = 15


def active_freeze(schedule: Schedule, now: datetime) -> Freeze | None:
    """Return the freeze that ``now`` lies in."""
    return next((freeze for freeze in schedule.freezes if freeze.from_ <= now < freeze.to), None)


def in_window(schedule: Schedule, now: datetime) -> bool:
    """Tell whether ``now`` lies in a window, by the wall clock of the schedule's time zone.

    A schedule without windows is always open. Comparing wall clocks gives the meaning that people expect on the days
    on which clocks change: what lies in the hour that is skipped is left out, what lies in the one that comes twice is
    open twice.

    Raises
    ------
    zoneinfo.ZoneInfoNotFoundError
        Where the time zone does not exist; :func:`cutover.domain.engine.support.problems` has refused it before.
    """
    if not schedule.windows:
        return True
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    day, clock = _DAYS[local.weekday()], f"{local:%H:%M}"
    return any(day in window.days and window.from_ <= clock < window.to for window in schedule.windows)


def next_opening(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a window opens next, by the schedule's time zone, to tell people; freezes are not looked at.

    Most often that is the start of a window. Where clocks skip it, or go back into a window that was over, it is the
    moment at which they change.
    """
    zone = ZoneInfo(schedule.time_zone)
    today = now.astimezone(zone).date()
    for day in (today + timedelta(days=ahead) for ahead in range(_DAYS_AHEAD)):
        starts = (
            datetime.combine(day, time.fromisoformat(window.from_), zone).replace(fold=fold)
            for window in schedule.windows
            if _DAYS[day.weekday()] in window.days
            for fold in (0, 1)
        )
        # In UTC: times of one zone are compared by their wall clocks.
        moments = sorted({start.astimezone(UTC) for start in starts} | _clock_change(day, zone))
        for moment in moments:
            if moment > now and in_window(schedule, moment) and not in_window(schedule, moment - _MINUTE):
                return moment.astimezone(zone)
    return None


def _clock_change(day: date, zone: ZoneInfo) -> set[datetime]:
    """Return the moment of a local day at which clocks change, if they do."""
    before, after = (datetime.combine(day + timedelta(days=ahead), time(), zone).astimezone(UTC) for ahead in (0, 1))
    offset = before.astimezone(zone).utcoffset()
    if after.astimezone(zone).utcoffset() == offset:
        return set()
    while after - before > _MINUTE:
        # Clocks change at whole minutes.
        middle = before + (after - before) // _MINUTE // 2 * _MINUTE
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return {after}
