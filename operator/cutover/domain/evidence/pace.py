"""The pace of the requests: a small memory of how many there were, minute by minute, and of EKS' newest blocks.

At 100 % there is no control that shows how many requests there should be. The last hour does, roughly: an hour has its quiet
minutes, and a service that loses half of its quietest one at once has lost answers, or its users.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from cutover.api.opaque import Opaque
from cutover.domain.evidence.blocks import Block, Counts

MINUTE, HOUR_MINUTES, LATELY_MINUTES, LEAST_MINUTES = 60.0, 60, 5, 2
"""Seconds of a minute; the minutes that are remembered, that are called lately, and that must be known of them."""
ACCEPTED_MINUTES = 30
"""Minutes after which fewer requests than before are the usual."""
KNOWN_SECONDS = 30.0
"""Seconds of a minute that must have been counted before its pace is known."""
NEWEST_SECONDS = 60.0
"""Seconds for which blocks are kept one by one: in longer windows an outage of seconds would look like harm for minutes."""


class Minute(NamedTuple):
    """The requests of one minute of the clock.

    Parameters
    ----------
    number
        Whole minutes since the epoch.
    requests
        Requests of both legs in its blocks.
    seconds
        Length of these blocks.
    """

    number: int
    requests: float
    seconds: float


class Newest(NamedTuple):
    """EKS' counts in one of the newest blocks."""

    start: float
    end: float
    eks: Counts


class Pace(NamedTuple):
    """The memory. It is immutable, and bounded by an hour.

    Parameters
    ----------
    minutes
        Oldest first; minutes without usable blocks are missing.
    newest
        EKS' newest blocks at 100 %, oldest first and without holes; a new process reads them again.
    turned_since
        Unix seconds since which EKS' requests have looked harmed without a break; ``None`` if they do not.
    """

    minutes: tuple[Minute, ...] = ()
    newest: tuple[Newest, ...] = ()
    turned_since: float | None = None

    @property
    def usual(self) -> float | None:
        """Requests a second that are the least to expect: of the last 5 minutes, or of the hour's quietest if it is less.

        ``None`` while too few of these minutes are known. The current minute counts once it is over. While the requests look
        harmed, those from before count, or the harm would soon be the usual; after half an hour it is.
        """
        end = self.minutes[-1].number if self.minutes else 0
        if self.turned_since is not None and end - self.turned_since / MINUTE < ACCEPTED_MINUTES:
            end = math.floor(self.turned_since / MINUTE)
        over = [minute for minute in self.minutes if minute.number < end and minute.seconds >= KNOWN_SECONDS]
        lately = [minute for minute in over if minute.number >= end - LATELY_MINUTES]
        if len(lately) < LEAST_MINUTES:
            return None
        rate = sum(minute.requests for minute in lately) / sum(minute.seconds for minute in lately)
        return min(rate, *(minute.requests / minute.seconds for minute in over))

    def windows(self) -> Iterator[tuple[float, Counts]]:
        """Yield the seconds and EKS' counts of the newest block, of the newest two, and so on."""
        seconds, counts = 0.0, Counts()
        for block in reversed(self.newest):
            seconds, counts = seconds + block.end - block.start, block.eks + counts
            yield seconds, counts


def keep_pace(pace: Pace, block: Block, *, judged: bool) -> Pace:
    """Return the memory with one more block.

    Parameters
    ----------
    judged
        Whether all of the block's requests went to EKS, as was seen at the gateway.
    """
    if not block.usable:
        return pace._replace(newest=())
    number, seconds = math.floor(block.start / MINUTE), block.end - block.start
    minutes = pace.minutes
    if minutes and minutes[-1].number == number:
        last = minutes[-1]
        minutes = (*minutes[:-1], Minute(number, last.requests + block.requests, last.seconds + seconds))
    elif not minutes or minutes[-1].number < number:
        kept = [minute for minute in minutes if minute.number > number - HOUR_MINUTES]
        minutes = (*kept, Minute(number, block.requests, seconds))
    if not judged:
        return Pace(minutes)
    known = pace.newest if pace.newest and pace.newest[-1].end == block.start else ()
    newest = (
        *(one for one in known if one.end > block.end - NEWEST_SECONDS),
        Newest(block.start, block.end, block.eks),
    )
    return pace._replace(minutes=minutes, newest=newest)


def load_pace(kept: Opaque) -> Pace:
    """Return the memory in a checkpoint. One that cannot be read, because the status was edited, begins anew."""
    return kept.value(_read)


def store_pace(pace: Pace) -> Opaque:
    """Return the memory for a checkpoint, without the newest blocks."""
    return Opaque.of(pace, _write)


def _write(pace: Pace) -> str:
    data: dict[str, Any] = {
        "minutes": [[one.number, float(f"{one.requests:.6g}"), round(one.seconds, 1)] for one in pace.minutes]
    }
    if pace.turned_since is not None:
        data["turned"] = pace.turned_since
    return to_json(data).decode() if pace != Pace() else ""


def _read(text: str) -> Pace:
    try:
        data = from_json(text) if text else {}
        minutes = tuple(Minute(int(n), float(requests), float(seconds)) for n, requests, seconds in data["minutes"])
        turned = data.get("turned")
        return Pace(minutes, turned_since=None if turned is None else float(turned))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Pace()
