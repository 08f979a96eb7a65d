"""What the drain recorded of an app on Heroku: how much its dynos use, and whether anybody still asks them."""

from __future__ import annotations

from dataclasses import dataclass

#: Days that are looked back.
DAYS = 7


@dataclass(frozen=True, slots=True)
class DynoUse:
    """What a web dyno used in the last :data:`DAYS` days, of the dyno that used most.

    Parameters
    ----------
    memory
        Bytes that it stayed below for 95 % of the time.
    most_memory
        The most bytes.
    load
        Load that it stayed below for 95 % of the time: threads that ran or wanted to. ``None`` if it is not known.
    """

    memory: float
    most_memory: float
    load: float | None = None
