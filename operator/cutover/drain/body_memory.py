"""Memory for the bodies that are read at the same time, which apps share so that none is in another's way.

A body has memory for all that it says to have before it is read, so that each that is read can end. An app has a part of the
memory at most, and its own bodies wait for each other in their order. Where all of it is taken, the app that has least of it
is next, and what is read then has to end soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Waiting:
    app: str
    size: int
    number: int
    admitted: asyncio.Future[None]


class BodyMemory:
    """Memory for bodies, in bytes.

    Parameters
    ----------
    size
        Bytes in all.
    share
        Bytes of one app at most; no body is larger.
    patience
        Seconds that bodies have left to them once somebody waits for memory.
    """

    def __init__(self, size: int, share: int, patience: float) -> None:
        self.left = size
        self._share = share
        self._patience = patience
        self._used: dict[str, int] = {}
        self._waiting: dict[str, deque[_Waiting]] = {}
        self._number = 0
        self._read: set[asyncio.Timeout] = set()
        self._short = False

    @property
    def waiting(self) -> int:
        """How many bodies wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def held(self, app: str, size: int, seconds: float) -> AsyncIterator[None]:
        """Hold memory while the context is open. Raises TimeoutError where the body takes too long.

        Parameters
        ----------
        app
            Whose body it is.
        size
            Its bytes.
        seconds
            Seconds that it may take, once it has memory.
        """
        if app in self._waiting or not self._fits(app, size) or size > self.left:
            await self._turn(app, size)
        else:
            self._take(app, size)
        try:
            async with asyncio.timeout(seconds) as limit:
                self._read.add(limit)
                try:
                    if self._short:
                        self._hurry()
                    yield
                finally:
                    self._read.discard(limit)
        finally:
            self._give_back(app, size)

    def _fits(self, app: str, size: int) -> bool:
        return self._used.get(app, 0) + size <= self._share

    def _take(self, app: str, size: int) -> None:
        self.left -= size
        self._used[app] = self._used.get(app, 0) + size

    def _give_back(self, app: str, size: int) -> None:
        self.left += size
        self._used[app] -= size
        if not self._used[app]:
            del self._used[app]
        if self._waiting:
            self._admit()

    async def _turn(self, app: str, size: int) -> None:
        """Wait for memory."""
        self._number += 1
        one = _Waiting(app, size, self._number, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(app, deque()).append(one)
        self._admit()
        try:
            await one.admitted
        except asyncio.CancelledError:
            if one.admitted.done() and not one.admitted.cancelled():
                self._give_back(app, size)
            else:
                self._leave(one)
                self._admit()
            raise

    def _leave(self, one: _Waiting) -> None:
        queue = self._waiting.get(one.app)
        if queue is not None and one in queue:
            queue.remove(one)
            if not queue:
                del self._waiting[one.app]

    def _admit(self) -> None:
        """Give memory to those whose turn it is."""
        while True:
            heads = [queue[0] for queue in self._waiting.values() if self._fits(queue[0].app, queue[0].size)]
            first = min(heads, key=lambda one: (self._used.get(one.app, 0), one.number), default=None)
            self._short = first is not None and first.size > self.left
            if first is None or self._short:
                break
            self._leave(first)
            if first.admitted.cancelled():
                continue  # it has gone, and does not know yet
            self._take(first.app, first.size)
            first.admitted.set_result(None)
        if self._short:
            self._hurry()

    def _hurry(self) -> None:
        """Bound the time of all bodies that are being read: live senders are done by then, and senders that are cut off repeat."""
        until = asyncio.get_running_loop().time() + self._patience
        for limit in self._read:
            at = limit.when()
            if not limit.expired() and at is not None and at > until:
                limit.reschedule(until)
