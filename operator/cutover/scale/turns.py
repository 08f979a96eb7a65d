"""What lets a thousand plans share one process: not all of them do the same at the same moment.

All plans decide at the end of the same block. What can wait waits until the others have decided, each plan for a time of
its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from zlib import crc32

#: Seconds, or a third of a block, for which a checkpoint waits at most.
CHECKPOINT_WAIT_SECONDS = 5.0


def own_part(uid: str) -> float:
    """Return a number from 0 to 1 that each plan, named by its UID, has for itself: not all do the same at once."""
    return crc32(uid.encode()) / 2**32


async def let_others_decide(uid: str, block_seconds: float, news: asyncio.Event) -> None:
    """Wait for a while, unless there is news: what takes time shall not keep other plans' decisions waiting.

    Parameters
    ----------
    uid
        The plan whose write can wait.
    block_seconds
        Length of the plan's blocks.
    news
        Set when there is something to decide about this plan.
    """
    longest = min(CHECKPOINT_WAIT_SECONDS, block_seconds / 3)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest * (1 + own_part(uid)) / 2):
            await news.wait()
