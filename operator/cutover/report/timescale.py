"""The time axis of the charts: linear within a stage, and cut short where a stage is far longer than the others.

A cutover is minutes of steps between days of waiting. On a linear axis the steps would be one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median_low

#: A stage is drawn as long as so many times the median stage at most.
MOST_TIMES = 2.5
#: Lengths of time in seconds at which ticks may be.
_TICKS = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(86_400, 2 * 86_400, 7 * 86_400, 28 * 86_400),
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis.

    Parameters
    ----------
    since, until
        Unix seconds.
    left, right
        Where it is drawn.
    cut
        Whether it is drawn shorter than it is, compared with the others.
    """

    since: float
    until: float
    left: float
    right: float
    cut: bool

    @property
    def seconds(self) -> float:
        """Length in time."""
        return self.until - self.since


@dataclass(frozen=True, slots=True)
class TimeScale:
    """The axis as a whole, from the first stretch to the last."""

    stretches: tuple[Stretch, ...]

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
        longest = MOST_TIMES * median_low(lengths)
        drawn = [min(length, longest) for length in lengths]
        if sum(lengths) < 2 * sum(drawn):  # not worth a cut
            drawn = lengths
        scale, at = (right - left) / sum(drawn), left
        found = []
        for since, length, shown in zip(times, lengths, drawn, strict=False):
            found.append(Stretch(since, since + length, at, at + shown * scale, cut=shown < length))
            at += shown * scale
        return cls(tuple(found))

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
        for one in self.stretches:
            if at < one.until or one is self.stretches[-1]:
                part = (at - one.since) / one.seconds
                return one.left + min(max(part, 0.0), 1.0) * (one.right - one.left)
        raise AssertionError("there is a stretch")

    def ticks(self, room: float) -> tuple[tuple[float, str], ...]:
        """Return times with their labels.

        Parameters
        ----------
        room
            Least distance of two labels.
        """
        density = min(one.seconds / max(one.right - one.left, 1e-9) for one in self.stretches)
        step = next((one for one in _TICKS if one / density >= room), _TICKS[-1])
        found: list[tuple[float, str]] = []
        free = self.stretches[0].left
        days = self.until - self.since >= 86_400
        for one in self.stretches:
            at = one.since if one.cut else -(-one.since // step) * step
            while at <= one.until:
                x = self.x(at)
                if x >= free - 1e-6:
                    found.append((at, _label(at, days=days, seconds=step < 60)))
                    free = x + room
                at += max(one.seconds, 1.0) if one.cut else step
        return tuple(found)


def _label(at: float, *, days: bool, seconds: bool) -> str:
    # The years 1970 to 9999, whatever a broken clock wrote.
    time = datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC)
    clock = f"{time:%H:%M:%S}" if seconds and not days else f"{time:%H:%M}"
    return f"{time:%d %b} {clock}" if days else clock
