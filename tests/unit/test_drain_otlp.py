"""OTLP: what Fir's router says of its requests, by names that are configured; what is refused; and nothing mixes apps."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import math
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from tests.kit.drain_process import PASSWORD, TOKEN, TOKENS, USER, drains_file
from tests.kit.logplex import Answer, head, read_answer

from cutover.drain import otlp_points
from cutover.drain.access import AccessFile
from cutover.drain.counts import BOUNDS
from cutover.drain.exposition import Exposition
from cutover.drain.frames import Record
from cutover.drain.main import DrainSettings
from cutover.drain.otlp_body import (
    JSON,
    MOST_INFLATED,
    MOST_JSON,
    PROTOBUF,
    BrokenBody,
    LargeBody,
    read_export,
)
from cutover.drain.otlp_names import OtlpNames
from cutover.drain.otlp_points import MOST_ENTRIES, MOST_POINTS, MOST_SERIES, SERIES_SECONDS, Names
from cutover.drain.server import Port, Receiver
from cutover.settings import SettingsError
from cutover.settings.variables import read_variables

NAMES = Names(
    requests="router.requests",
    service="router.service",
    connect="router.connect",
    size="router.bytes",
    code="status",
    error="code",
    resource={"service.name": "router"},
)
BEGAN = 1_000_000
SECOND = 10**9
DELTA, CUMULATIVE = "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"
APP = "acme-pdf"


def number(value: float) -> object:
    """Return a number as JSON of protobuf has it."""
    return value if math.isfinite(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")


def attributes(**values: object) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", bool: "boolValue", float: "doubleValue"}
    return [{"key": name.replace("_", "."), "value": {kinds[type(value)]: value}} for name, value in values.items()]


def point(value: float = 1, *, start: int = BEGAN, at: int = BEGAN + 60, **labels: object) -> dict[str, Any]:
    kind = "asInt" if isinstance(value, int) else "asDouble"
    return {
        "attributes": attributes(**{"status": "200", **labels}),
        "startTimeUnixNano": start * SECOND,
        "timeUnixNano": at * SECOND,
        kind: number(value),
    }


def times(bounds: Sequence[float], buckets: Sequence[int], total: float | None = 1.0, **more: Any) -> dict[str, Any]:
    one = point(**more)
    del one["asInt"]
    one |= {"explicitBounds": list(map(number, bounds)), "bucketCounts": list(buckets), "count": sum(buckets)}
    return one if total is None else one | {"sum": number(total)}


def metric(
    name: str, *points: dict[str, Any], kind: str = "sum", temporality: str = DELTA, unit: str = "ms"
) -> dict[str, Any]:
    data: dict[str, Any] = {"dataPoints": list(points)}
    if kind in ("sum", "histogram", "exponentialHistogram"):
        data["aggregationTemporality"] = temporality
    if kind == "sum":
        data["isMonotonic"] = True
    return {"name": name, "unit": unit, kind: data}


def export(*metrics: dict[str, Any], service: str = "router") -> dict[str, Any]:
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes(service_name=service)},
                "scopeMetrics": [{"metrics": list(metrics)}],
            }
        ]
    }


def message(content: dict[str, Any]) -> ExportMetricsServiceRequest:
    return json_format.ParseDict(content, ExportMetricsServiceRequest())


class Sender:
    """Sends exports, each with another body."""

    def __init__(self, names: Names = NAMES) -> None:
        self.monotonic = 0.0
        self.record = Record(lambda: BEGAN, lambda: self.monotonic)
        self.names = names
        self._sent = 0

    def send(self, *metrics: dict[str, Any], app: str = APP, service: str = "router") -> int:
        """Send metrics; return how many points were refused."""
        self._sent += 1
        sent = message(export(*metrics, service=service))
        return self.record.take_export(app, b"%d" % self._sent, sent, self.names)

    @property
    def requests(self) -> dict[tuple[str, str], int]:
        return self.record.of(APP).requests

    @property
    def dropped(self) -> dict[str, int]:
        return self.record.of(APP).dropped

    def buckets(self, name: str = "heroku_router_service_seconds") -> dict[str, float]:
        (family,) = [one for one in Exposition(self.record).collect() if one.name == name]
        return {one.labels["le"]: one.value for one in family.samples if one.name.endswith("_bucket")}

    def total(self, name: str = "heroku_router_service_seconds") -> float:
        (family,) = [one for one in Exposition(self.record).collect() if one.name == name]
        return next(one.value for one in family.samples if one.name.endswith("_sum"))


@pytest.fixture
def sender() -> Sender:
    return Sender()


# ------------------------------------------------------------------------------------------------------------ requests


def test_deltas_are_added(sender: Sender) -> None:
    for number in (3, 4):
        assert sender.send(metric("router.requests", point(number), point(1, status=503, code="H12"))) == 0
    assert sender.requests == {("200", ""): 7, ("503", "H12"): 2}
    assert sender.record.of(APP).lines == {"point": 4}
    assert sender.record.of(APP).frames == {"counted": 2, "duplicate": 0}


@pytest.mark.parametrize(
    ("labels", "counted"),
    [
        ({"status": 200}, ("200", "")),
        ({"status": "404", "code": ""}, ("404", "")),
        ({"status": "", "code": "H24"}, ("503", "H24")),  # as of lines
        ({"status": "503", "code": "no code"}, ("503", "")),
        ({"status": "200", "path": "/secret"}, ("200", "")),
        ({"status": ""}, None),
        ({"status": "99"}, None),
        ({"status": "600"}, None),
        ({"status": "2xx"}, None),
        ({"status": "²00"}, None),
        ({"status": True}, None),
    ],
)
def test_the_status_and_herokus_code_are_attributes(
    sender: Sender, labels: dict[str, object], counted: tuple[str, str] | None
) -> None:
    assert sender.send(metric("router.requests", point(**labels))) == (counted is None)
    assert sender.requests == ({counted: 1} if counted else {})
    assert sender.dropped == ({} if counted else {"point_value": 1})


@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("inf"), 1e300])
def test_what_is_no_number_of_requests_is_refused(sender: Sender, value: float) -> None:
    assert sender.send(metric("router.requests", point(value), point(2))) == 1
    assert (sender.requests, sender.dropped) == ({("200", ""): 2}, {"point_value": 1})


def test_cumulative_totals_are_counted_from_the_first_that_is_seen_unless_they_began_here(sender: Sender) -> None:
    def send(number: int, at: int, start: int = BEGAN - 999) -> None:
        assert sender.send(metric("router.requests", point(number, start=start, at=at), temporality=CUMULATIVE)) == 0

    send(1000, BEGAN + 60)  # from before
    assert sender.requests == {}
    assert sender.dropped == {"point_first": 1}
    send(1007, BEGAN + 120)
    send(1007, BEGAN + 120)  # again
    send(1003, BEGAN + 90)  # late
    assert sender.requests == {("200", ""): 7}
    send(5, BEGAN + 180)  # the same start, and yet anew
    assert sender.requests == {("200", ""): 12}
    send(6, BEGAN + 240, start=BEGAN + 200)  # a new start
    assert sender.requests == {("200", ""): 18}
    send(9000, BEGAN + 300)  # the old one, by whoever
    assert sender.requests == {("200", ""): 18}
    assert sender.dropped == {"point_first": 1}


def test_totals_of_different_series_and_apps_are_apart(sender: Sender) -> None:
    for at, number in ((60, 10), (120, 15)):
        for router in ("a", "b"):
            one = point(number, at=BEGAN + at, router=router)
            sender.send(metric("router.requests", one, temporality=CUMULATIVE))
    sender.send(metric("router.requests", point(4), temporality=CUMULATIVE), app="acme-shop")
    assert sender.requests == {("200", ""): 30}
    assert sender.record.of("acme-shop").requests == {("200", ""): 4}


def test_scopes_are_apart(sender: Sender) -> None:
    for at, number in ((60, 10), (120, 15)):
        content = export()
        content["resourceMetrics"][0]["scopeMetrics"] = [
            {
                "scope": {"name": scope},
                "metrics": [metric("router.requests", point(number * factor, at=BEGAN + at), temporality=CUMULATIVE)],
            }
            for scope, factor in (("a", 1), ("b", 100))
        ]
        sent = message(content)
        sender.record.take_export(APP, sent.SerializeToString(), sent, NAMES)
    assert sender.requests == {("200", ""): 15 + 1500}


def test_what_points_share_is_read_once_however_large_it_is(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 4,096 points with a resource of 1 MiB are 4 GiB of work."""
    hashed = list[int]()
    digest = otlp_points._digest
    monkeypatch.setattr(otlp_points, "_digest", lambda *parts: hashed.append(sum(map(len, parts))) or digest(*parts))
    content = export(*[metric("router.requests", point(1, router=n), temporality=CUMULATIVE) for n in range(200)])
    content["resourceMetrics"][0]["resource"]["attributes"] += attributes(large="x" * 500_000)
    sent = message(content)
    assert sender.record.take_export(APP, sent.SerializeToString(), sent, NAMES) == 0
    assert sum(hashed) < 600_000
    assert sender.requests == {("200", ""): 200}


def test_totals_are_remembered_in_a_bounded_number(sender: Sender) -> None:
    points = [point(1, router=f"r{number}") for number in range(MOST_SERIES + 5)]
    assert sender.send(metric("router.requests", *points, temporality=CUMULATIVE)) == 5
    assert sender.dropped == {"point_series": 5}
    sender.monotonic += SERIES_SECONDS + 1
    assert sender.send(metric("router.requests", *points[-5:], temporality=CUMULATIVE)) == 0
    assert sender.requests == {("200", ""): MOST_SERIES + 5}


def test_the_bytes_of_answers_are_a_sum_or_a_histograms(sender: Sender) -> None:
    sender.send(metric("router.bytes", point(1000)))
    sender.send(metric("router.bytes", times([10], [1, 1], 500.0), kind="histogram", unit="By"))
    assert sender.record.of(APP).answered == 1500


# --------------------------------------------------------------------------------------------------------------- times

MESH = list(BOUNDS)


def test_a_histogram_with_our_bounds_is_ours(sender: Sender) -> None:
    buckets = [0] * len(BOUNDS) + [2]
    buckets[MESH.index(25)] = 3
    for unit, scale in (("ms", 1.0), ("s", 1000.0)):
        bounds = [bound / scale for bound in BOUNDS]
        assert (
            sender.send(metric("router.service", times(bounds, buckets, 5000 / scale), kind="histogram", unit=unit))
            == 0
        )
    found = sender.buckets()
    assert len(found) == len(BOUNDS) + 1
    assert (found["0.01"], found["0.025"], found["3600"], found["+Inf"]) == (0, 6, 6, 10)
    assert sender.total() == pytest.approx(10)


def test_of_other_bounds_those_that_both_have_are_exported(sender: Sender) -> None:
    """What is up to another bound is not known: a bucket from 50 to 75 ms may be on either side of 60."""
    bounds = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000]
    buckets = [0, 1, 1, 1, 1, 5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert sender.send(metric("router.service", times(bounds, buckets), kind="histogram")) == 0
    assert sender.buckets() == {
        "0.005": 1, "0.01": 2, "0.025": 3, "0.05": 4, "0.1": 10, "0.25": 11, "0.5": 12, "1": 14, "2.5": 15, "5": 16,
        "10": 18, "+Inf": 19,
    }  # fmt: skip
    assert len(sender.buckets("heroku_router_connect_seconds")) == len(BOUNDS) + 1


@given(
    st.lists(st.integers(1, 4_000_000), min_size=1, max_size=200),
    st.sets(st.one_of(st.sampled_from(MESH), st.floats(0.1, 4e6, allow_nan=False)), min_size=1, max_size=40),
)
def test_every_bound_that_is_exported_has_what_is_up_to_it(durations: list[int], some: set[float]) -> None:
    bounds = sorted({round(bound, 6) for bound in some} | {100.0})
    buckets = [0] * (len(bounds) + 1)
    for duration in durations:
        buckets[sum(bound < duration for bound in bounds)] += 1
    sender = Sender()
    assert sender.send(metric("router.service", times(bounds, buckets, float(sum(durations))), kind="histogram")) == 0
    for le, number in sender.buckets().items():
        assert number == sum(duration <= float(le) * 1000 for duration in durations)
    assert "0.1" in sender.buckets()


def test_a_histogram_may_count_requests_too_and_be_cumulative() -> None:
    names = Names(requests="d", service="d", code="status", resource={"service.name": "router"})
    sender = Sender(names)
    for at, buckets in ((60, [2, 1]), (120, [5, 1])):
        one = times([100], buckets, 10.0 * at, at=BEGAN + at)
        assert sender.send(metric("d", one, kind="histogram", temporality=CUMULATIVE)) == 0
    assert sender.requests == {("200", ""): 6}
    assert sender.buckets() == {"0.1": 5, "+Inf": 6}
    assert sender.total() == pytest.approx(1.2)
    # Its requests count where its times have no place.
    assert sender.send(metric("d", times([99], [1, 1]), kind="histogram")) == 1
    assert sender.requests == {("200", ""): 8}
    assert sender.buckets() == {"0.1": 5, "+Inf": 6}
    assert sender.dropped == {"point_buckets": 1}


def test_a_websockets_life_is_no_time(sender: Sender) -> None:
    for status in (101, 499):
        sender.send(metric("router.service", times([100], [0, 1], status=status), kind="histogram"))
    assert sender.buckets()["+Inf"] == 0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (metric("router.service", times([99.5], [1, 1]), kind="histogram"), "point_buckets"),  # no bound of ours
        (metric("router.service", times([], []), kind="histogram"), "point_buckets"),
        (metric("router.service", times([100, 100], [1, 1, 1]), kind="histogram"), "point_buckets"),
        (metric("router.service", times([100, 50], [1, 1, 1]), kind="histogram"), "point_buckets"),
        (metric("router.service", times([100, float("inf")], [1, 1, 1]), kind="histogram"), "point_buckets"),
        (metric("router.service", times([100], [1, 1, 1]), kind="histogram"), "point_buckets"),
        (metric("router.service", times(range(1, 100), [1] * 100), kind="histogram"), "point_buckets"),
        (metric("router.service", times([100], [1, 1], None), kind="histogram"), "point_value"),
        (metric("router.service", times([100], [1, 1], -1.0), kind="histogram"), "point_value"),
        (metric("router.service", times([100], [1, 1]) | {"count": 3}, kind="histogram"), "point_value"),
        (metric("router.service", times([100], [1, 1]), kind="histogram", unit="min"), "point_buckets"),
        (metric("router.service", point()), "point_kind"),
        (metric("router.requests", point(), kind="gauge"), "point_kind"),
        (metric("router.requests", point(), temporality="AGGREGATION_TEMPORALITY_UNSPECIFIED"), "point_kind"),
        (metric("router.service", {"count": 1}, kind="exponentialHistogram"), "point_kind"),
        (metric("router.service", {"count": 1}, kind="summary"), "point_kind"),
        ({"name": "router.requests"}, "point_kind"),
        (metric("router.requests", point(at=0)), "point_value"),
        (metric("router.requests", point(start=BEGAN + 61)), "point_value"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused_and_told_as_lost(sender: Sender, bad: dict[str, Any], reason: str) -> None:
    assert sender.send(bad, metric("router.requests", point())) == 1
    assert sender.dropped == {reason: 1}
    assert sender.requests == {("200", ""): 1}
    assert sender.buckets()["+Inf"] == 0


def test_the_unit_may_be_configured() -> None:
    sender = Sender(Names(requests="r", service="t", code="status", milliseconds=1000.0))
    assert sender.send(metric("t", times([0.1], [1, 1], 2.0), kind="histogram", unit="")) == 0
    assert sender.buckets() == {"0.1": 1, "+Inf": 2}


# ------------------------------------------------------------------------------------------------- what is not counted


def test_an_apps_own_metrics_of_the_same_names_are_left_out(sender: Sender) -> None:
    assert sender.send(metric("router.requests", point(100)), service="web") == 0
    assert sender.send(metric("other", point(100)), metric("", point(1))) == 0
    assert sender.requests == {}
    assert sender.record.of(APP).lines == {"unmapped": 3}
    assert sender.dropped == {}


def test_a_point_that_says_that_nothing_was_recorded_is_nothing(sender: Sender) -> None:
    assert sender.send(metric("router.requests", point() | {"flags": 1})) == 0
    assert (sender.requests, sender.dropped) == ({}, {})


def test_an_export_that_comes_again_counts_once(sender: Sender) -> None:
    sent = message(export(metric("router.requests", point(5))))
    for app in (APP, APP, "acme-shop"):
        sender.record.take_export(app, sent.SerializeToString(), sent, NAMES)
    assert sender.requests == {("200", ""): 5}
    assert sender.record.of(APP).frames == {"counted": 1, "duplicate": 1}
    assert sender.record.of("acme-shop").requests == {("200", ""): 5}


def test_points_that_come_late_are_counted_as_late(sender: Sender) -> None:
    sender.send(metric("router.requests", point(start=BEGAN - 200, at=BEGAN - 61)))
    sender.send(metric("router.requests", point(start=BEGAN - 200, at=BEGAN - 59)))
    assert sender.record.of(APP).late == 1


def test_an_export_is_read_to_a_bound(sender: Sender) -> None:
    assert sender.send(metric("router.requests", *[point()] * (MOST_POINTS + 10))) == 10
    assert sender.dropped == {"point_number": 10}
    for many in (
        ExportMetricsServiceRequest(resource_metrics=[{}] * (MOST_ENTRIES + 1)),
        ExportMetricsServiceRequest(resource_metrics=[{"scope_metrics": [{}] * MOST_ENTRIES}]),
        message(export(*[metric("other")] * MOST_ENTRIES)),
    ):
        sender.record.take_export("acme-shop", many.SerializeToString(), many, NAMES)
    assert sender.record.of("acme-shop").dropped == {"point_number": 3}


def test_a_fault_of_the_program_is_told_as_lost(
    sender: Sender,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot read secret")

    monkeypatch.setattr(otlp_points, "_number", fail)
    assert sender.send(metric("router.requests", point())) == 1
    assert sender.dropped == {"fault": 1}
    # In which of them it is depends on whether a test of this process has configured logging.
    told = capsys.readouterr().out + caplog.text
    assert "RuntimeError at test_drain_otlp.py:" in told
    assert "secret" not in told


# ------------------------------------------------------------------------------------------------------------ nonsense

NUMBERS = st.one_of(st.integers(-5, 2**62), st.floats(), st.just(0))
POINTS = st.lists(
    st.builds(
        lambda value, start, at, status, labels: point(value, start=start, at=at, status=status, **labels),
        NUMBERS,
        st.integers(0, BEGAN * 2),
        st.integers(0, BEGAN * 2),
        st.one_of(st.text(max_size=4), st.sampled_from(["200", "503"]), st.integers(0, 999)),
        st.dictionaries(st.sampled_from(["code", "b"]), st.one_of(st.text(max_size=5), st.booleans(), st.just("H12"))),
    ),
    max_size=3,
)
TIMES = st.lists(
    st.builds(
        lambda bounds, buckets, total: times(bounds, buckets, total),
        st.lists(st.one_of(st.floats(), st.sampled_from(MESH)), max_size=4).map(sorted),
        st.lists(st.integers(0, 2**40), max_size=5),
        st.one_of(st.none(), st.floats()),
    ),
    max_size=3,
)
NAMED = st.sampled_from(["router.requests", "router.service", "router.connect", "router.bytes", "other", ""])
TEMPORALITY = st.sampled_from([DELTA, CUMULATIVE])
EXPORTS = st.lists(
    st.one_of(
        st.builds(lambda name, points, how: metric(name, *points, temporality=how), NAMED, POINTS, TEMPORALITY),
        st.builds(
            lambda name, points, how: metric(name, *points, kind="histogram", temporality=how),
            NAMED,
            TIMES,
            TEMPORALITY,
        ),
        st.builds(lambda name, points: metric(name, *points, kind="gauge"), NAMED, POINTS),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(st.sampled_from([APP, "acme-shop"]), EXPORTS), max_size=4))
def test_no_export_ends_anything_or_mixes_apps(sent: list[tuple[str, list[dict[str, Any]]]]) -> None:
    both, alone = Sender(), {APP: Sender(), "acme-shop": Sender()}
    for app, metrics in sent:
        both.send(*metrics, app=app)
        alone[app].send(*metrics, app=app)
    for app, one in alone.items():
        counts, other = both.record.of(app), one.record.of(app)
        assert "fault" not in counts.dropped
        for name in ("lines", "requests", "dropped", "answered", "late"):
            assert getattr(counts, name) == getattr(other, name), name
        for name in ("service", "connect"):
            assert getattr(counts, name).buckets == getattr(other, name).buckets
        assert all(number >= 0 for number in (*counts.requests.values(), *counts.service.buckets, counts.answered))
    assert [found for found in Exposition(both.record).collect() if found.name == "heroku_router_service_seconds"]


@given(st.binary(max_size=400), st.sampled_from([PROTOBUF, JSON]), st.booleans())
def test_any_bytes_are_an_export_or_refused(body: bytes, kind: str, packed: bool) -> None:
    for sent, is_packed in ((body, packed), (gzip.compress(body, mtime=0), True)):
        try:
            found = read_export(sent, kind, gzip=is_packed)
        except (BrokenBody, LargeBody):
            continue
        record = Record(lambda: BEGAN, lambda: 0.0)
        record.take_export(APP, sent, found, NAMES)
        assert "fault" not in record.of(APP).dropped


JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just("1")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["resourceMetrics", "resource", "attributes", "key", "value", "stringValue", "scopeMetrics", "metrics", "sum",
                 "name", "histogram", "dataPoints", "asInt", "timeUnixNano", "bucketCounts", "aggregationTemporality"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSONS)
def test_any_json_is_an_export_or_refused(content: object) -> None:
    for one in (
        content,
        {"resourceMetrics": content},
        {"resourceMetrics": [{"scopeMetrics": [{"metrics": content}]}]},
    ):
        with contextlib.suppress(BrokenBody):
            read_export(json.dumps(one).encode(), JSON, gzip=False)


@given(EXPORTS, st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_an_export_that_is_spoiled_anywhere_ends_nothing(
    metrics: list[dict[str, Any]], where: int, noise: bytes
) -> None:
    body = message(export(*metrics)).SerializeToString()
    place = where % (len(body) + 1)
    for spoiled in (
        body[:place],
        body[:place] + noise + body[place:],
        body[:place] + noise + body[place + len(noise) :],
    ):
        try:
            found = read_export(spoiled, PROTOBUF, gzip=False)
        except BrokenBody:
            continue
        record = Record(lambda: BEGAN, lambda: 0.0)
        record.take_export(APP, spoiled, found, NAMES)
        assert "fault" not in record.of(APP).dropped
        assert list(Exposition(record).collect())


# -------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_protobuf_and_json_are_the_same(kind: str, packed: bool) -> None:
    content = export(
        metric("router.requests", point(5)), metric("router.service", times([100], [1, 2]), kind="histogram")
    )
    body = message(content).SerializeToString() if kind == PROTOBUF else json.dumps(content | {"later": 1}).encode()
    assert read_export(gzip.compress(body, mtime=0) if packed else body, kind, gzip=packed) == message(content)


def test_a_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b"\0" * (20 * MOST_INFLATED), mtime=0)
    assert len(bomb) < MOST_INFLATED
    tracemalloc.start()
    try:
        with pytest.raises(LargeBody):
            read_export(bomb, PROTOBUF, gzip=True)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST_INFLATED
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "kind", "packed", "problem"),
    [
        (b"\xff" * 10, PROTOBUF, False, BrokenBody),
        (b"{", JSON, False, BrokenBody),
        (b"[1]", JSON, False, BrokenBody),
        (b"[" * 10_000, JSON, False, BrokenBody),
        (b'{"resourceMetrics": 1}', JSON, False, BrokenBody),
        (b"\xff\xfe{}", JSON, False, BrokenBody),
        (b"not gzip", PROTOBUF, True, BrokenBody),
        (gzip.compress(b"{}", mtime=0)[:-3], JSON, True, BrokenBody),
        (gzip.compress(b"{}", mtime=0) * 2, JSON, True, BrokenBody),
        (b" " * (MOST_JSON + 1), JSON, False, LargeBody),
        (b"[" + b"0," * 30_000 + b"0]", JSON, False, LargeBody),
        (b"[" * 30_000, JSON, False, LargeBody),
    ],
)  # fmt: skip
def test_what_is_no_body_is_refused(body: bytes, kind: str, packed: bool, problem: type[Exception]) -> None:
    with pytest.raises(problem):
        read_export(body, kind, gzip=packed)


# ------------------------------------------------------------------------------------------------------------ the wire


@pytest.fixture
async def served(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[tuple[int, Record]]:
    record = Record(time.time, time.monotonic)
    receiver = Receiver(AccessFile(drains_file(tmp_path)), record, lambda _: None, NAMES)
    port = await Port(receiver).open("127.0.0.1", unused_tcp_port)
    yield unused_tcp_port, record
    await port.close(0)


async def posted(port: int, body: bytes, *, path: str = "/v1/metrics", **headers: str) -> Answer:
    """Send an export as an exporter does, with its headers."""
    lines = {
        "Authorization": "",
        "Content-Type": PROTOBUF,
        **{name.replace("_", "-"): one for name, one in headers.items()},
    }
    begin = head(
        TOKENS[APP], f"{USER}:{PASSWORD}" if not lines.pop("Authorization") else "", "", 0, body, path=path
    ).decode()
    begin = begin.replace("Content-Type: application/logplex-1\r\n", "").replace("Logplex-Frame-Id: \r\n", "")
    for name, value in lines.items():
        begin = begin.replace("\r\n\r\n", f"\r\n{name}: {value}\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin.encode() + body)
    async with asyncio.timeout(30):
        found = await read_answer(reader)
    writer.close()
    return found


async def test_an_export_is_answered_as_otlp_wants(served: tuple[int, Record]) -> None:
    port, record = served
    good = message(export(metric("router.requests", point(5)))).SerializeToString()
    answer = await posted(port, good)
    assert (answer.status, answer.headers["content-type"], answer.rest) == (200, PROTOBUF, b"")
    answer = await posted(port, gzip.compress(good, mtime=0), Content_Encoding="gzip")
    assert answer.status == 200
    partly = export(metric("router.requests", point(7), point(-1)))
    answer = await posted(port, message(partly).SerializeToString())
    assert ExportMetricsServiceResponse.FromString(answer.rest).partial_success.rejected_data_points == 1
    partly = export(metric("router.requests", point(8), point(-1)))
    answer = await posted(port, json.dumps(partly).encode(), Content_Type="application/json; charset=utf-8")
    assert json.loads(answer.rest)["partialSuccess"]["rejectedDataPoints"] == "1"
    assert record.of(APP).requests == {("200", ""): 5 + 5 + 7 + 8}


async def test_who_may_send_is_asked_before_the_body_and_refusals_are_counted(served: tuple[int, Record]) -> None:
    port, record = served
    good = message(export(metric("router.requests", point(5)))).SerializeToString()
    found = [
        (await posted(port, good, Authorization="none")).status,
        (await posted(port, good, Authorization="none", path=f"/{TOKEN}/v1/metrics")).status,
        (await posted(port, good, Authorization="none", path="/v1/metrics/v1/metrics")).status,
        (await posted(port, good, Content_Type="application/logplex-1")).status,
        (await posted(port, good, Content_Encoding="br")).status,
        (await posted(port, good, path="/v1/traces")).status,
        (await posted(port, b"\xff")).status,
        (await posted(port, b"nothing", Content_Encoding="gzip")).status,
        (await posted(port, gzip.compress(b"\0" * (2 * MOST_INFLATED), mtime=0), Content_Encoding="gzip")).status,
    ]
    assert found == [401, 200, 401, 415, 415, 415, 400, 400, 413]
    assert record.of(APP).requests == {("200", ""): 5}
    assert record.of(APP).dropped == {"credentials": 2, "content": 4, "too_large": 1}


async def test_without_names_no_otlp_is_taken(tmp_path: Path, unused_tcp_port: int) -> None:
    record = Record(time.time, time.monotonic)
    port = await Port(Receiver(AccessFile(drains_file(tmp_path)), record, lambda _: None)).open(
        "127.0.0.1", unused_tcp_port
    )
    try:
        assert (await posted(unused_tcp_port, b"")).status == 415
    finally:
        await port.close(0)


# ------------------------------------------------------------------------------------------------------------ settings


def test_the_names_are_a_setting() -> None:
    given_names = {"requests": "r", "code": "c", "resource": {"service.name": "router"}, "unit": "s", "bytes": "b"}
    settings = read_variables(DrainSettings, {"CUTOVER_DRAIN_OTLP": json.dumps(given_names)})
    assert isinstance(settings.otlp, OtlpNames)
    assert settings.otlp.names() == Names(
        requests="r", code="c", size="b", resource={"service.name": "router"}, milliseconds=1000.0
    )
    assert read_variables(DrainSettings, {"CUTOVER_DRAIN_OTLP": ""}).otlp is None


@pytest.mark.parametrize("wrong", ["{", "{}", '{"requests": "r"}', '{"requests": "r", "code": "c", "unit": "h"}'])
def test_a_mistake_in_the_names_is_told(wrong: str) -> None:
    with pytest.raises(SettingsError, match="CUTOVER_DRAIN_OTLP: "):
        read_variables(DrainSettings, {"CUTOVER_DRAIN_OTLP": wrong})
