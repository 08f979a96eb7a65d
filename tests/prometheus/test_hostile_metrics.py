"""Apps that expose a gateway's metrics, and a leg with too many series, against a real Prometheus."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.kit.metrics_server import MetricsServer
from tests.kit.real_prometheus import RealPrometheus
from tests.kit.scraped_gateways import (
    INTERVAL,
    LENGTH,
    SETTLE,
    FakeGateway,
    ShiftedClock,
    Watching,
    compare,
    job,
    sampling,
    scraping,
    stamps,
)

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.ports.block_feed import BlockSubscription
from cutover.services.foreign_counters import read_foreign_counters
from cutover.services.sampler import Sampler
from cutover.services.scrape_timing import ScrapeTiming

NAMESPACE = "gateways"


@contextmanager
def exposing(text: Callable[[], str]) -> Iterator[int]:
    """Expose metrics; yield the port."""
    server = MetricsServer(lambda path: text())
    try:
        yield server.port
    finally:
        server.stop()


def target(name: str, port: int, *, honor: bool = False, **labels: str) -> dict[str, Any]:
    """Return a scrape configuration of one target."""
    return {
        "job_name": name,
        "honor_labels": honor,
        "scrape_interval": f"{round(INTERVAL * 1000)}ms",
        "scrape_timeout": f"{round(INTERVAL * 1000)}ms",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels}],
    }


def forged(gateway: FakeGateway, value: Callable[[], float]) -> str:
    """Return what an app exposes that plays a gateway with all of its labels."""
    mine = f'namespace="{NAMESPACE}",pod="{gateway.pod}",job="gateways",instance="127.0.0.1:{gateway.port}"'
    lines = []
    for leg, code, le in itertools.product(gateway.legs, ("200", "503"), ("", "250", "odd", "+Inf")):
        labels = f'{mine},reporter="source",source_workload_namespace="{NAMESPACE}",destination_service="{leg}"'
        if le:
            lines.append(f'istio_request_duration_milliseconds_bucket{{{labels},le="{le}"}} {value()}')
        else:
            lines.append(f'istio_requests_total{{{labels},response_code="{code}"}} {value()}')
    return "\n".join(sorted(set(lines))) + "\n"


async def test_an_app_that_exposes_a_gateways_metrics_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateways = [FakeGateway(NAMESPACE, f"gw-{number}") for number in range(2)]
    scrapes = itertools.count(1)

    def grows() -> float:
        return next(scrapes) * 1e6

    def is_none() -> float:
        return math.nan

    with (
        exposing(lambda: forged(gateways[0], grows)) as millions,
        exposing(lambda: forged(gateways[1], is_none)) as nonsense,
    ):
        jobs = [
            job("gateways", gateways),
            target("apps", millions, namespace="hostile", pod="evil-0"),
            target("more-apps", nonsense, namespace="hostile", pod="evil-1"),
            target("static", millions),  # without a namespace, so that the app's own label stays
            target("more-static", nonsense),
        ]
        found: dict[tuple[str, str, str], set[float]] = defaultdict(set)
        async with scraping(tmp_path, gateways, jobs) as prometheus:
            began = float(math.ceil(time.time() + 3 * INTERVAL))
            live = Watching(prometheus.url, NAMESPACE, began)
            async with sampling(live):
                await live.usable(4)
                histogram = await live.sampler.histogram(live.subscription)
                monkeypatch.setattr("cutover.services.counter_reads._EXACT_HISTOGRAM", 0.0)
                summed = await live.sampler.histogram(live.subscription)
                foreign = await read_foreign_counters(live.client, IstioDialect(), [NAMESPACE], time.time())
            await stamps(prometheus.url, found)
    gaps = compare("an app that plays the gateway", live, gateways, found)
    assert not any("not a number" in gap or "bucket" in gap for gap in gaps)
    assert live.sampler.refused, "the two jobs that let the app write the gateway's labels"
    assert 0 < histogram.total < 1e5
    assert 0 < summed.total < 1e5, "as Prometheus adds it up"
    assert "counters of job apps (namespace hostile)" in foreign.sentence
    assert "counters of job more-apps (namespace hostile) name gateways, and do not count" in foreign.sentence


async def test_what_a_job_with_honor_labels_can_do(tmp_path: Path) -> None:
    """docs/security.md says so: its targets write every label, and up as well, so that nothing tells them apart."""
    gateway = FakeGateway(NAMESPACE, "gw-0")
    up = f'up{{namespace="{NAMESPACE}",pod="gw-9",job="gateways",instance="nowhere:1"}} 1\n'
    counter = forged(gateway, lambda: 5.0).replace('pod="gw-0"', 'pod="gw-9"')
    counter = counter.replace(f'instance="127.0.0.1:{gateway.port}"', 'instance="nowhere:1"')
    with exposing(lambda: up + counter) as port:
        jobs = [job("gateways", [gateway]), target("apps", port, honor=True, namespace="hostile", pod="evil")]
        async with scraping(tmp_path, [gateway], jobs) as prometheus:
            client = PrometheusClient(prometheus.url)
            async with asyncio.timeout(30):
                while not (seen := await client.query(f'up{{namespace="{NAMESPACE}",pod="gw-9"}}', time.time())):  # noqa: ASYNC110 -- it tells nobody
                    await asyncio.sleep(INTERVAL)
            await client.close()
    assert seen[0]["metric"]["job"] == "gateways"


# ------------------------------------------------------------------------------------------------- too many series


PLANS, ILL, MANY = 24, 7, 4000


def legs(plan: int) -> tuple[str, str]:
    return f"app-{plan}.herokuapp.com", f"app-{plan}.shop.svc.cluster.local"


def crowd() -> str:
    """Return a gateway's counters, where one leg has thousands."""
    common = f'reporter="source",source_workload_namespace="{NAMESPACE}",destination_service='
    lines = []
    for plan in range(PLANS):
        for leg in legs(plan):
            for number in range(MANY if plan == ILL else 1):
                labels = f'{common}"{leg}",response_code="200",request_host="{number}"'
                lines.append(f"istio_requests_total{{{labels}}} {time.time() // 0.1:.0f}")
                if number == 0:
                    lines.append(f'istio_request_duration_milliseconds_bucket{{{labels},le="+Inf"}} {time.time():.0f}')
    return "\n".join(sorted(lines)) + "\n"


async def test_a_leg_with_too_many_series_takes_no_others_blocks(tmp_path: Path) -> None:
    with exposing(crowd) as port:
        prometheus = RealPrometheus(
            tmp_path,
            [target("gateways", port, namespace=NAMESPACE, pod="gw-0") | {"scrape_interval": "1s"}],
            f"--query.max-samples={MANY * 2}",
        )
        try:
            await asyncio.to_thread(prometheus.start)
            blocks, errors = await serve(prometheus.url, range(PLANS))
        finally:
            prometheus.stop()
    assert {plan for plan in range(PLANS) if not blocks[plan]} == {ILL}
    assert errors[ILL].startswith("query processing would load too many samples into memory")
    assert "about this plan alone" in errors[ILL]
    assert {errors[plan] for plan in range(PLANS) if plan != ILL} == {""}


async def serve(url: str, plans: Sequence[int]) -> tuple[dict[int, int], dict[int, str]]:
    """Serve plans until all that can have a usable block have one; return how many, and why others have none."""
    client, news = PrometheusClient(url, timeout=5.0), asyncio.Event()
    length = 2 * LENGTH
    sampler = Sampler(
        client,
        IstioDialect(),
        ShiftedClock(),
        settle=SETTLE,
        timing=ScrapeTiming({NAMESPACE: 1.0}, {1.0: 0.0}),
        on_samples=lambda _: news.set(),
    )
    since = float(math.ceil(time.time()))
    for plan in plans:
        wanted = BlockSubscription(*legs(plan), (NAMESPACE,), None, None, length, since, scrape_seconds=1.0)
        sampler.watch(f"shop/{plan}", wanted)
    blocks, errors = dict.fromkeys(plans, 0), dict.fromkeys(plans, "")
    running = asyncio.create_task(sampler.run())
    async with asyncio.timeout(60):
        while sum(number > 0 for number in blocks.values()) < len(plans) - 1 or not any(
            "alone" in one for one in errors.values()
        ):
            await news.wait()
            news.clear()
            for plan in plans:
                taken = sampler.take(f"shop/{plan}")
                blocks[plan] += sum(block.usable for block in taken.blocks)
                errors[plan] = taken.error
    running.cancel()
    await client.close()
    return blocks, errors
