"""Windows and freezes, by the clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cutover.api.v1alpha1 import Schedule
from cutover.core.schedule import active_freeze, in_window, next_opening

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
