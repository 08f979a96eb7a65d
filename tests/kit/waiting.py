"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(what: str, condition: Callable[[], bool], seconds: float = 90) -> float:
    """Wait for a condition; return how many seconds it took. Fails when it does not come in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - started
