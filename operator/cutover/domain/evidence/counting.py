"""From raw counter samples to blocks, without PromQL's extrapolation.

Prometheus answers the instant query ``metric{...}[W]`` with the samples themselves, each at the time of its scrape.
What a counter did between two samples belongs to the block in which the later one lies, so that every increment is
in exactly one block. Each sample is compared with what was known in the *reach* before it (some scrape intervals) and with
nothing else. A block is therefore the same whichever window it was cut from: read live, or again after a restart.

Formats: https://prometheus.io/docs/prometheus/latest/querying/api/#range-vectors and
https://istio.io/latest/docs/reference/config/metrics/ for the labels.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple, Self

from msgspec import Struct, convert

from cutover.domain.evidence.blocks import Block, Counts

#: ``data.result`` of Prometheus' HTTP API: one mapping with ``metric`` and ``values`` (or ``value``) per series.
Result = Sequence[Mapping[str, Any]]

#: A scrape may be missed, and may be late; two missed in a row make the next increment unusable.
REACH_IN_SCRAPES = 2.5

_HEROKU_ROUTING_FAULTS = frozenset({"421", "495"})
_CLIENT_GONE = "0"
#: In the order of :func:`_source`: what tells who counted, beside the namespace.
_SOURCE_LABELS = ("pod", "instance", "job", "prometheus_replica", "replica", "__replica__")
_INF = math.inf


class Source(NamedTuple):
    """Who counted, and by which scrape of it we know.

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


class CounterLabels(Struct, frozen=True, gc=False):
    """The labels of a gateway's counter that matter, of some thirty; ``""`` where it has none of that name."""

    destination_service: str
    source_workload_namespace: str = ""
    response_code: str = ""
    le: str = ""
    pod: str = ""
    instance: str = ""
    job: str = ""
    prometheus_replica: str = ""
    replica: str = ""
    __replica__: str = ""


_labels_of_source = attrgetter("source_workload_namespace", *_SOURCE_LABELS)


class Counter(Struct, frozen=True, gc=False):
    """A gateway's counter as Prometheus gives it, with the time in Unix seconds and the value of each sample.

    The client decodes answers straight into these, without what is not named here. None can be in a reference cycle, so
    the garbage collector need not look at the tens of thousands of a tick (``gc``).
    """

    metric: CounterLabels
    values: list[tuple[float, float]]

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self:
        """Read one series of a `Result`. Raises KeyError, TypeError, ValueError if it is not of a range selector."""
        samples = [(float(at), float(value)) for at, value in item["values"]]
        return cls(convert(item["metric"], CounterLabels), samples)


class Series(Struct, frozen=True, gc=False):
    """One counter: of requests with a response code (``bound`` is None), or of a latency bucket in milliseconds."""

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
        """Note some times, in any order."""
        self._times.setdefault(source, set()).update(times)
        self._sorted.pop(source, None)

    def of(self, source: Source) -> list[float]:
        """Return a source's times, rising."""
        times = self._sorted.get(source)
        if times is None:
            times = self._sorted[source] = sorted(self._times.get(source, ()))
        return times

    def last(self, source: Source, before: float, *, inclusive: bool = False) -> float:
        """Return a source's newest time before another, or minus infinity."""
        times = self.of(source)
        index = bisect_right(times, before) if inclusive else bisect_left(times, before)
        return times[index - 1] if index else -_INF

    def __iter__(self) -> Iterator[Source]:
        return iter(self._times)


class Witnesses:
    """When each source was scraped, and whether that brought a counter."""

    #: What people call a source.
    noun = "target"

    def __init__(self) -> None:
        self._seen = Scrapes()  # scrapes that succeeded
        self._counted = Scrapes()  # those of them that brought a counter

    def sources(self) -> Iterable[Source]:
        """Return all sources."""
        return self._seen

    def counting(self) -> Iterable[Source]:
        """Return the sources that brought a counter."""
        return self._counted

    def last_scrape(self, source: Source, before: float, *, inclusive: bool = False) -> float:
        """Return the time of the source's newest scrape before a time, or minus infinity."""
        return self._seen.last(source, before, inclusive=inclusive)

    def born(self, source: Source, at: float, reach: float) -> bool:
        """Tell whether a counter that is new at a time began at 0: its source was scraped shortly before without it.

        ``up`` is not enough: an agent in trouble is up. Some counters must have been there, and not this one.
        """
        return at - self._counted.last(source, at) < reach

    def losses(self, series: Series) -> Sequence[tuple[float, float]]:
        """Return when a counter was scraped last, and when its source was scraped without it."""
        scrapes = self._counted.of(series.source)
        if len(series.times) == len(scrapes):
            return ()
        had = set(series.times)
        return [(before, after) for before, after in pairwise(scrapes) if before in had and after not in had]


class Reading(Witnesses):
    """What one set of range selectors returned: the legs' counters, and when each source was scraped."""

    noun = "gateway"

    def __init__(self) -> None:
        super().__init__()
        self._series: dict[str, list[Series]] = {}

    @classmethod
    def of_answers(cls, presence: Result, *answers: Iterable[Counter]) -> Self:
        """Read the answers that belong together.

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

    def add_counters(self, counters: Iterable[Counter]) -> None:
        """Take ``istio_requests_total`` or ``istio_request_duration_milliseconds_bucket``.

        Raises
        ------
        ValueError
            If one has no samples, or a bound that is not a number.
        """
        sources: dict[tuple[str, ...], Source] = {}
        noted: dict[Source, tuple[float, ...]] = {}
        for counter in counters:
            labels = counter.metric
            known_by = _labels_of_source(labels)
            source = sources.get(known_by)
            if source is None:  # they are few, and of many counters each
                source = sources[known_by] = _source(*known_by)
            times, values = zip(*counter.values, strict=True)
            series = Series(source, labels.response_code, float(labels.le) if labels.le else None, times, values)
            leg = self._series.get(labels.destination_service)
            if leg is None:
                leg = self._series[labels.destination_service] = []
            leg.append(series)
            if noted.get(source) != times:  # nearly all of a source's counters are in each of its scrapes
                noted[source] = times
                self._seen.add(source, times)
                self._counted.add(source, times)

    def add_presence(self, result: Result) -> None:
        """Take ``up``: it tells that a gateway was scraped which has not served anything yet, or lacks its counters.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not the result of a range selector.
        """
        for item in result:
            labels: Mapping[str, str] = item["metric"]
            scrapes = [sample[0] for sample in item["values"] if float(sample[1]) == 1]
            self._seen.add(source_of(labels, labels.get("namespace", "")), scrapes)

    def of(self, destination: str, namespaces: Sequence[str]) -> list[Series]:
        """Return the counters of a ``destination_service`` at the gateways of some namespaces."""
        return [series for series in self._series.get(destination, ()) if series.source.namespace in namespaces]


class _Leg:
    """What one source counted of one leg in one block."""

    __slots__ = ("errors", "fast", "infinite", "requests", "seen", "timed")

    def __init__(self) -> None:
        self.requests = self.errors = self.timed = 0.0
        self.fast = [0.0, 0.0]  # requests at or below each threshold
        self.infinite = 0  # samples of +Inf buckets
        self.seen = [0, 0]  # samples of each threshold's buckets


class Doubts:
    """Why one source's increments in one block cannot be known, if so.

    A process loses all its counters at once. Where some fell and others did not, nobody knows where those began.
    """

    __slots__ = ("continued", "dropped", "gap")

    def __init__(self) -> None:
        self.gap = ""
        self.dropped: set[float] = set()
        self.continued: set[float] = set()

    @property
    def lost_some(self) -> bool:
        """Whether some counters fell while others went on."""
        return not self.dropped.isdisjoint(self.continued)


class _Tally(Doubts):
    """What one source counted in one block."""

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
) -> list[Block]:
    """Cut the blocks of one plan.

    Parameters
    ----------
    reading
        Samples of at least ``(start - reach, end]``.
    heroku, eks
        ``destination_service`` of each leg.
    namespaces
        Namespaces of the gateways whose view counts.
    slow_ms, very_slow_ms
        Thresholds that are histogram bounds, in milliseconds. Where one is None its count stays 0.
    start, end
        Unix seconds, a multiple of ``length`` apart.
    length
        Seconds of a block.
    reach
        Seconds before a sample in which its predecessor must lie.

    Returns
    -------
    list
        One block after the other, from ``start`` to ``end``, unusable ones with their reason.
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
            for index in range(bisect_right(times, start), bisect_right(times, end)):
                tally = tally_of(source, times[index])
                # A client that went away is in neither leg, but its series still shows that the gateway was scraped.
                if series.code != _CLIENT_GONE:
                    increment = increment_of(reading, series, index, reach, tally)
                    _count(tally.legs[which], series, increment, thresholds, heroku=which == 0)
            for before, after in reading.losses(series):
                if start < after <= end and after - before < reach:
                    tally_of(source, after).dropped.add(after)
    return [
        _block(reading, legs, tally, thresholds, namespaces, start + n * length, start + (n + 1) * length, reach)
        for n, tally in enumerate(tallies)
    ]


def cumulative(
    reading: Reading, destination: str, namespaces: Sequence[str], *, start: float, end: float, reach: float
) -> dict[float, float]:
    """Add up a leg's latency histogram, aware of resets.

    Parameters
    ----------
    reading
        Samples of at least ``(start - reach, end]``.
    destination, namespaces
        Whose histogram, seen by which gateways.
    start, end
        Unix seconds.
    reach
        As for :func:`cut`. Increments that cannot be known are left out: this serves to choose thresholds, not to judge.

    Returns
    -------
    dict
        Requests at or below each bound in milliseconds, rising.
    """
    by_source: dict[Source, dict[float, float]] = {}
    for series in reading.of(destination, namespaces):
        if series.bound is None or series.code == _CLIENT_GONE:
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


def source_of(labels: Mapping[str, str], namespace: str) -> Source:
    """Return who counted, by the labels of a series and the namespace that it is in."""
    return _source(namespace, *(labels.get(name, "") for name in _SOURCE_LABELS))


def _source(namespace: str, pod: str, instance: str, job: str, *replicas: str) -> Source:
    return Source(namespace, pod or instance, next(filter(None, replicas), ""), job, instance)


def increment_of(reading: Witnesses, series: Series, index: int, reach: float, doubts: Doubts) -> float:
    """Return what a counter did up to a sample, and note why that cannot be known.

    Parameters
    ----------
    reading
        Scrapes of the series' source.
    series, index
        The counter, and which of its samples.
    reach
        Seconds before the sample in which its predecessor must lie.
    doubts
        Of the source in the sample's block.
    """
    source, times, values = series.source, series.times, series.values
    at, value = times[index], values[index]
    if index and at - times[index - 1] < reach:
        before = values[index - 1]
        if 0.0 <= value < before < _INF:
            doubts.dropped.add(at)
            return value
        if 0.0 <= before <= value < _INF:
            if reading.last_scrape(source, at) > times[index - 1]:
                # It began anew, or what relays the counters was in trouble (Istio's agent then answers without them).
                doubts.gap = f"{reading.noun} {source.pod} was without a counter for a while"
            elif before:
                doubts.continued.add(at)
            return value - before
    elif 0.0 <= value < _INF:
        if reading.born(source, at, reach):
            return value
        # Its whole life would look like one increment.
        doubts.gap = f"{reading.noun} {source.pod} is new, or was not scraped for {reach:g} s"
        return 0.0
    doubts.gap = f"a counter of {reading.noun} {source.pod} is not a number or negative"
    return 0.0


def _count(
    leg: _Leg, series: Series, increment: float, thresholds: tuple[float | None, float | None], *, heroku: bool
) -> None:
    if series.bound is None:
        leg.requests += increment
        if series.code.startswith("5") or (heroku and series.code in _HEROKU_ROUTING_FAULTS):
            leg.errors += increment
    elif series.bound == _INF:
        leg.timed += increment
        leg.infinite += 1
    else:
        for which, threshold in enumerate(thresholds):
            if series.bound == threshold:
                leg.fast[which] += increment
                leg.seen[which] += 1


def _one_per_gateway(sources: Iterable[Source]) -> list[Source]:
    """Leave out what other replicas or jobs know of the same gateway: it would count requests twice."""
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
        # Gateways that served the plan a moment ago must still be there; if none did, any will do.
        serving = any(start - _newest(series, start) < reach for leg in legs for series in leg)
        if serving or not _scraped(reading, namespaces, start, end):
            return Block(start, end, gap="no samples")
    heroku = eks = Counts()
    for source in _one_per_gateway(tallies):
        tally = tallies[source]
        if gap := tally.gap or _inconsistent(source, tally, thresholds):
            return Block(start, end, gap=gap)
        heroku += _counts(tally.legs[0], thresholds)
        eks += _counts(tally.legs[1], thresholds)
    return Block(start, end, heroku, eks)


def _inconsistent(source: Source, tally: _Tally, thresholds: tuple[float | None, float | None]) -> str:
    if tally.lost_some:
        return f"gateway {source.pod} lost some of its counters"
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
    return Counts(leg.requests, leg.errors, leg.timed, slow, very_slow)


def _newest(series: Series, at: float) -> float:
    index = bisect_right(series.times, at)
    return series.times[index - 1] if index else -_INF


def _scraped(reading: Reading, namespaces: Sequence[str], start: float, end: float) -> bool:
    return any(
        source.namespace in namespaces and reading.last_scrape(source, end, inclusive=True) > start
        for source in reading.sources()
    )


def milliseconds(seconds: float) -> str:
    """Return a PromQL duration that is not shorter than a time."""
    return f"{math.ceil(seconds * 1000)}ms"


def matcher(label: str, values: Iterable[str]) -> str:
    r"""Return the PromQL matcher for a label that has one of some values.

    Each is escaped as RE2 (as Go's ``regexp.QuoteMeta`` does) and then as a PromQL string, so that no value can
    end the string or match more than itself. ``matcher("pod", ["a.b"])`` is ``pod=~"a\\.b"``.
    """
    pattern = "|".join(_quote_meta(value) for value in sorted(set(values)))
    return f"{label}=~{_quote(pattern)}"


def bounds_matcher(bounds: Iterable[float]) -> str:
    """Return the matcher for the ``le`` of some bounds in milliseconds and of all requests (``+Inf``).

    The same bound is written ``3600000`` by Envoy, and ``3.6e+06`` or ``3600000.0`` by Prometheus 3, which normalises it:
    https://prometheus.io/docs/prometheus/latest/migration/#le-and-quantile-label-values
    """
    spellings = {"+Inf"}
    for bound in bounds:
        spellings |= {f"{bound:g}", repr(float(bound))}
        if bound == int(bound):
            spellings.add(str(int(bound)))
    return matcher("le", spellings)


def _quote_meta(value: str) -> str:
    return "".join("\\" + character if character in r"\.+*?()|[]{}^$" else character for character in value)


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
