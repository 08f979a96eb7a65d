"""Two weeks of record in a real Prometheus, and what a plan makes of them: it goes on, or it is held."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from tests.kit import builders
from tests.kit.remote_write import Series, filled_prometheus
from tests.kit.world import Leg, World, check, plan_spec

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.dialects.heroku_drain.usage import DrainUsage
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.dialects.kubernetes.usage import ClusterUsage
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.baseline.document import document
from cutover.domain.baseline.record import HOUR, KeptRecord, RecordReading, quantile
from cutover.domain.baseline.released import Released
from cutover.domain.baseline.week import peak
from cutover.domain.plan import Plan
from cutover.ports.errors import Unavailable
from cutover.ports.records import RecordQuestion
from cutover.services.records import PrometheusRecords

DRAIN, GATEWAYS = "cutover-system", "istio-ingress"
INTERVAL, DAYS = 60, 14
#: Hours without scrapes, minutes in which messages were lost, and hours of the app whose drain is new, before the end.
HOLE, LOSSES, NEW = (100, 105), (200 * 60, 200 * 60 + 40), 72
#: Requests of a minute at noon, and at night.
DAY, NIGHT = 600, 30
BOUNDS_MS = (25.0, 100.0, 500.0, math.inf)
#: Days before the end of most memory, and of two releases.
PEAK_DAYS, RELEASED_DAYS = 9.5, 5.0
MEBIBYTE = 1024.0**2


@dataclass
class History:
    """What was written: samples, and of each hour before the end its requests and those that failed."""

    series: Series
    end: float
    requests: np.ndarray
    errors: np.ndarray


def made_up() -> History:
    """Make up what two replicas of the drain, and two gateways, counted until a moment ago."""
    draw = np.random.default_rng(11)
    end = math.floor(time.time() / HOUR) * HOUR
    minutes = DAYS * 24 * 60
    at = end - minutes * 60.0 + 60.0 * (np.arange(minutes) + 1) - 7.0  # in the middle of nowhere
    rate = np.where(((at % 86_400) / HOUR >= 7) & ((at % 86_400) / HOUR < 20), DAY, NIGHT)
    before_end = (end - at) / HOUR
    scraped = ~((before_end > HOLE[0]) & (before_end <= HOLE[1]))
    series: Series = {}
    requests, errors = np.zeros(minutes), np.zeros(minutes)

    def add(increments: np.ndarray, restart: int, since: int = 0, **labels: str) -> None:
        """Write a counter from its increments; between two scrapes it counts on."""
        values = np.concatenate([np.cumsum(increments[since:restart]), np.cumsum(increments[max(restart, since) :])])
        kept = scraped[since:]
        series[tuple(labels.items())] = list(zip(at[since:][kept].tolist(), values[kept].tolist(), strict=True))

    for number in range(2):
        all_of_them = draw.poisson(rate / 2).astype(float)
        failed = draw.binomial(all_of_them.astype(int), 0.001).astype(float)
        requests += all_of_them
        errors += failed
        restart = minutes // 2 if number == 0 else 0
        target = {"pod": f"one-{number}", "instance": f"10.0.0.{number}:9090", "job": "drain", "namespace": DRAIN}
        codes = {"200": all_of_them - failed, "503": failed, "499": np.full(minutes, 2.0)}
        # Two servers scrape the first, as a pair of Prometheus servers behind Thanos does.
        for replica in ({}, {"prometheus_replica": "b"})[: 2 - number]:
            place = target | replica
            series[tuple({"__name__": "heroku_drain_serving", **place}.items())] = [
                (t, 1.0) for t in at[scraped].tolist()
            ]
            for code, increments in codes.items():
                add(
                    increments,
                    restart,
                    __name__="heroku_router_requests_total",
                    app="acme-pdf",
                    code=code,
                    error="",
                    **place,
                )
        lost = np.zeros(minutes)
        if number == 0:
            lost[minutes - LOSSES[1] : minutes - LOSSES[0]] = 3.0
        add(lost, 0, __name__="heroku_drain_dropped_messages_total", app="acme-pdf", reason="L10", **target)
        add(np.zeros(minutes), 0, __name__="heroku_drain_late_messages_total", app="acme-pdf", **target)
        new = minutes - NEW * 60
        add(
            all_of_them,
            0,
            new,
            __name__="heroku_router_requests_total",
            app="acme-new",
            code="200",
            error="",
            **target,
        )
        add(lost * 0, 0, new, __name__="heroku_drain_dropped_messages_total", app="acme-new", reason="L10", **target)
        for bound, part in zip(BOUNDS_MS, (0.5, 0.97, 0.999, 1.0), strict=True):
            le = "+Inf" if math.isinf(bound) else f"{bound / 1000:g}"
            name = "heroku_router_service_seconds_bucket"
            add(np.floor(all_of_them * part), restart, __name__=name, app="acme-pdf", le=le, **target)
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            gateway = {**target, "namespace": GATEWAYS, "job": "gateways", "reporter": "source"}
            counted = {**gateway, "source_workload_namespace": GATEWAYS, "destination_service": builders.HEROKU_HOST}
            name = "istio_request_duration_milliseconds_bucket"
            day = minutes - 48 * 60
            add(np.floor(all_of_them * part), restart, day, __name__=name, response_code="200", le=le, **counted)
        for code, increments in {**codes, "101": np.full(minutes, 5.0)}.items():
            add(increments, restart, day, __name__="istio_requests_total", response_code=code, **counted)
        up = {"__name__": "up", **{name: gateway[name] for name in ("pod", "instance", "job", "namespace")}}
        series[tuple(up.items())] = [(t, 1.0) for t in at[scraped].tolist()]
    # Whoever is scraped may write a metric of this name: only the drain's own targets count.
    stranger = {"pod": "stranger", "instance": "10.0.0.9:80", "job": "shop", "namespace": DRAIN}
    add(
        np.full(minutes, 500.0),
        0,
        __name__="heroku_router_requests_total",
        app="acme-pdf",
        code="500",
        error="",
        **stranger,
    )
    series |= used(at, end)
    hourly = [one.reshape(-1, 60).sum(axis=1) for one in (requests, errors)]
    return History(series, end, *hourly)


def used(at: np.ndarray, end: float) -> Series:
    """Make up what was used: samples of each tenth minute, and what must not count."""
    days = (end - at) / 86_400
    one, other = (
        {"pod": f"one-{n}", "instance": f"10.0.0.{n}:9090", "job": "drain", "namespace": DRAIN} for n in range(2)
    )
    stranger = {"pod": "stranger", "instance": "10.0.0.9:80", "job": "shop", "namespace": DRAIN}
    web = {"app": "acme-pdf", "dyno": "web.1"}
    main = {"app": "acme-pdf", "addon": "postgresql-main-1"}
    pod = {"namespace": "docs", "pod": "pdf-5d8f7c9b6d-abcde", "container": "app", "job": "cadvisor"}
    peak = np.abs(days - PEAK_DAYS) < 0.1
    gauges: list[tuple[str, dict[str, str], np.ndarray | float]] = [
        ("heroku_dyno_memory_total_bytes", {**one, **web}, np.where(peak, 501.0, 384.0) * MEBIBYTE),
        ("heroku_dyno_memory_total_bytes", {**other, **web, "dyno": "web.2"}, 300.0 * MEBIBYTE),
        ("heroku_dyno_memory_total_bytes", {**one, **web, "dyno": "worker.1"}, 900.0 * MEBIBYTE),
        ("heroku_dyno_memory_total_bytes", {**one, **web, "app": "acme-new"}, 950.0 * MEBIBYTE),
        ("heroku_dyno_memory_total_bytes", {**stranger, **web}, 4096.0 * MEBIBYTE),
        ("heroku_dyno_memory_quota_bytes", {**one, **web}, 512.0 * MEBIBYTE),
        ("heroku_dyno_load_1m", {**one, **web}, 0.4),
        ("heroku_postgres_active_connections", {**one, **main}, 110.0),
        ("heroku_postgres_max_connections", {**one, **main}, 400.0),
        ("heroku_postgres_active_connections", {**other, "app": "acme-pdf", "addon": "postgresql-follower-2"}, 3.0),
        ("heroku_postgres_max_connections", {**other, "app": "acme-pdf", "addon": "postgresql-follower-2"}, 20.0),
        ("heroku_release_version", {**other, "app": "acme-pdf"}, np.where(days < RELEASED_DAYS, 44.0, 42.0)),
        ("heroku_release_version", {**stranger, "app": "acme-pdf"}, 99.0),
        ("heroku_releases_total", {**one, "app": "acme-new"}, 0.0),
        ("coredns_dns_requests_total", {"job": "coredns"}, np.cumsum(np.full(len(at), 60 * 120.0))),
        ("container_cpu_cfs_throttled_periods_total", pod, np.cumsum(np.full(len(at), 6.0))),
        ("container_cpu_cfs_periods_total", pod, np.cumsum(np.full(len(at), 600.0))),
    ]
    return {
        tuple({"__name__": name, **labels}.items()): list(
            zip(at[::10].tolist(), np.broadcast_to(values, at.shape)[::10].tolist(), strict=True)
        )
        for name, labels, values in gauges
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, History]]:
    history = made_up()
    with filled_prometheus(tmp_path_factory.mktemp("prometheus"), history.series) as url:
        yield url, history


@pytest.fixture
async def records(filled: tuple[str, History]) -> AsyncIterator[PrometheusRecords]:
    client = PrometheusClient(filled[0], timeout=60)

    async def create(body: object) -> None:
        raise AssertionError("nothing is kept here")

    yield PrometheusRecords(
        lambda _: client,
        gateway=IstioDialect(),
        drain=HerokuDrainDialect((DRAIN,)),
        create=create,
        now=lambda _: filled[1].end + 100.0,
        usage=[DrainUsage(HerokuDrainDialect((DRAIN,))), ClusterUsage()],
    )
    await client.close()


def plan(app: str = "acme-pdf", **baseline: object) -> Plan:
    heroku = {"app": app, "hostname": builders.HEROKU_HOST}
    return builders.plan(
        heroku=heroku,
        baseline={"source": "Drain", **baseline},
        status=MigrationPlanStatus(phase=Phase.PREFLIGHT, attempt=1),
    )


async def told(url: str) -> tuple[float, float, float, float]:
    """Return what Prometheus has counted: range queries, bytes of their answers, samples that queries read, and their time."""
    wanted = ("query_range", "query_range", "", "query_range")
    names = (
        "prometheus_http_request_duration_seconds_count",
        "prometheus_http_response_size_bytes_sum",
        "prometheus_engine_query_samples_total",
        "prometheus_http_request_duration_seconds_sum",
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    first, second, third, fourth = (
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and part in line)
        for name, part in zip(names, wanted, strict=True)
    )
    return first, second, third, fourth


async def read(records: PrometheusRecords, asking: Plan) -> RecordReading:
    question = records.question(asking)
    assert isinstance(question, RecordQuestion)
    for _ in range(20):
        try:
            return await records.read(asking, question, None)
        except Unavailable as away:  # Prometheus compacts what was written to it a moment ago
            said = away
            await asyncio.sleep(0.5)
    raise said


def going_on(reading: RecordReading, heroku: Leg) -> World:
    """Return a plan with this record, whose Heroku answers so after the takeover."""
    w = World(spec=plan_spec(baseline={"source": "Drain"}), heroku=heroku, record=reading, on_decision=check)
    w.kept = KeptRecord("cutover-pdf-baseline-0123456789")
    return w


async def test_two_weeks_of_the_drain_become_a_baseline_and_the_plan_goes_on(
    filled: tuple[str, History], records: PrometheusRecords
) -> None:
    _, history = filled
    before, began, computed = await told(filled[0]), time.monotonic(), time.process_time()
    reading = await read(records, plan())
    took, computed = time.monotonic() - began, time.process_time() - computed
    queries, size, samples, asked = (now - then for now, then in zip(await told(filled[0]), before, strict=True))
    print(
        f"{queries:.0f} queries, {samples:,.0f} samples, {size / 1024:.0f} KiB of answers (compressed), {asked:.1f} s of"
        f" Prometheus' time and {1000 * computed:.0f} ms of CPU here, within {took:.1f} s"
    )
    known = reading.record
    assert known is not None
    assert len(known.hours) == DAYS * 24
    minutes = np.array([hour.minutes for hour in known.hours])
    hole = slice(DAYS * 24 - HOLE[1], DAYS * 24 - HOLE[0])
    assert minutes[hole].sum() <= 4  # a sample is seen for 90 s
    assert 40 <= 60 * (DAYS * 24 - 5) - (minutes.sum() - minutes[hole].sum()) <= 48
    whole = minutes == 60
    whole[:1] = False  # a counter's first value is no increase
    whole[DAYS * 12 - 1 : DAYS * 12 + 1] = False  # one replica restarts
    counted = np.array([hour.counts.requests for hour in known.hours])
    failed = np.array([hour.counts.errors for hour in known.hours])
    assert np.abs(counted - history.requests)[whole].max() < 0.03 * DAY * 60
    assert counted[whole].sum() == pytest.approx(history.requests[whole].sum(), rel=0.005)
    assert failed[whole].sum() == pytest.approx(history.errors[whole].sum(), rel=0.02)
    assert known.total.refused == known.total.throttled == 0
    assert quantile(known.buckets, 0.5) == pytest.approx(25.0, rel=0.05)
    assert 60 * peak(known).rate == pytest.approx(DAY, rel=0.05)
    text = document(known, plan="docs/pdf", app="acme-pdf")
    print(f"kept in {len(text.encode()) / 1024:.0f} KiB")
    kept = json.loads(text)
    memory, connections = kept["used"]["memoryMiB"], kept["used"]["connections"]
    assert (memory["usual"], memory["most"], memory["quota"], memory["hours"]) == (
        384,
        501,
        512,
        DAYS * 24 - 5,
    )  # without the hole
    assert (connections["most"], connections["limit"], connections["database"]) == (110, 400, "postgresql-main-1")
    assert kept["used"]["load"]["usual"] == 0.4
    assert kept["used"]["clusterDnsPerSecond"]["usual"] == pytest.approx(120, rel=0.01)
    assert kept["used"]["throttled"]["usual"] == pytest.approx(0.01, rel=0.01)
    assert known.unread == ""
    assert known.released is not None
    assert [mark.version for mark in known.released.newest] == [43, 44]
    assert known.released.newest[-1].at == pytest.approx(history.end - RELEASED_DAYS * 86_400, abs=HOUR)
    w = going_on(reading, Leg())
    w.until_judging(10)
    assert w.status.baseline is not None
    assert w.status.baseline.takeover is not None
    assert w.status.baseline.takeover.verdict == "Alike"
    refusing = going_on(reading, Leg(refused=0.1))
    refusing.until_reason("TakeoverDiffers")
    assert "Heroku refuses more" in refusing.status.message


async def test_three_days_are_too_short_for_two_weeks_and_enough_for_two_days(
    filled: tuple[str, History], records: PrometheusRecords
) -> None:
    reading = await read(records, plan("acme-new"))
    assert reading.reach is not None
    assert reading.record is None
    assert reading.reach.first == filled[1].end - NEW * HOUR
    assert reading.reach.part == pytest.approx(3 / 14, abs=0.002)
    assert reading.keeps_seconds == 15 * 86_400  # as it says itself
    w = going_on(reading, Leg())
    w.until_reason("BaselineIncomplete")
    assert "21% of 14d are recorded by Heroku's logs" in w.status.message
    shorter = await read(records, plan("acme-new", window="2d"))
    assert shorter.record is not None
    nothing = await read(records, plan("acme-unknown"))
    assert nothing.reach is not None
    assert (nothing.reach.part, nothing.record) == (0.0, None)
    # Nobody has released anything, and this drain would know.
    assert shorter.record.released == Released(0)


async def test_the_gateways_own_counts_are_a_record_too(
    filled: tuple[str, History], records: PrometheusRecords
) -> None:
    _, history = filled
    reading = await read(records, plan(source="Gateway", window="40h"))
    known = reading.record
    assert known is not None
    counted = np.array([hour.counts.requests for hour in known.hours])
    assert counted.sum() == pytest.approx(history.requests[-40:].sum(), rel=0.01)
    assert known.total.errors == pytest.approx(history.errors[-40:].sum(), rel=0.1)
    assert sorted(known.buckets) == list(BOUNDS_MS)
    short = await read(records, plan(source="Gateway", window="10d"))
    assert short.reach is not None
    assert short.record is None
    assert (
        short.reach.first == history.end - 48 * HOUR
    )  # the gateways were scraped before, without any request of the app
