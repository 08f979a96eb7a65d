"""Raw samples of counters: when each source was scraped, and a counter's increment from one scrape to the next.

Each sample is compared only with samples in the *reach* before it (some scrape intervals). The result is therefore the
same from whichever window it was read: live, or again after a restart.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/#range-vectors
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import Struct

#: ``data.result`` of Prometheus' HTTP API: one mapping with ``metric`` and ``values`` (or ``value``) per series.
Result = Sequence[Mapping[str, Any]]

#: One scrape may be missed or late; two missed in a row make the next increment unusable.
REACH_IN_SCRAPES = 2.5

#: A counter of this size does not grow beyond its old value within a scrape interval after a restart, as it took many to get
#: there. So it shows that its process did not restart.
NOT_REGROWN = 100.0
#: As a multiple of a counter that fell between two scrapes in a row.
_CLEARLY_LARGER = 10.0
#: A counter that its process forgot, and that is not smaller when it comes back, is taken to have begun at 0 if it was at most
#: this. Where it was not forgotten after all, its increment is too large by no more.
_FEW = 5.0

#: Labels that tell a source, besides the namespace, in the order of :func:`source_by`.
SOURCE_LABELS = ("pod", "instance", "job", "prometheus_replica", "replica", "__replica__")
_INF = math.inf


class Source(NamedTuple):
    """A process that counts, together with the job and Prometheus replica that scraped it.

    Two Prometheus replicas, or two jobs that scrape the same pod, are two sources of one gateway.
    """

    namespace: str
    pod: str
    replica: str
    job: str
    instance: str

    @property
    def gateway(self) -> tuple[str, str]:
        """The process that counts."""
        return self[:2]


class Series(Struct, frozen=True, gc=False):
    """One counter: requests with a response code (``bound`` is None), or a latency bucket (``bound`` in milliseconds)."""

    source: Source
    code: str
    bound: float | None
    times: Sequence[float]
    values: Sequence[float]


class Scrapes:
    """When each source was scraped."""

    def __init__(self) -> None:
        self._times: dict[Source, set[float]] = {}
        self._sorted: dict[Source, list[float]] = {}

    def add(self, source: Source, times: Iterable[float]) -> None:
        """Add times of scrapes, in any order."""
        self._times.setdefault(source, set()).update(times)
        self._sorted.pop(source, None)

    def of(self, source: Source) -> list[float]:
        """Return the times of a source's scrapes, rising."""
        times = self._sorted.get(source)
        if times is None:
            times = self._sorted[source] = sorted(self._times.get(source, ()))
        return times

    def last(self, source: Source, before: float, *, inclusive: bool = False) -> float:
        """Return the time of a source's newest scrape before a time, or minus infinity."""
        times = self.of(source)
        index = bisect_right(times, before) if inclusive else bisect_left(times, before)
        return times[index - 1] if index else -_INF

    def __contains__(self, source: Source) -> bool:
        return source in self._times

    def __iter__(self) -> Iterator[Source]:
        return iter(self._times)


class Witnesses:
    """When each source was scraped, and which scrapes brought a counter."""

    #: Name for a source in messages.
    noun = "scrape target"
    #: What to do, in messages, where a source forgets idle counters.
    keep_longer = ""

    def __init__(self) -> None:
        self._seen = Scrapes()  # scrapes that succeeded
        self._counted = Scrapes()  # scrapes that brought a counter

    def sources(self) -> Iterable[Source]:
        """Return all sources."""
        return self._seen

    def counting(self) -> Iterable[Source]:
        """Return the sources that brought a counter."""
        return self._counted

    def last_scrape(self, source: Source, before: float, *, inclusive: bool = False) -> float:
        """Return the time of the source's newest scrape before a time, or minus infinity."""
        return self._seen.last(source, before, inclusive=inclusive)

    def last_counted(self, source: Source, before: float) -> float:
        """Return the time of the source's newest scrape before a time that brought a counter, or minus infinity."""
        return self._counted.last(source, before)

    def born(self, source: Source, at: float, reach: float) -> bool:
        """Tell whether a counter that is new at a time began at 0: its source was scraped shortly before without it.

        ``up`` does not prove it, as a failing agent is up. The source must have had other counters, and not this one.
        """
        return at - self.last_counted(source, at) < reach

    def losses(self, series: Series) -> Sequence[tuple[float, float, float]]:
        """Return the last scrapes with a counter: their times, those of the next scrapes without it, and its values."""
        scrapes = self._counted.of(series.source)
        if len(series.times) == len(scrapes):
            return ()
        had = dict(zip(series.times, series.values, strict=True))
        return [(at, after, had[at]) for at, after in pairwise(scrapes) if at in had and after not in had]


class Doubts:
    """Reasons why one source's increments in one block are unknown.

    A process that restarts loses all its counters at once. If some fell and others did not, the others may have grown
    beyond their old values since the restart; or nothing restarted, and the process forgot some counters, as proxies do
    with idle ones.

    Attributes
    ----------
    gap
        Why an increment is unknown.
    fell
        By time of a scrape at which a counter fell or was gone: the value that another counter must have had before, and not
        fallen below, to show that the process did not restart.
    went_on
        By time of a scrape: the largest value, before the scrape, of the counters that did not fall.
    """

    __slots__ = ("fell", "gap", "went_on")

    def __init__(self) -> None:
        self.gap = ""
        self.fell: dict[float, float] = {}
        self.went_on: dict[float, float] = {}

    def gone(self, at: float, before: float) -> None:
        """Note a counter that a scrape did not bring any more, by its last value."""
        self.fell[at] = max(min(before, NOT_REGROWN), self.fell.get(at, 0.0))

    @property
    def lost_some(self) -> bool:
        """Whether some counters fell while others went on rising."""
        return not self.fell.keys().isdisjoint(self.went_on)

    @property
    def lost_largest(self) -> bool:
        """Whether the largest counters fell while smaller ones went on rising.

        In a restart the largest fall, as the smallest are the first to grow beyond their old values. A process that forgets
        idle counters keeps the largest.
        """
        return any(needed > self.went_on.get(at, math.inf) for at, needed in self.fell.items())


def source_of(labels: Mapping[str, str], namespace: str) -> Source:
    """Return the source of a series, by its labels and its namespace."""
    return source_by(namespace, *(labels.get(name, "") for name in SOURCE_LABELS))


def source_by(namespace: str, pod: str, instance: str, job: str, *replicas: str) -> Source:
    """Return a source by its namespace and the values of :data:`SOURCE_LABELS`."""
    return Source(namespace, pod or instance, next(filter(None, replicas), ""), job, instance)


def increment_of(reading: Witnesses, series: Series, index: int, reach: float, doubts: Doubts) -> float:
    """Return a counter's increment up to a sample; if it is unknown, note why in ``doubts``.

    Parameters
    ----------
    reading
        The scrapes of the series' source.
    series, index
        The counter, and the index of the sample.
    reach
        Seconds before the sample in which its predecessor must lie.
    doubts
        The doubts about the source in the sample's block.
    """
    source, times, values = series.source, series.times, series.values
    at, value = times[index], values[index]
    if index and at - times[index - 1] < reach:
        before = values[index - 1]
        if 0.0 <= value < before < _INF:
            if reading.last_counted(source, at) > times[index - 1]:
                doubts.gone(at, before)
            else:
                doubts.fell[at] = max(_CLEARLY_LARGER * before, doubts.fell.get(at, 0.0))
            return value
        if 0.0 <= before <= value < _INF:
            if reading.last_scrape(source, at) > times[index - 1]:
                forgotten = reading.last_counted(source, at) > times[index - 1]  # a scrape between brought others
                if forgotten and before <= _FEW:
                    return value
                # Or the process restarted, or the agent that relays the counters failed (Istio's then answers without them).
                more = f" that others had; {reading.keep_longer}" if forgotten and reading.keep_longer else ""
                doubts.gap = f"{reading.noun} {source.pod} was without a counter for a while{more}"
            elif before > doubts.went_on.get(at, 0.0):
                doubts.went_on[at] = before
            return value - before
    elif 0.0 <= value < _INF:
        if reading.born(source, at, reach):
            return value
        # The count of its whole life would look like one increment.
        doubts.gap = f"{reading.noun} {source.pod} is new, or was not scraped for {reach:g} s"
        return 0.0
    doubts.gap = f"a counter of {reading.noun} {source.pod} is not a number or negative"
    return 0.0
