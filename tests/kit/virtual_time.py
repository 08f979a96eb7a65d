"""A clock for tests on an event loop: nobody waits, and how busy the machine is makes no difference."""

from __future__ import annotations

import asyncio
import time

import pytest


class VirtualTime:
    """A clock that stands still while something is to be done, and jumps to what is due next when nothing is."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._wall = time.time()
        self.passed = 0.0

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._since + self.passed

    def wall(self) -> float:
        """Return the Unix seconds of a clock that nobody sets."""
        return self._wall + self.passed

    def freeze(self, seconds: float) -> None:
        """Let time pass in which the process does nothing."""
        self.passed += seconds


@pytest.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Replace the event loop's clock, and those of ``time``.

    For tests without sockets, processes and threads: what these do takes no time, as the loop does not wait for them.
    """
    clock, loop = VirtualTime(), asyncio.get_running_loop()
    select = loop._selector.select  # type: ignore[attr-defined]

    def jump(timeout: float | None = None) -> object:
        if timeout is None:
            return select(None)
        clock.passed += max(timeout, 0.0)
        return select(0)

    monkeypatch.setattr(loop, "time", clock.now)
    monkeypatch.setattr(loop, "_clock_resolution", 1e-6)
    monkeypatch.setattr(loop._selector, "select", jump)  # type: ignore[attr-defined]
    monkeypatch.setattr(time, "time", clock.wall)
    monkeypatch.setattr(time, "monotonic", clock.now)
    monkeypatch.setattr(time, "clock_gettime", lambda _: clock.now())
    return clock
