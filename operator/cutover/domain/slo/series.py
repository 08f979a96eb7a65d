"""Counts of a custom SLO's plain counter selectors.

They are read as raw samples and counted like the gateways' counters (see :mod:`cutover.domain.evidence.counting`): every
increment between two samples is in the block of the later sample, and only samples within the *reach* before a sample matter.
Any other expression is in :mod:`cutover.domain.slo.expressions`.

The differences from the gateways' counters are there because any process may count here:

- Each leg has its own scrape targets. If a leg's scrape targets had samples a moment ago and have none now, the block is
  unusable.
- A new counter counts from 0 even if only ``up`` shows that its scrape target was scraped before, because a pod that has
  served nothing yet has no counter. The exception is a scrape target that had counters within `MEMORY_SECONDS`: then the
  relay of the counters failed, and the count of a lifetime would come back as one increment.
- If several jobs or Prometheus replicas scrape one pod, one source is used all the time, not whichever has a sample. If it
  missed a scrape that another source made, or another source takes over, the block is not judged: their samples have
  different times, and a switch between them would double or lose the increment in between.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from cutover.domain.evidence.scrapes import Doubts, Result, Scrapes, Series, Source, Witnesses, increment_of, source_of
from cutover.domain.evidence.selectors import matcher
from cutover.domain.slo.ratio import Count

#: Seconds within which counters that come back at a scrape target are not new.
MEMORY_SECONDS = 3600.0

#: Prometheus looks up to 256 alternatives of a matcher up by index; this stays below.
_MOST_INSTANCES = 200

#: Namespace and pod of a process that counts.
Process = tuple[str, str]


class SeriesReading(Witnesses):
    """The answers to the plain selectors among a ratio's four queries, and when their sources were scraped.

    Attributes
    ----------
    unproven
        Whether there is a new counter at a scrape target of which only ``up`` is known; `add_past` decides it.
    samples
        Samples that were added by `add_selector`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unproven = False
        self.samples = 0
        self._series: dict[int, list[Series]] = {}
        self._counted_by: dict[int, Scrapes] = {}
        self._past: Scrapes | None = None

    def add_selector(self, query: int, result: Result) -> None:
        """Add the samples of one query, by its index.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the result is not from a range selector.
        """
        series = self._series.setdefault(query, [])
        counted = self._counted_by.setdefault(query, Scrapes())
        for item in result:
            source = _source(item["metric"])
            times = array("d", (float(sample[0]) for sample in item["values"]))
            values = array("d", (float(sample[1]) for sample in item["values"]))
            series.append(Series(source, "", None, times, values))
            self.samples += len(times)
            counted.add(source, times)
            self._counted.add(source, times)
            self._seen.add(source, times)

    def presence_query(self) -> str:
        """Return the selector of ``up`` for all scrape targets; ``""`` if none has both job and instance."""
        targets = [source for source in self._seen if source.job and source.instance]
        if not targets:
            return ""
        matchers = [matcher("job", {source.job for source in targets})]
        instances = {source.instance for source in targets}
        if len(instances) <= _MOST_INSTANCES:
            matchers.append(matcher("instance", instances))
        return "up{" + ",".join(matchers) + "}"

    def add_presence(self, result: Result) -> None:
        """Add ``up``, after the counters. It is matched by job and instance only, as a metric may have other pod labels.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the result is not from a range selector.
        """
        sources: dict[tuple[str, ...], list[Source]] = {}
        for source in self._seen:
            sources.setdefault(source[2:], []).append(source)
        for item in result:
            scrapes = [float(sample[0]) for sample in item["values"] if float(sample[1]) == 1]
            for source in sources.get(_source(item["metric"])[2:], ()):
                self._seen.add(source, scrapes)

    def add_past(self, result: Result) -> None:
        """Add the answer of one selector for the `MEMORY_SECONDS` before.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the result is not from a range selector.
        """
        self._past = self._past or Scrapes()
        self.unproven = False
        for item in result:
            # Of a source only its newest sample counts.
            self._past.add(_source(item["metric"]), [max(float(sample[0]) for sample in item["values"])])

    def born(self, source: Source, at: float, reach: float) -> bool:
        """Tell whether a counter that is new at a time began at 0."""
        if super().born(source, at, reach):
            return True
        if at - self.last_scrape(source, at) >= reach:
            return False
        if self._past is None:
            self.unproven = True
            return False
        known = max(self._past.last(source, at), self._counted.last(source, at))
        return at - known >= MEMORY_SECONDS

    def queries(self) -> Mapping[int, Sequence[Series]]:
        """Return the counters of each query."""
        return self._series

    def processes(self, query: int) -> dict[Process, list[Source]]:
        """Return the sources of each process that counts for a query, in a fixed order."""
        found: dict[Process, list[Source]] = {}
        for source in sorted(self._counted_by[query]):
            found.setdefault(source.gateway, []).append(source)
        return found

    def last_count(self, query: int, source: Source, at: float) -> float:
        """Return the time of a source's newest sample for a query up to a time, or minus infinity."""
        return self._counted_by[query].last(source, at, inclusive=True)

    def newest(self, at: float) -> dict[Source, float]:
        """Return the time of each source's newest sample up to a time."""
        return {source: self._counted.last(source, at, inclusive=True) for source in self._counted}


class _Tally(Doubts):
    """Counts of one source in one block, by query."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[int, float] = {}


def count(reading: SeriesReading, *, start: float, end: float, length: int, reach: float) -> dict[int, list[Count]]:
    """Count the increments of plain selectors.

    Parameters
    ----------
    reading
        Samples of at least ``(start - reach, end]``.
    start, end
        Unix seconds, a multiple of ``length`` apart.
    length
        Seconds of a block.
    reach
        Seconds before a sample in which its predecessor must lie.

    Returns
    -------
    dict
        One count for each block, by query. If a leg has no samples, the count of its total says so.
    """
    blocks = round((end - start) / length)
    tallies: list[dict[Source, _Tally]] = [{} for _ in range(blocks)]

    def tally_of(source: Source, at: float) -> _Tally:
        return tallies[math.ceil((at - start) / length) - 1].setdefault(source, _Tally())

    for query, counters in reading.queries().items():
        for series in counters:
            for index in range(bisect_right(series.times, start), bisect_right(series.times, end)):
                tally = tally_of(series.source, series.times[index])
                increment = increment_of(reading, series, index, reach, tally)
                tally.counts[query] = tally.counts.get(query, 0.0) + increment
            for before, after, value in reading.losses(series):
                if start < after <= end and after - before < reach:
                    tally_of(series.source, after).gone(after, value)

    columns: dict[int, list[Count]] = {query: [] for query in reading.queries()}
    processes = {query: reading.processes(query) for query in columns}
    for number, tally_by_source in enumerate(tallies):
        opens = start + number * length
        silent = _silent(reading, processes, opens, opens + length, reach)
        for query, column in columns.items():
            if query in silent:
                column.append(Count(0.0, "no samples"))
            else:
                column.append(_of_block(reading, query, processes, tally_by_source, opens, opens + length, reach))
    return columns


_Processes = Mapping[int, Mapping[Process, Sequence[Source]]]


def _of_block(
    reading: SeriesReading,
    query: int,
    processes: _Processes,
    tallies: Mapping[Source, _Tally],
    start: float,
    end: float,
    reach: float,
) -> Count:
    value = 0.0
    for process, sources in processes[query].items():
        before, after = (_used_source(reading, query, processes, process, at, reach) for at in (start, end))
        source = after or before
        if source is None:
            continue
        if before not in (None, source):
            return Count(0.0, f"{reading.noun} {source.pod} was scraped by another job or Prometheus before")
        tally = tallies.get(source)
        if tally is None:
            # Samples of another source are not counted, but they show that this source missed something.
            if any(reading.last_count(query, other, end) > start for other in sources):
                return Count(
                    0.0, f"{reading.noun} {source.pod} was not scraped by job {source.job}, but by another one"
                )
            continue
        if tally.gap:
            return Count(0.0, tally.gap)
        # Without an instance it is not one process: its parts restart one by one.
        if tally.lost_some and source.pod:
            return Count(0.0, f"{reading.noun} {source.pod} lost some of its counters")
        value += tally.counts.get(query, 0.0)
    return Count(value)


def _used_source(
    reading: SeriesReading, query: int, processes: _Processes, process: Process, at: float, reach: float
) -> Source | None:
    """Return the source that is used for a process: the first with a sample within reach.

    The source of the leg's total is used for the leg's other query too, even if it does not have that counter yet.
    Otherwise the first failure would be counted by one source, and all events by another. The exception is a query that
    other scrape targets answer.
    """

    def recent(number: int, source: Source) -> bool:
        return at - reading.last_count(number, source, at) < reach

    first = next((source for source in processes[query][process] if recent(query, source)), None)
    total = query | 1
    if total in processes and (first is None or recent(total, first)):
        of_total = processes[total].get(process, ())
        return next((source for source in of_total if recent(total, source)), first)
    return first


def _silent(reading: SeriesReading, processes: _Processes, start: float, end: float, reach: float) -> list[int]:
    """Return the queries of totals whose leg should have samples in a block, but has none.

    A leg that never served, or whose pods ended a while ago, is empty. Such a block is judged if the other leg shows that
    Prometheus scrapes.
    """
    serving, heard = [False, False], [True, True]
    for leg, query in enumerate((1, 3)):
        if query not in processes:
            continue  # an expression, whose missing value is found elsewhere
        heard[leg] = False
        for sources in processes[query].values():
            for source in sources:
                recent = start - reading.last_count(query, source, start) < reach
                serving[leg] |= recent
                heard[leg] |= reading.last_count(query, source, end) > start
                heard[leg] |= recent and reading.last_scrape(source, end, inclusive=True) > start
    return [
        2 * leg + 1
        for leg in (0, 1)
        if 2 * leg + 1 in processes and not heard[leg] and (serving[leg] or not heard[1 - leg])
    ]


def _source(labels: Mapping[str, str]) -> Source:
    # A Thanos may have equal pod names from two clusters.
    return source_of(labels, "/".join(filter(None, (labels.get("cluster"), labels.get("namespace")))))
