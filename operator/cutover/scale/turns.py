"""Spreads the work of a thousand plans over time.

All plans decide at the end of the same block. Writes that can wait are delayed until other plans have decided, for a
different time in each plan.
"""

from __future__ import annotations

import asyncio
import contextlib
from zlib import crc32

#: Longest wait of a checkpoint in seconds; a third of a block where that is shorter.
CHECKPOINT_WAIT_SECONDS = 5.0


def spread_part(uid: str) -> float:
    """Return a constant number from 0 to 1 for a plan's UID, which spreads plans over an interval."""
    return crc32(uid.encode()) / 2**32


class Turns:
    """Spaces out what all plans do, so that an incident of a thousand plans is no storm.

    Parameters
    ----------
    per_second
        Turns a second.
    """

    def __init__(self, per_second: float) -> None:
        self._pause = 1.0 / per_second
        self._next = 0.0

    def take(self, now: float) -> float:
        """Return the seconds until one's turn. Who waits for one must not take another."""
        self._next = max(self._next, now) + self._pause
        return self._next - self._pause - now


async def let_others_decide(uid: str, block_seconds: float, news: asyncio.Event) -> None:
    """Wait for a while, or until there is news, so that a write does not delay other plans' decisions.

    Parameters
    ----------
    uid
        The plan whose write can wait.
    block_seconds
        Length of the plan's blocks.
    news
        Set when the plan has to be reconciled.
    """
    longest = min(CHECKPOINT_WAIT_SECONDS, block_seconds / 3)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest * (1 + spread_part(uid)) / 2):
            await news.wait()
