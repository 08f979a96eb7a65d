"""Whether the calendar lets the weight rise. Rollbacks ignore the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from cutover.api.v1alpha1 import Freeze, Schedule, Weekday

_DAYS = tuple(Weekday)
_MINUTE = timedelta(minutes=1)
#: A weekly window may lie in the hour that clocks skip, so that it opens a week later.
_DAYS_AHEAD = 15


def active_freeze(schedule: Schedule, now: datetime) -> Freeze | None:
    """Return the freeze that ``now`` lies in."""
    return next((freeze for freeze in schedule.freezes if freeze.from_ <= now < freeze.to), None)


def in_window(schedule: Schedule, now: datetime) -> bool:
    """Tell whether ``now`` lies in a window, by the wall clock of the schedule's time zone.

    A schedule without windows is always open. Comparing wall clocks gives the meaning that people expect when clocks
    change: a window in the skipped hour does not open, and a window in the repeated hour opens twice.

    Raises
    ------
    zoneinfo.ZoneInfoNotFoundError
        If the time zone does not exist; :func:`cutover.domain.engine.support.problems` refuses it before.
    """
    if not schedule.windows:
        return True
    local = now.astimezone(ZoneInfo(schedule.time_zone))
    day, clock = _DAYS[local.weekday()], f"{local:%H:%M}"
    return any(day in window.days and window.from_ <= clock < window.to for window in schedule.windows)


def next_opening(schedule: Schedule, now: datetime) -> datetime | None:
    """Return when a window opens next, in the schedule's time zone. Freezes are not considered.

    Usually that is the start of a window. If clocks skip the start, or go back into a window that was over, it is the
    moment at which clocks change.
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
        # In UTC, because Python compares times of one zone by their wall clocks.
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
