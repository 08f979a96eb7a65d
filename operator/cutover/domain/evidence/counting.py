"""From raw counter samples to blocks, without PromQL's extrapolation.

Prometheus answers the instant query ``metric{...}[W]`` with the samples themselves, each at the time of its scrape.
The increment between two samples belongs to the block of the later sample, so every increment is in exactly one block. A
block is the same from whichever window it was cut: read live, or again after a restart (see
:mod:`cutover.domain.evidence.scrapes`). A dialect knows the names of the metrics and labels.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Self

from cutover.domain.evidence.answers import ALL_CODES, UPGRADED, Answer, Codes, answer_of
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.counters import PLACE_LABELS, Counter, CounterLabels
from cutover.domain.evidence.scrapes import (
    SOURCE_LABELS,
    Doubts,
    Result,
    Series,
    Source,
    Witnesses,
    increment_of,
    source_by,
    source_of,
)

_INF = math.inf

_labels_of_source = attrgetter("namespace", *SOURCE_LABELS, *PLACE_LABELS)
_Place = tuple[str, ...]


class Reading(Witnesses):
    """The answers to one set of range selectors: the legs' counters, and when each source was scraped.

    Only counters of scrape targets that ``up`` names count; others are refused. A counter's own labels prove nothing, as any
    process that is scraped may write them.

    Parameters
    ----------
    hint
        Why there may be no samples, for a message.

    Attributes
    ----------
    refused
        How many counters were refused, by the namespace of their target.
    """

    noun = "gateway"
    keep_longer = "if its proxy evicts idle counters (stats_eviction_interval), let it keep them for an hour"

    def __init__(self, hint: str = "") -> None:
        super().__init__()
        self._hint = hint
        self._series: dict[str, list[Series]] = {}
        self._places: dict[_Place, set[Source]] = {}  # by the values of PLACE_LABELS
        self.refused: dict[str, int] = defaultdict(int)

    @classmethod
    def of_answers(cls, presence: Result, *answers: Iterable[Counter[CounterLabels]]) -> Self:
        """Read answers that belong together.

        Raises
        ------
        KeyError, TypeError, ValueError
            As for :meth:`add_counters` and :meth:`add_presence`.
        """
        reading = cls()
        reading.add_presence(presence)
        for counters in answers:
            reading.add_counters(counters)
        return reading

    def add_counters(self, counters: Iterable[Counter[CounterLabels]]) -> None:
        """Add counters of requests, or of latency buckets, after their targets' ``up``.

        Raises
        ------
        ValueError
            If a counter has no samples, or a bound that is not a number.
        """
        sources: dict[tuple[str, ...], Source] = {}  # they are few, and have many counters each
        noted: dict[Source, tuple[float, ...]] = {}
        for counter in counters:
            labels = counter.metric
            known_by = _labels_of_source(labels)
            source = sources.get(known_by)
            if source is None:
                source = source_by(*known_by[: -len(PLACE_LABELS)])
                if source not in self._seen:
                    self.refused[source.namespace] += 1
                    continue
                sources[known_by] = source
                self._places.setdefault(known_by[-len(PLACE_LABELS) :], set()).add(source)
            times, values = zip(*counter.values, strict=True)
            bound = labels.milliseconds(labels.le) if labels.le else None
            series = Series(source, labels.code, bound, times, values)
            leg = self._series.get(labels.leg)
            if leg is None:
                leg = self._series[labels.leg] = []
            leg.append(series)
            if noted.get(source) != times:  # nearly all of a source's counters are in each of its scrapes
                noted[source] = times
                self._seen.add(source, times)
                self._counted.add(source, times)

    def add_presence(self, result: Result) -> None:
        """Add ``up``, which shows that a gateway was scraped even if it has no counters yet, or lost them.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the result is not from a range selector.
        """
        for item in result:
            labels: Mapping[str, str] = item["metric"]
            scrapes = [sample[0] for sample in item["values"] if float(sample[1]) == 1]
            self._seen.add(source_of(labels, labels.get("namespace", "")), scrapes)

    def silence(self, namespaces: Sequence[str]) -> str:
        """Return why there are no samples of the gateways of some namespaces, for a message."""
        refused = sum(self.refused.get(name, 0) for name in namespaces)
        told = ["no samples"]
        if refused:
            targets = "no up has their labels namespace, pod, job and instance"
            told.append(f"{refused} counters are of no scrape target of {', '.join(namespaces)}: {targets}")
        return "; ".join(filter(None, (*told, self._hint)))

    def in_several_places(self, sources: Iterable[Source]) -> str:
        """Return what tells sources of several clusters apart, for a message; ``""`` if they seem to be of one cluster.

        A label that some of them lack tells nothing: not every job has to have it.
        """
        if len(self._places) < 2:
            return ""  # the usual case
        wanted = set(sources)
        places = [place for place, here in self._places.items() if not here.isdisjoint(wanted)]
        if len(places) < 2:  # the others count for other plans, or in other blocks
            return ""
        for label, column in zip(PLACE_LABELS, zip(*places, strict=True), strict=True):
            if len(values := sorted(set(column) - {""})) > 1:
                return f"{label} of {', '.join(values[:-1])} and {values[-1]}"
        return ""

    def of(self, leg: str, namespaces: Sequence[str]) -> list[Series]:
        """Return the counters of a leg, by its name, at the gateways of some namespaces."""
        return [series for series in self._series.get(leg, ()) if series.source.namespace in namespaces]


class _Leg:
    """Counts of one leg by one source in one block."""

    __slots__ = ("answers", "codes", "fast", "infinite", "seen", "timed")

    def __init__(self) -> None:
        self.answers = [0.0] * len(Answer)
        self.codes: dict[str, float] = {}
        self.timed = 0.0
        self.fast = [0.0, 0.0]  # requests at or below each threshold
        self.infinite = 0  # samples of +Inf buckets
        self.seen = [0, 0]  # samples of each threshold's buckets


class _Tally(Doubts):
    """Counts of both legs by one source in one block."""

    __slots__ = ("legs",)

    def __init__(self) -> None:
        super().__init__()
        self.legs = (_Leg(), _Leg())


def cut(
    reading: Reading,
    *,
    heroku: str,
    eks: str,
    namespaces: Sequence[str],
    slow_ms: float | None,
    very_slow_ms: float | None,
    start: float,
    end: float,
    length: int,
    reach: float,
    codes: Codes = ALL_CODES,
) -> list[Block]:
    """Cut the blocks of one plan.

    Parameters
    ----------
    reading
        Samples of at least ``(start - reach, end]``.
    heroku, eks
        The name under which each leg is counted.
    namespaces
        Namespaces of the gateways whose counts are used.
    slow_ms, very_slow_ms
        Thresholds in milliseconds, which are histogram bounds. Without a threshold its count stays 0.
    start, end
        Unix seconds, a multiple of ``length`` apart.
    length
        Seconds of a block.
    reach
        Seconds before a sample in which its predecessor must lie.
    codes
        Which codes count as refused or redirected.

    Returns
    -------
    list
        The blocks from ``start`` to ``end`` without holes; unusable blocks have their reason.
    """
    legs = (reading.of(heroku, namespaces), reading.of(eks, namespaces))
    tallies: list[dict[Source, _Tally]] = [{} for _ in range(round((end - start) / length))]
    thresholds = (slow_ms, very_slow_ms)

    def tally_of(source: Source, at: float) -> _Tally:
        block = tallies[math.ceil((at - start) / length) - 1]
        tally = block.get(source)
        if tally is None:
            tally = block[source] = _Tally()
        return tally

    for which, leg in enumerate(legs):
        for series in leg:
            source, times = series.source, series.times
            answer = codes.answer_of(series.code, heroku=which == 0)
            for index in range(bisect_right(times, start), bisect_right(times, end)):
                tally = tally_of(source, times[index])
                # A request that no leg answered counts for neither leg, but its series shows that the gateway was scraped.
                if answer is not Answer.NOBODY or series.code == UPGRADED:
                    increment = increment_of(reading, series, index, reach, tally)
                    _count(tally.legs[which], series, increment, thresholds, answer)
            for before, after, value in reading.losses(series):
                if start < after <= end and after - before < reach:
                    tally_of(source, after).gone(after, value)
    return [
        _block(reading, legs, tally, thresholds, namespaces, start + n * length, start + (n + 1) * length, reach)
        for n, tally in enumerate(tallies)
    ]


def cumulative(
    reading: Reading, leg: str, namespaces: Sequence[str], *, start: float, end: float, reach: float
) -> dict[float, float]:
    """Add up a leg's latency histogram, aware of resets.

    Parameters
    ----------
    reading
        Samples of at least ``(start - reach, end]``.
    leg, namespaces
        The leg, and the namespaces of the gateways whose counts are used.
    start, end
        Unix seconds.
    reach
        As for :func:`cut`. Unknown increments are left out: the result serves to choose thresholds, not to judge.

    Returns
    -------
    dict
        Requests at or below each bound in milliseconds, rising.
    """
    by_source: dict[Source, dict[float, float]] = {}
    for series in reading.of(leg, namespaces):
        if series.bound is None or answer_of(series.code, heroku=True) is Answer.NOBODY:
            continue
        bounds = by_source.setdefault(series.source, {})
        for index in range(bisect_right(series.times, start), bisect_right(series.times, end)):
            unknown = Doubts()
            increment = increment_of(reading, series, index, reach, unknown)
            if not unknown.gap:
                bounds[series.bound] = bounds.get(series.bound, 0.0) + increment
    total: dict[float, float] = {}
    for source in _one_per_gateway(by_source):
        for bound, value in by_source[source].items():
            total[bound] = total.get(bound, 0.0) + value
    return dict(sorted(total.items()))


def _count(
    leg: _Leg, series: Series, increment: float, thresholds: tuple[float | None, float | None], answer: Answer
) -> None:
    if series.bound is None:
        leg.answers[answer] += increment
        if increment:
            leg.codes[series.code] = leg.codes.get(series.code, 0.0) + increment
    elif answer is Answer.NOBODY:
        return
    elif series.bound == _INF:
        leg.timed += increment
        leg.infinite += 1
    else:
        for which, threshold in enumerate(thresholds):
            if series.bound == threshold:
                leg.fast[which] += increment
                leg.seen[which] += 1


def _one_per_gateway(sources: Iterable[Source]) -> list[Source]:
    """Keep one source of each gateway: other replicas or jobs would count its requests twice."""
    chosen: dict[tuple[str, str], Source] = {}
    for source in sorted(sources):
        chosen.setdefault(source.gateway, source)
    return list(chosen.values())


def _block(
    reading: Reading,
    legs: tuple[list[Series], list[Series]],
    tallies: Mapping[Source, _Tally],
    thresholds: tuple[float | None, float | None],
    namespaces: Sequence[str],
    start: float,
    end: float,
    reach: float,
) -> Block:
    if not tallies:
        # A gateway that served the plan a moment ago must still have samples. If none served it, any scrape is enough.
        serving = any(start - _newest(series, start) < reach for leg in legs for series in leg)
        if serving or not _scraped(reading, namespaces, start, end):
            return Block(start, end, gap=reading.silence(namespaces))
    if found := reading.in_several_places(tallies):
        label = found.partition(" ")[0]
        gap = (
            f"the gateways that count the plan's requests have the label {found}: Prometheus has several clusters, or copies of one;"
            f" set matchers: {{{label}: …}} for this Prometheus in the operator's settings"
        )
        return Block(start, end, gap=gap, ambiguous=True)
    heroku = eks = Counts()
    codes: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for source in _one_per_gateway(tallies):
        tally = tallies[source]
        if gap := tally.gap or _inconsistent(source, tally, thresholds):
            return Block(start, end, gap=gap)
        heroku += _counts(tally.legs[0], thresholds)
        eks += _counts(tally.legs[1], thresholds)
        for mix, leg in zip(codes, tally.legs, strict=True):
            for code, count in leg.codes.items():
                mix[code] = mix.get(code, 0.0) + count
    return Block(start, end, heroku, eks, "", *codes, thresholds=thresholds)


def _inconsistent(source: Source, tally: _Tally, thresholds: tuple[float | None, float | None]) -> str:
    if tally.lost_largest:
        return f"gateway {source.pod} lost some of its counters; {Reading.keep_longer}"
    for leg in tally.legs:
        counts = _counts(leg, thresholds)
        for which, threshold in enumerate(thresholds):
            if threshold is not None and leg.seen[which] != leg.infinite:
                return f"gateway {source.pod} has no latency bucket of {threshold:g} ms"
        if counts.slow < 0 or counts.very_slow < 0 or (None not in thresholds and counts.very_slow > counts.slow):
            return f"the latency buckets of gateway {source.pod} contradict each other"
    return ""


def _counts(leg: _Leg, thresholds: tuple[float | None, float | None]) -> Counts:
    slow, very_slow = (
        0.0 if threshold is None else leg.timed - fast for threshold, fast in zip(thresholds, leg.fast, strict=True)
    )
    ok, errors, refused, redirected, throttled, excepted, _ = leg.answers
    requests = ok + errors + refused + redirected + throttled + excepted
    return Counts(requests, errors, leg.timed, slow, very_slow, refused, redirected, throttled, excepted)


def _newest(series: Series, at: float) -> float:
    index = bisect_right(series.times, at)
    return series.times[index - 1] if index else -_INF


def _scraped(reading: Reading, namespaces: Sequence[str], start: float, end: float) -> bool:
    return any(
        source.namespace in namespaces and reading.last_scrape(source, end, inclusive=True) > start
        for source in reading.sources()
    )
