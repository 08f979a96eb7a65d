"""When weight may rise."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from cutover.api.model import Model, Time
from cutover.api.rules import Rule, matching


class Weekday(StrEnum):
    """Day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


ClockTime = Annotated[
    str,
    Field(min_length=5, max_length=5),
    matching(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", 'write hours and minutes as "HH:MM" in quotes, such as "09:00"'),
]


class Window(Model):
    """Hours in which weight may rise."""

    RULES = (
        Rule(
            'to: must be after from; write a window that passes midnight as two: to "23:59", and from "00:00" on the next day',
            "self.from < self.to",
            lambda self: self.from_ < self.to,
            at=".to",
        ),
    )

    days: tuple[Weekday, ...] = Field(min_length=1, max_length=7, description="Days of the week, from Mon to Sun.")
    from_: ClockTime = Field(alias="from", description="Start of the window in the schedule's time zone, as HH:MM.")
    to: ClockTime = Field(description="End of the window on the same day, as HH:MM.")


class Freeze(Model):
    """A span of time in which weight must not rise."""

    RULES = (
        Rule(
            "to: must be after from; write the end of the freeze, such as 2027-01-04T08:00:00Z",
            "self.from < self.to",  # both are timestamps in CEL, by their format
            lambda self: self.from_ < self.to,
            at=".to",
        ),
    )

    from_: Time = Field(alias="from", description="Start of the freeze, with its zone: 2026-12-20T00:00:00Z.")
    to: Time = Field(description="End of the freeze, with its zone.")
    reason: str = Field(min_length=1, max_length=256, description="Reason of the freeze, for people.")


class Schedule(Model):
    """When weight may rise. Rollbacks ignore it."""

    time_zone: Annotated[
        str,
        Field(min_length=1, max_length=64),
        # The API server cannot know which zones exist; the operator reports an unknown one.
        matching(
            r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", "write an IANA time zone, such as Europe/Paris or UTC"
        ),
    ] = Field(default="UTC", description="IANA name, such as Europe/Paris.")
    windows: tuple[Window, ...] = Field(
        default=(), max_length=16, description="Hours in which weight may rise; at any time if there are none."
    )
    freezes: tuple[Freeze, ...] = Field(
        default=(), max_length=32, description="Spans of time in which weight must not rise."
    )
