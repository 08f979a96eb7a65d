"""The clock for what must not depend on who sets the machine's time."""

from __future__ import annotations

import time

#: Linux' monotonic clock stands still while the machine is suspended; other systems have no such clock as this.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return the seconds since some moment, those in which the machine was suspended included."""
    return time.clock_gettime(_CLOCK)
