"""The machine's two clocks: the one that people set, and the one that nobody can set."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: Linux' monotonic clock stands still while the machine is suspended; other systems have no such clock as this.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return the seconds since some moment, those in which the machine was suspended included."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The clock that people set; implements :class:`cutover.ports.Clock`."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()
