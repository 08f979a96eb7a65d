"""A circuit breaker for one Prometheus server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cutover.ports.errors import Unavailable

#: Consecutive failures to reach the server after which it is queried more rarely.
FAILURES_TO_OPEN = 5


class Breaker:
    """Limits queries to a server that cannot be reached.

    Only failures to reach the server count. Any answer shows that it is there, and a slow query says nothing about other
    queries. While the server is away, one query at a time finds out whether it is back. Other queries wait for its result,
    so that the first block after an outage is read completely. A refused query fails with the text of the last failure: a
    plan's status quotes it, and must not change every second.

    Parameters
    ----------
    cooldown
        Seconds between two tries, plus or minus a quarter. It is shorter than the sampler's own pause, so that it delays no
        read.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._failures = 0
        self._retry_at = 0.0
        self._last = ""
        self._trying = asyncio.Lock()

    @property
    def open(self) -> bool:
        """Whether the server counts as away."""
        return self._failures >= FAILURES_TO_OPEN

    def reached(self) -> None:
        """Note that the server answered."""
        self._failures = 0

    def missed(self, reason: str) -> None:
        """Note that the server could not be reached."""
        self._failures += 1
        self._put_off(reason)

    def slow(self, reason: str) -> None:
        """Note that the server did not answer in time, which counts only where it was away before."""
        if self.open:
            self._put_off(reason)

    def _put_off(self, reason: str) -> None:
        self._last = reason
        self._retry_at = time.monotonic() + self._cooldown * random.uniform(0.75, 1.25)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the query that tries the server, if there is any. Raises Unavailable while the server is away."""
        if self.open:
            async with self._trying:
                if self.open:
                    if time.monotonic() < self._retry_at:
                        raise Unavailable(self._last)
                    yield
                    return
        yield
