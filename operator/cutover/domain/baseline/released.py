"""Which releases were made within the record: what was normal before one may not be after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from cutover.domain.heroku import Release

#: Releases that are listed, the newest; all are counted.
MOST_LISTED = 30
#: Releases between two that were seen are counted up to so many: a drain that says more is wrong.
MOST_AT_ONCE = 100


class Mark(NamedTuple):
    """A release within the record.

    Parameters
    ----------
    at
        Unix seconds: when it was made, by Heroku's API, or the start of the hour in which the drain saw it.
    version
        Its number.
    what
        What Heroku's API says of it, such as ``Deploy 1a2b3c4d``; ``""`` where only the drain tells.
    """

    at: float
    version: int
    what: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The releases within a record.

    Parameters
    ----------
    number
        How many there were.
    newest
        The newest :data:`MOST_LISTED`, the oldest first.
    """

    number: int
    newest: tuple[Mark, ...] = ()


def released(
    hours: Sequence[tuple[float, int | None]], told: Iterable[Release] | None, until: float
) -> Released | None:
    """Return the releases within the record; ``None`` where neither the drain nor Heroku's API tells of any.

    Parameters
    ----------
    hours
        Start of each hour, in Unix seconds, with the newest release that the drain knew in it: 0 if it knew of none, ``None``
        if nothing is recorded.
    told
        The newest releases by Heroku's API, whose times are exact; ``None`` if it did not answer.
    until
        Unix seconds of the record's end.
    """
    if told is None and all(version is None for _, version in hours):
        return None
    found = {mark.version: mark for mark in _seen(hours)}
    since = hours[0][0] if hours else until
    for release in told or ():
        if release.at is None:
            continue
        at = release.at.timestamp()
        if release.succeeded and since <= at < until:
            found[release.version] = Mark(at, release.version, release.description)
        else:
            found.pop(release.version, None)  # it was never in force, or the drain saw it later than it was made
    newest = sorted(found.values(), key=lambda mark: (mark.at, mark.version))
    return Released(len(newest), tuple(newest[-MOST_LISTED:]))


def _seen(hours: Sequence[tuple[float, int | None]]) -> Iterable[Mark]:
    """Yield the releases by the drain. What it knew in its first hour was made before."""
    last: int | None = None
    for start, version in hours:
        if version is None:
            continue
        if last is not None and version > last:
            # A drain that began within the record knows none of those before the first one that it saw.
            first = max(last + 1, version - MOST_AT_ONCE + 1) if last else version
            yield from (Mark(start, number) for number in range(first, version + 1))
        last = max(last or 0, version)


def releases_text(number: int | None, last: datetime | None) -> str:
    """Return the mark that a record bears, as a sentence; ``""`` where there was no release, or nothing tells."""
    if not number or last is None:
        return ""
    many = f"{number} releases, the last" if number > 1 else "a release,"
    return f"the record spans {many} on {last.astimezone(UTC):%F %R} UTC"
