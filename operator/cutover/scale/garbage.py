"""Runs Python's garbage collector rarely, and only on young objects.

Python frees nearly all objects when their last reference goes. For objects that refer to each other, CPython traverses all
objects, each time that many new ones were created, and each answer of Prometheus creates tens of thousands. With 1,000 plans
that took a third of the operator's CPU time, most of it just when decisions were due.

Therefore all objects are *frozen* after the start and at long intervals: they are not traversed until the next time. Little
cyclic garbage arises between: some connections, and Kopf's objects for an event.

https://docs.python.org/3/library/gc.html
"""

from __future__ import annotations

import asyncio
import gc

#: Number of new objects, less those that were freed, after which young objects are traversed.
YOUNG = 20_000
#: Seconds from the start until all plans are reconciled, and then between two collections.
FIRST_SECONDS, LATER_SECONDS = 30.0, 600.0


async def collect_rarely() -> None:
    """Freeze all objects now and at intervals. Never returns."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.freeze()  # Python's modules have no garbage
    delay = FIRST_SECONDS
    while True:
        await asyncio.sleep(delay)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        delay = LATER_SECONDS
