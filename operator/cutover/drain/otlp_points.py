"""Counts what the data points of an OTLP export say of Heroku's router.

Names are the configuration's. A point that has a name of its and cannot be counted is refused and told as lost: its minute is
not one of record.
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from cutover.drain.counts import BOUNDS, AppCounts, Times

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric, NumberDataPoint

#: What is read of an export: its points, and its resources, scopes and metrics together; attributes of one of them; bounds.
MOST_POINTS, MOST_ENTRIES, MOST_ATTRIBUTES, MOST_BOUNDS = 4096, 4096, 64, 64
#: Cumulative series that are remembered of an app, and seconds after which one makes room that has sent nothing.
MOST_SERIES, SERIES_SECONDS = 500, 3600.0
#: Above this, numbers of protobuf's doubles have gaps.
_MOST = 2.0**53
#: Kinds of what is counted, as the metrics name them: points, and metrics under other names.
POINT, UNMAPPED = "point", "unmapped"
#: Reasons for which a point is refused.
KIND, VALUE, BUCKETS, SERIES, NUMBER = "point_kind", "point_value", "point_buckets", "point_series", "point_number"
#: The reason for which something of a cumulative series is lost: what it had before it was seen for the first time.
FIRST = "point_first"
REASONS = (KIND, VALUE, BUCKETS, SERIES, NUMBER, FIRST)

_DELTA, _CUMULATIVE = 1, 2  # AggregationTemporality
_NOTHING_RECORDED = 1  # DataPointFlags
_ERROR = re.compile(r"H\d\d")
_UNITS = {"ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Names:
    """Names of metrics and attributes; ``""`` for what there is not.

    Parameters
    ----------
    requests, service, connect, size
        Metrics: requests, both times, bytes of answers.
    code, error
        Attributes: the status, Heroku's code.
    resource
        Attributes that a resource needs to have.
    milliseconds
        Milliseconds in the unit of times whose metric has no unit that is known; ``None`` where such are refused.
    """

    requests: str
    code: str
    service: str = ""
    connect: str = ""
    size: str = ""
    error: str = ""
    resource: Mapping[str, str] = field(default_factory=dict)
    milliseconds: float | None = None


class Refused(Exception):
    """A point cannot be counted."""


@dataclass(slots=True)
class _Seen:
    start: int
    time: int
    values: tuple[float, ...]
    at: float


class Totals:
    """What an app's cumulative series were at last, so that only what is new is counted.

    Parameters
    ----------
    began
        Nanoseconds since 1970 at which the counting began.
    """

    def __init__(self, began: int) -> None:
        self._began = began
        self._series: OrderedDict[bytes, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._series)

    def new(
        self, series: bytes, start: int, time: int, values: tuple[float, ...], at: float
    ) -> tuple[float, ...] | None:
        """Return what is new in a series; ``None`` where that is not known, as the series was there before the counting began.

        What comes again, or late, is nothing new. Raises Refused where there are too many series.

        Parameters
        ----------
        series
            What the series is known by.
        start, time
            Nanoseconds since 1970: since when its values count, and when they were so.
        values
            The values; a lower one than before begins anew.
        at
            Seconds of a monotonic clock.
        """
        seen = self._series.get(series)
        before: tuple[float, ...] | None
        if seen is None:
            self._make_room(at)
            before = (0.0,) * len(values) if start >= self._began else None
        elif time <= seen.time or start < seen.start:
            return (0.0,) * len(values)
        elif start > seen.start or any(new < old for new, old in zip(values, seen.values, strict=True)):
            before = (0.0,) * len(values)
        else:
            before = seen.values
        self._series[series] = _Seen(start, time, values, at)
        self._series.move_to_end(series)
        return tuple(new - old for new, old in zip(values, before, strict=True)) if before is not None else None

    def _make_room(self, at: float) -> None:
        if len(self._series) >= MOST_SERIES:
            oldest = next(iter(self._series))
            if at - self._series[oldest].at <= SERIES_SECONDS:
                raise Refused(SERIES)
            del self._series[oldest]


@dataclass(slots=True)
class Counted:
    """What became of an export's points.

    Parameters
    ----------
    points
        Points that were counted.
    refused
        Points that were refused.
    newest
        Nanoseconds since 1970 of the newest point; 0 without any.
    """

    points: int = 0
    refused: int = 0
    newest: int = 0


def count_export(
    export: ExportMetricsServiceRequest, names: Names, counts: AppCounts, totals: Totals, at: float
) -> Counted:
    """Count an export's points.

    Parameters
    ----------
    export
        What was sent.
    names
        Which of it is the router's.
    counts, totals
        Those of the app.
    at
        When it came, in seconds of a monotonic clock.
    """
    found = Counted()
    for number, (source, metric) in enumerate(_metrics(export, names)):
        if number == MOST_ENTRIES:
            _refuse(counts, found, NUMBER, 1)
            break
        if metric is None:
            continue
        name = metric.name
        if source is not None and name and name in (names.requests, names.service, names.connect, names.size):
            scale = _UNITS.get(metric.unit, names.milliseconds)
            _count_metric(metric, _Context(name, scale, source, names, counts, totals, at), found)
        else:
            counts.lines[UNMAPPED] = counts.lines.get(UNMAPPED, 0) + 1
    return found


def _metrics(export: ExportMetricsServiceRequest, names: Names) -> Iterator[tuple[bytes | None, Metric | None]]:
    """Yield the metrics, with what they are from; ``None`` in its place where that is not the router.

    Resources and scopes are work, too, and yielded without a metric. Each is read once, as it may be large and have many.
    """
    for resource in export.resource_metrics:
        yield None, None
        # An app's own metrics come the same way, and may have the same names.
        is_router = names.resource.items() <= _texts(resource.resource.attributes, names.resource).items()
        whose = _digest(resource.resource.SerializeToString(deterministic=True))
        for scope in resource.scope_metrics:
            yield None, None
            source = _digest(whose, scope.scope.SerializeToString(deterministic=True))
            for metric in scope.metrics:
                yield source if is_router else None, metric


@dataclass(frozen=True, slots=True)
class _Context:
    """What a metric's points have in common."""

    name: str
    scale: float | None
    source: bytes
    names: Names
    counts: AppCounts
    totals: Totals
    at: float


def _refuse(counts: AppCounts, found: Counted, reason: str, number: int) -> None:
    found.refused += number
    counts.add_dropped(reason, number)


def _count_metric(metric: Metric, context: _Context, found: Counted) -> None:
    kind = metric.WhichOneof("data")
    points: Sequence[NumberDataPoint | HistogramDataPoint]
    if kind == "sum" and metric.sum.is_monotonic:
        points, temporality = metric.sum.data_points, metric.sum.aggregation_temporality
    elif kind == "histogram":
        points, temporality = metric.histogram.data_points, metric.histogram.aggregation_temporality
    else:
        _refuse(context.counts, found, KIND, max(1, len(getattr(metric, kind).data_points)) if kind else 1)
        return
    times = context.name in (context.names.service, context.names.connect)
    if temporality not in (_DELTA, _CUMULATIVE) or (times and kind == "sum"):
        _refuse(context.counts, found, KIND, max(1, len(points)))
        return
    room = MOST_POINTS - found.points - found.refused
    for point in islice(points, max(0, room)):
        if point.flags & _NOTHING_RECORDED:
            continue
        try:
            _count_point(point, context, is_sum=kind == "sum", cumulative=temporality == _CUMULATIVE)
        except Refused as refused:
            _refuse(context.counts, found, str(refused), 1)
        else:
            found.points += 1
            found.newest = max(found.newest, point.time_unix_nano)
            context.counts.lines[POINT] = context.counts.lines.get(POINT, 0) + 1
    if len(points) > room:
        _refuse(context.counts, found, NUMBER, len(points) - max(0, room))


def _count_point(
    point: NumberDataPoint | HistogramDataPoint, context: _Context, *, is_sum: bool, cumulative: bool
) -> None:
    """Count a point, for all that its metric stands for. Raises Refused; what has no place are its times only, at most."""
    name, names, counts = context.name, context.names, context.counts
    if not point.time_unix_nano > 0 or point.start_time_unix_nano > point.time_unix_nano:
        raise Refused(VALUE)
    attributes = _texts(point.attributes, (names.code, names.error))
    code, error = _code(attributes.get(names.code, ""), attributes.get(names.error, ""))
    values = (_number(point),) if is_sum else _histogram(point)
    bounds = () if is_sum else tuple(point.explicit_bounds)
    timed = [times for of, times in ((names.service, counts.service), (names.connect, counts.connect)) if of == name]
    fitted = _Fitted.of(bounds, context.scale) if timed else None
    if fitted is None and timed and name not in (names.requests, names.size):
        raise Refused(BUCKETS)
    if cumulative:
        series = _series(context, bounds, point.attributes)
        new = context.totals.new(series, point.start_time_unix_nano, point.time_unix_nano, values, context.at)
        if new is None:
            counts.add_dropped(FIRST, 1)
            return
        values = new
    if name == names.requests:
        counts.count_requests(code, error, int(values[0]))
    if name == names.size:
        counts.answered += int(values[0] if is_sum else values[1])
    if timed and counts.is_timed(code):
        if fitted is None:
            raise Refused(BUCKETS)
        for times in timed:
            fitted.add(times, values)


def _number(point: NumberDataPoint) -> float:
    value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
    if point.WhichOneof("value") is None or not 0 <= value <= _MOST:
        raise Refused(VALUE)
    return float(value)


def _histogram(point: HistogramDataPoint) -> tuple[float, ...]:
    """Return count, sum and buckets."""
    bounds, buckets = point.explicit_bounds, point.bucket_counts
    if len(bounds) > MOST_BOUNDS or len(buckets) != (len(bounds) + 1 if bounds or buckets else 0):
        raise Refused(BUCKETS)
    rises = all(low < high for low, high in zip(bounds, islice(bounds, 1, None), strict=False))
    if not rises or not all(map(math.isfinite, bounds)):
        raise Refused(BUCKETS)
    if not 0 <= point.count <= _MOST or (buckets and sum(buckets) != point.count):
        raise Refused(VALUE)
    # Without a sum there are negative values, which no time and no size has.
    if not point.HasField("sum") or not 0 <= point.sum <= _MOST:
        raise Refused(VALUE)
    return (float(point.count), point.sum, *map(float, buckets))


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Where a histogram's buckets are in ours.

    Parameters
    ----------
    places
        For each of its buckets, the first of ours whose bound is no lower.
    shared
        Our bounds that it has, by their places. What is up to another one is not known.
    scale
        Milliseconds in its unit.
    """

    places: tuple[int, ...]
    shared: frozenset[int]
    scale: float

    @classmethod
    def of(cls, bounds: Iterable[float], scale: float | None) -> _Fitted | None:
        if scale is None:
            return None
        places, shared = list[int](), set[int]()
        for bound in bounds:
            value = round(bound * scale, 6)
            place = bisect_left(BOUNDS, value)
            places.append(place)
            if place < len(BOUNDS) and BOUNDS[place] == value:
                shared.add(place)
        if not shared:
            return None
        return cls((*places, len(BOUNDS)), frozenset(shared), scale)

    def add(self, times: Times, values: tuple[float, ...]) -> None:
        _, total, *buckets = values
        times.add_many(zip(self.places, map(int, buckets), strict=True), total * self.scale, self.shared)


def _code(code: str, error: str) -> tuple[str, str]:
    error = error if _ERROR.fullmatch(error) else ""
    if not code and error:
        return "503", error  # as of lines of the log
    if not (len(code) == 3 and code.isascii() and code.isdigit() and "100" <= code <= "599"):
        raise Refused(VALUE)
    return code, error


def _texts(attributes: Sequence[KeyValue], names: Iterable[str]) -> dict[str, str]:
    """Return those of the first attributes that have these names, as texts."""
    wanted = set(names) - {""}
    return {
        one.key: one.value.string_value
        if one.value.WhichOneof("value") == "string_value"
        else str(one.value.int_value)
        for one in islice(attributes, MOST_ATTRIBUTES)
        if one.key in wanted and one.value.WhichOneof("value") in ("string_value", "int_value")
    }


def _series(context: _Context, bounds: tuple[float, ...], attributes: Sequence[KeyValue]) -> bytes:
    """Return what a series is known by. Raises Refused where it has too many attributes."""
    if len(attributes) > MOST_ATTRIBUTES:
        raise Refused(VALUE)
    parts = sorted(one.SerializeToString(deterministic=True) for one in attributes)
    return _digest(context.source, context.name.encode(), repr(bounds).encode(), *parts)


def _digest(*parts: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.digest()
