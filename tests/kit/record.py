"""Records of Heroku from before the takeover, as a day and a week make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from cutover.domain.baseline.record import HOUR, MINUTES, Hour, Reach, Record
from cutover.domain.evidence.blocks import Counts

#: Monday 2027-01-11, 10:00:00 UTC: the end of the records, and the start of the played world.
END = 1_799_661_600.0


_USUAL: Mapping[str, float] = {"errors": 0.001, "refused": 0.01}


def busy_by_day(at: float) -> float:
    """Return the requests per second at a time: 50 at 14:00 UTC, and a twentieth at night."""
    day = (at % 86_400.0) / HOUR
    return 50.0 if 7 <= day < 20 else 2.5


def hour(start: float, rate: float, *, minutes: int = MINUTES, **parts: float) -> Hour:
    """Return an hour of a service with 20 ms a request, of which parts are errors, refused, redirected or throttled."""
    requests = rate * 60.0 * minutes
    counts = Counts(requests, **{name: requests * part for name, part in parts.items()})
    return Hour.of(
        start, minutes, counts, {10.0: 0.2 * requests, 25.0: 0.9 * requests, 100.0: requests, math.inf: requests}
    )


def record(
    days: float = 14.0,
    rate: Callable[[float], float] = busy_by_day,
    *,
    source: str = "Drain",
    end: float = END,
    minutes: Callable[[int], int] = lambda _: MINUTES,
    answers: Mapping[str, float] | Callable[[int], Mapping[str, float]] = _USUAL,
) -> Record:
    """Return a record of some days.

    Parameters
    ----------
    minutes
        Minutes that are recorded of an hour, by its number.
    answers
        Parts of the requests by class, also by the number of the hour.
    """
    number = round(days * 24)
    reach = Reach(end, tuple(minutes(n) for n in range(number)))
    parts = answers if callable(answers) else lambda _: answers
    hours = (
        hour(start, rate(start), minutes=reach.minutes[n], **parts(n))
        for n in range(number)
        for start in [reach.start + HOUR * n]
    )
    return Record(source, reach, tuple(hours))
