"""The machine's two clocks: the wall clock, which may be set, and the clock since boot, which may not."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: Linux' monotonic clock stops while the machine is suspended, CLOCK_BOOTTIME does not; other systems lack it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return the seconds since an arbitrary moment, including those in which the machine was suspended."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The wall clock; implements :class:`cutover.ports.clock.Clock`."""

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time()
