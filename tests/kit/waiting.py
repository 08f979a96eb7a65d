"""Waiting for what another process, or another task, does.

The time limits are for a machine that is busy with all the other tests; a wait ends as soon as its condition is true.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(what: str, condition: Callable[[], object], seconds: float = 90) -> float:
    """Wait for a condition; return how many seconds it took. Fails when it does not come in time."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


async def eventually(condition: Callable[[], _T | Awaitable[_T]], seconds: float = 90) -> _T:
    """Wait until what a function returns, or what comes of it, is true, and return that. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            result = await found if inspect.isawaitable(found) else found
            if result:
                return result
            await asyncio.sleep(0.02)
