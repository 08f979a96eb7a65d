"""The time axis of the charts: linear, or with a scale for each stage where some would be too short to be seen.

A cutover is minutes of steps between days of waiting. On a linear axis the steps would be one line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from cutover.api.durations import span

#: Every stage gets this part of the axis at least, or half of its fair part where there are many.
LEAST_PART, LEAST_OF_FAIR = 0.08, 0.5
#: Lengths of time in seconds at which ticks of a linear axis may be.
_TICKS = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(86_400, 2 * 86_400, 7 * 86_400, 28 * 86_400),
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stage on the axis: when it is, in Unix seconds, and where it is drawn."""

    since: float
    until: float
    left: float
    right: float

    @property
    def seconds(self) -> float:
        """Length in time."""
        return self.until - self.since

    @property
    def width(self) -> float:
        """Length as it is drawn."""
        return self.right - self.left


@dataclass(frozen=True, slots=True)
class TimeScale:
    """The axis as a whole.

    Parameters
    ----------
    stretches
        The stages, in order.
    linear
        Whether all have the same scale.
    """

    stretches: tuple[Stretch, ...]
    linear: bool

    @classmethod
    def of(cls, bounds: Sequence[float], left: float, right: float) -> TimeScale:
        """Return the axis of stages.

        Parameters
        ----------
        bounds
            Unix seconds at which stages begin, and at which the last one ends, in order.
        left, right
            Where the axis begins and ends.
        """
        times = sorted(set(bounds)) or [0.0]
        if len(times) == 1:
            times.append(times[0] + 1.0)
        lengths = [until - since for since, until in pairwise(times)]
        parts = _parts(lengths)
        at, found = left, []
        for (since, until), part in zip(pairwise(times), parts, strict=True):
            found.append(Stretch(since, until, at, at + part * (right - left)))
            at = found[-1].right
        total = sum(lengths)
        linear = all(abs(part - length / total) < 1e-9 for part, length in zip(parts, lengths, strict=True))
        return cls(tuple(found), linear)

    @property
    def since(self) -> float:
        """Begin of the axis in Unix seconds."""
        return self.stretches[0].since

    @property
    def until(self) -> float:
        """End of the axis in Unix seconds."""
        return self.stretches[-1].until

    def x(self, at: float) -> float:
        """Return where a time is drawn; a time outside is drawn at the end of the axis."""
        one = next((one for one in self.stretches if at < one.until), self.stretches[-1])
        part = (at - one.since) / one.seconds
        return one.left + min(max(part, 0.0), 1.0) * one.width

    def ticks(self, room: float) -> tuple[tuple[float, str], ...]:
        """Return times with their labels: round ones of a linear axis, else those at which stages begin and end.

        Parameters
        ----------
        room
            Least distance of two labels.
        """
        if self.linear:
            density = (self.until - self.since) / (self.stretches[-1].right - self.stretches[0].left)
            many = _TICKS[-1] * math.ceil(room * density / _TICKS[-1])
            step = next((one for one in _TICKS if one / density >= room), many)
            first = -(-self.since // step) * step
            times = [first + step * number for number in range(int(max(self.until - first, 0.0) // step) + 1)]
            return tuple((at, self._label(at, seconds=step < 60)) for at in times[:100])
        times = [*(one.since for one in self.stretches), self.until]
        found: list[tuple[float, str]] = []
        free = self.stretches[0].left
        for at in times:
            if self.x(at) >= free - 1e-6:
                found.append((at, self._label(at, seconds=self.until - self.since < 3600)))
                free = self.x(at) + room
        return tuple(found)

    def lengths(self, room: float) -> tuple[tuple[float, str], ...]:
        """Return the middle of each stage with its length as text, where it has the room; none for a linear axis."""
        if self.linear:
            return ()
        shown = [one for one in self.stretches if one.width >= room]
        return tuple(((one.left + one.right) / 2, span(one.seconds)) for one in shown)

    def _label(self, at: float, *, seconds: bool) -> str:
        # The years 1970 to 9999, whatever a broken clock wrote.
        time = datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC)
        if self.until - self.since >= 86_400:
            return f"{time:%d %b %H:%M}"
        return f"{time:%H:%M:%S}" if seconds else f"{time:%H:%M}"


def _parts(lengths: Sequence[float]) -> list[float]:
    """Return the part of the axis that each stage gets: by its length, and never less than the least part."""
    least = min(LEAST_PART, LEAST_OF_FAIR / len(lengths))
    short: set[int] = set()
    while True:
        rest = sum(length for number, length in enumerate(lengths) if number not in short)
        left = 1.0 - least * len(short)
        parts = [least if number in short else left * length / rest for number, length in enumerate(lengths)]
        more = {number for number, part in enumerate(parts) if part < least} - short
        if not more:
            return parts
        short |= more
