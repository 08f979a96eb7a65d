"""Windows and freezes, by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.api.v1alpha1 import Schedule
from cutover.domain.schedule import active_freeze, in_window, next_opening

WORK = {"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "17:00"}


def schedule(*windows: dict[str, Any], zone: str = "Europe/Paris", freezes: tuple[Any, ...] = ()) -> Schedule:
    return Schedule.model_validate({"timeZone": zone, "windows": list(windows), "freezes": list(freezes)})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "open_"),
    [
        ("2027-01-11 07:59:59", False),
        ("2027-01-11 08:00:00", True),
        ("2027-01-11 15:59:59", True),
        ("2027-01-11 16:00:00", False),
        ("2027-01-15 10:00:00", False),  # a Friday
        ("2027-07-12 06:59:59", False),
        ("2027-07-12 07:00:00", True),
        ("2027-07-12 15:00:00", False),
    ],
)
def test_a_window_is_by_local_time_summer_and_winter(at: str, open_: bool) -> None:
    assert in_window(schedule(WORK), utc(at)) is open_


def test_without_windows_it_is_always_open() -> None:
    assert in_window(schedule(), utc("2027-01-16 03:00"))
    assert next_opening(schedule(), utc("2027-01-16 03:00")) is None


@pytest.mark.parametrize(
    ("zone", "at", "open_"),
    [
        # Clocks go forward: 02:00 to 03:00 does not exist, and 03:00 is at 01:00 UTC.
        ("Europe/Paris", "2027-03-28 00:59:59", True),
        ("Europe/Paris", "2027-03-28 01:00:00", True),
        ("Europe/Paris", "2027-03-28 01:59:59", True),
        ("Europe/Paris", "2027-03-28 02:00:00", False),
        # Clocks go back: 02:00 to 03:00 comes twice, and is open twice.
        ("Europe/Paris", "2027-10-31 00:30:00", True),
        ("Europe/Paris", "2027-10-31 01:30:00", True),
        ("Europe/Paris", "2027-10-31 02:59:59", True),
        ("Europe/Paris", "2027-10-31 03:00:00", False),
        # The day of the week is local, too.
        ("Pacific/Auckland", "2027-01-09 13:30:00", True),
        ("America/Los_Angeles", "2027-01-11 02:30:00", False),
    ],
)
def test_days_on_which_clocks_change(zone: str, at: str, open_: bool) -> None:
    assert in_window(schedule({"days": ["Sun"], "from": "01:00", "to": "04:00"}, zone=zone), utc(at)) is open_


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        ("2027-01-11 07:00", "2027-01-11 08:00"),
        ("2027-01-11 09:00", "2027-01-12 08:00"),
        ("2027-01-14 17:00", "2027-01-18 08:00"),  # over the weekend
        ("2027-03-25 17:00", "2027-03-29 07:00"),  # over the weekend on which summer time begins
        ("2027-10-28 17:00", "2027-11-01 08:00"),  # and ends
    ],
)
def test_the_next_opening_is_told(now: str, opening: str) -> None:
    found = next_opening(schedule(WORK), utc(now))
    assert found is not None
    assert found == utc(opening)
    assert f"{found:%H:%M}" == "09:00"
    assert in_window(schedule(WORK), found)


def test_the_next_opening_of_a_window_once_a_week_is_found_right_after_it() -> None:
    weekly = schedule({"days": ["Mon"], "from": "09:00", "to": "10:00"}, zone="UTC")
    assert next_opening(weekly, utc("2027-01-11 09:00")) == utc("2027-01-18 09:00")


def test_a_freeze_is_half_open_and_says_why() -> None:
    freeze = {"from": "2026-12-20T00:00:00+01:00", "to": "2027-01-04T08:00:00Z", "reason": "holidays"}
    frozen = schedule(freezes=(freeze,))
    assert active_freeze(frozen, utc("2026-12-19 22:59:59")) is None
    found = active_freeze(frozen, utc("2026-12-19 23:00:00"))
    assert found is not None
    assert found.reason == "holidays"
    assert active_freeze(frozen, utc("2027-01-04 07:59:59")) is not None
    assert active_freeze(frozen, utc("2027-01-04 08:00:00")) is None


# A window of one, two or three hours around the one that comes twice or not at all: from, to, and when it is open in UTC.
SPRING, AUTUMN = "2027-03-28", "2027-10-31"
US_SPRING, US_AUTUMN = "2027-03-14", "2027-11-07"
SWITCHES = [
    # Paris, forward at 01:00 UTC: 01:59 is followed by 03:00.
    ("Europe/Paris", SPRING, "01:00", "04:00", [("00:00", "02:00")]),
    ("Europe/Paris", SPRING, "02:30", "04:00", [("01:00", "02:00")]),  # from the moment on which its start is skipped
    ("Europe/Paris", SPRING, "01:30", "02:30", [("00:30", "01:00")]),
    ("Europe/Paris", SPRING, "02:15", "02:45", []),
    ("Europe/Paris", SPRING, "02:00", "03:00", []),
    ("Europe/Paris", SPRING, "03:00", "04:00", [("01:00", "02:00")]),
    # Back at 01:00 UTC: 02:59 is followed by 02:00.
    ("Europe/Paris", AUTUMN, "01:00", "04:00", [("-23:00", "03:00")]),
    ("Europe/Paris", AUTUMN, "02:15", "02:45", [("00:15", "00:45"), ("01:15", "01:45")]),
    ("Europe/Paris", AUTUMN, "02:30", "04:00", [("00:30", "01:00"), ("01:30", "03:00")]),
    ("Europe/Paris", AUTUMN, "01:30", "02:30", [("-23:30", "00:30"), ("01:00", "01:30")]),
    ("Europe/Paris", AUTUMN, "02:00", "03:00", [("00:00", "02:00")]),
    # New York, forward at 07:00 UTC, back at 06:00 UTC; two and one weeks apart from Paris.
    ("America/New_York", US_SPRING, "01:00", "04:00", [("06:00", "08:00")]),
    ("America/New_York", US_SPRING, "02:30", "04:00", [("07:00", "08:00")]),
    ("America/New_York", US_SPRING, "02:15", "02:45", []),
    ("America/New_York", US_AUTUMN, "00:30", "03:00", [("04:30", "08:00")]),
    ("America/New_York", US_AUTUMN, "01:15", "01:45", [("05:15", "05:45"), ("06:15", "06:45")]),
    ("America/New_York", US_AUTUMN, "00:30", "01:30", [("04:30", "05:30"), ("06:00", "06:30")]),
    ("America/New_York", US_AUTUMN, "01:30", "03:00", [("05:30", "06:00"), ("06:30", "08:00")]),
    ("America/New_York", SPRING, "09:00", "17:00", [("13:00", "21:00")]),  # nothing but summer there
    # Sydney has its summer in January: back at 16:00 UTC of the day before, forward likewise.
    ("Australia/Sydney", "2027-04-04", "02:15", "02:45", [("-15:15", "-15:45"), ("-16:15", "-16:45")]),
    ("Australia/Sydney", "2027-04-04", "01:30", "02:30", [("-14:30", "-15:30"), ("-16:00", "-16:30")]),
    ("Australia/Sydney", "2027-10-03", "02:15", "02:45", []),
    ("Australia/Sydney", "2027-10-03", "02:30", "04:00", [("-16:00", "-17:00")]),
    # Lord Howe moves by half an hour, at 15:00 UTC and 15:30 UTC of the day before.
    ("Australia/Lord_Howe", "2027-04-04", "01:30", "02:00", [("-14:30", "-15:30")]),
    ("Australia/Lord_Howe", "2027-04-04", "01:15", "01:45", [("-14:15", "-14:45"), ("-15:00", "-15:15")]),
    ("Australia/Lord_Howe", "2027-10-03", "02:00", "02:30", []),
    ("Australia/Lord_Howe", "2027-10-03", "02:15", "03:00", [("-15:30", "-16:00")]),
    # Santiago at midnight: the day begins at 01:00, or the evening before has a second 23:00.
    ("America/Santiago", "2027-09-05", "00:00", "02:00", [("04:00", "05:00")]),
    ("America/Santiago", "2027-04-03", "23:15", "23:45", [("02:15+", "02:45+"), ("03:15+", "03:45+")]),
]


def on(day: str, clock: str) -> datetime:
    """Read a clock of a day in UTC: ``-`` is the evening before, ``+`` the morning after."""
    shift = clock.startswith("-") * -1 + clock.endswith("+") * 1
    return utc(f"{day} {clock.strip('-+')}") + timedelta(days=shift)


def opening(planned: Schedule, now: datetime) -> datetime:
    """Return the next opening in UTC: a time that comes twice is equal to none of another zone."""
    found = next_opening(planned, now)
    assert found is not None
    return found.astimezone(UTC)


@pytest.mark.parametrize(("zone", "day", "start", "end", "open_"), SWITCHES)
def test_a_window_in_the_hour_that_clocks_skip_or_repeat(
    zone: str, day: str, start: str, end: str, open_: list[tuple[str, str]]
) -> None:
    one_day = datetime.fromisoformat(day)
    window = {"days": [one_day.strftime("%a")], "from": start, "to": end}
    planned = schedule(window, zone=zone)
    spans = [(on(day, opens), on(day, closes)) for opens, closes in open_]
    moment = on(day, "00:00") - timedelta(hours=14)
    while moment < on(day, "00:00") + timedelta(hours=38):
        assert in_window(planned, moment) is any(opens <= moment < closes for opens, closes in spans), moment
        expected = next((opens for opens, _ in spans if opens > moment), None)
        found = opening(planned, moment)
        if expected is not None:
            assert found == expected, moment
        else:
            assert found > moment + timedelta(days=4), moment  # that of a week after
            assert in_window(planned, found)
        moment += timedelta(minutes=15)


@given(
    switch=st.sampled_from(SWITCHES),
    ahead=st.integers(0, 18 * 60),
    windows=st.lists(st.tuples(st.integers(-60, 60), st.integers(1, 90)), min_size=1, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_the_next_opening_is_the_first_minute_that_is_open_again(
    switch: tuple[str, str, str, str, Any], ahead: int, windows: list[tuple[int, int]]
) -> None:
    zone, day, start, *_ = switch
    hours, minutes = map(int, start.split(":"))
    begins = [min(max(60 * hours + minutes + shift, 0), 1438) for shift, _ in windows]
    ends = [min(begin + length, 1439) for begin, (_, length) in zip(begins, windows, strict=True)]
    planned = schedule(
        *(
            {"days": ["Sat", "Sun", "Mon"], "from": clock(begin), "to": clock(end)}
            for begin, end in zip(begins, ends, strict=True)
        ),
        zone=zone,
    )
    now = on(day, "06:00") - timedelta(minutes=ahead)
    moment, before = now + timedelta(minutes=1), in_window(planned, now)
    while before or not in_window(planned, moment):
        moment, before = moment + timedelta(minutes=1), in_window(planned, moment)
    assert opening(planned, now) == moment


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def test_a_window_that_is_skipped_opens_in_the_week_after() -> None:
    skipped = schedule({"days": ["Sun"], "from": "02:15", "to": "02:45"})
    assert next_opening(skipped, utc("2027-03-21 01:30")) == utc("2027-04-04 00:15")


@pytest.mark.parametrize(
    ("moment", "frozen"),
    [
        # Written with the offset of the day it is for; 36 hours on the wall, and 35 that pass.
        ("2027-03-26 22:59:59", False),
        ("2027-03-26 23:00:00", True),
        ("2027-03-28 00:59:59", True),
        ("2027-03-28 01:00:00", True),
        ("2027-03-28 09:59:59", True),
        ("2027-03-28 10:00:00", False),
    ],
)
def test_a_freeze_over_the_switch_ends_by_its_own_offset(moment: str, frozen: bool) -> None:
    freeze = {"from": "2027-03-27T00:00:00+01:00", "to": "2027-03-28T12:00:00+02:00", "reason": "inventory"}
    planned = schedule({"days": ["Sun"], "from": "01:00", "to": "14:00"}, freezes=(freeze,))
    assert (active_freeze(planned, utc(moment)) is not None) is frozen


def test_a_freeze_within_the_hour_that_comes_twice_is_of_one_of_the_two() -> None:
    freeze = {"from": "2027-11-07T01:00:00-05:00", "to": "2027-11-07T02:00:00-05:00", "reason": "batch"}
    planned = schedule(zone="America/New_York", freezes=(freeze,))
    assert active_freeze(planned, utc("2027-11-07 05:30")) is None
    assert active_freeze(planned, utc("2027-11-07 06:30")) is not None
