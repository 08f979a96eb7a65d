"""When Python looks for garbage: rarely, and not among what stays.

Nearly everything is freed as soon as nobody refers to it. For the rest, objects that refer to each other, CPython goes
through all objects that it knows, again and again as new ones are made, and each answer of Prometheus makes tens of
thousands. With 1,000 plans that took a third of the operator's CPU time, and most of it just when decisions were due.

So what there is after the start, and then now and then, is *frozen*: not looked at again until the next time. What
refers to each other and is not needed any more in the meantime is little: some connections, and what Kopf makes for an event.

https://docs.python.org/3/library/gc.html
"""

from __future__ import annotations

import asyncio
import gc

#: New objects, beyond those that were freed, after which the young ones are looked at.
YOUNG = 20_000
#: Seconds from the start until the plans that there are have been looked at, and then from one time to the next.
FIRST_SECONDS, LATER_SECONDS = 30.0, 600.0


async def collect_rarely() -> None:
    """Freeze what there is, and again and again what has come and not gone. Never returns."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    gc.freeze()  # Python's packages: nothing to look for
    delay = FIRST_SECONDS
    while True:
        await asyncio.sleep(delay)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        delay = LATER_SECONDS
