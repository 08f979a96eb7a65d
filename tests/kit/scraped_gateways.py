"""Fake gateways that a real Prometheus scrapes, samplers that read it, and the truth.

Each fake gateway notes what it added to its counters before every scrape: that is the truth. It never looks at what
Prometheus or the sampler make of it.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.kit.metrics_server import MetricsServer
from tests.kit.real_prometheus import RealPrometheus

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.evidence.blocks import Block, Counts
from cutover.ports.block_feed import BlockSubscription
from cutover.services.sampler import Sampler
from cutover.services.scrape_timing import ScrapeTiming, interval_of
from devstack.support import free_port

LENGTH = 2
INTERVAL = 0.5
SETTLE = 0.3
BOUNDS = (250.0, 1000.0, math.inf)


@dataclass(frozen=True)
class Note:
    """What a gateway had counted in its life when it was asked by somebody."""

    at: float
    by: str
    heroku: Counts
    eks: Counts


class FakeGateway:
    """Istio's metrics on a port, made up at each scrape."""

    def __init__(self, namespace: str, pod: str, interval: float = INTERVAL) -> None:
        self.namespace, self.pod, self.interval = namespace, pod, interval
        self.legs = f"{namespace}.herokuapp.com", f"{namespace}.shop.svc.cluster.local"
        self.notes: list[Note] = []
        self.refuse = 0  # so many scrapes
        self.delays: tuple[float, ...] = (0.0,)  # one of them per scrape
        self._random = random.Random(pod)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._server: MetricsServer | None = None
        self.port = free_port()

    def start(self) -> None:
        self._server = MetricsServer(self._answer, self.port)

    def _answer(self, path: str) -> str | None:
        if self.refuse:
            self.refuse -= 1
            return None
        text = self.scrape(path.partition("by=")[2])
        time.sleep(random.choice(self.delays))
        return text

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def restart(self) -> None:
        with self._lock:
            self._requests.clear()
            self._buckets.clear()

    def scrape(self, by: str) -> str:
        with self._lock:
            last = self.notes[-1] if self.notes else Note(0.0, "", Counts(), Counts())
            heroku, eks = self._serve(self.legs[0], 0.01), self._serve(self.legs[1], 0.05)
            self.notes.append(Note(time.time(), by, last.heroku + heroku, last.eks + eks))
            common = f'reporter="source",source_workload_namespace="{self.namespace}",destination_service='
            lines = ["# TYPE istio_requests_total counter"]
            lines += [
                f'istio_requests_total{{{common}"{leg}",response_code="{code}"}} {value}'
                for (leg, code), value in self._requests.items()
            ]
            name = "istio_request_duration_milliseconds"
            lines.append(f"# TYPE {name} histogram")
            for leg in self.legs:
                for bound in BOUNDS:
                    le = "+Inf" if bound == math.inf else f"{bound:g}"
                    lines.append(f'{name}_bucket{{{common}"{leg}",le="{le}"}} {self._buckets[leg, bound]}')
                lines.append(f'{name}_count{{{common}"{leg}"}} {self._buckets[leg, math.inf]}')
                lines.append(f'{name}_sum{{{common}"{leg}"}} 0')
            return "\n".join(lines) + "\n"

    def _serve(self, leg: str, ratio: float) -> Counts:
        counts = Counts()
        for _ in range(self._random.randint(0, 300)):
            draw = self._random.random()
            code = "503" if draw < ratio else "0" if draw < ratio + 0.01 else "200"
            milliseconds = self._random.expovariate(1 / 200)
            self._requests[leg, code] += 1
            for bound in BOUNDS:
                self._buckets[leg, bound] += milliseconds <= bound
            counts += Counts(code != "0", code == "503", 1, milliseconds > 250, milliseconds > 1000)
        return counts


def job(name: str, gateways: Sequence[FakeGateway], **labels: str) -> dict[str, Any]:
    """Return a scrape configuration, for gateways with the same interval."""
    (interval,) = {f"{round(gateway.interval * 1000)}ms" for gateway in gateways}
    return {
        "job_name": name,
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "params": {"by": [name]},
        "static_configs": [
            {
                "targets": [f"127.0.0.1:{gateway.port}"],
                "labels": {"namespace": gateway.namespace, "pod": gateway.pod, **labels},
            }
            for gateway in gateways
        ],
    }


@asynccontextmanager
async def scraping(
    folder: Path, gateways: Sequence[FakeGateway], jobs: list[dict[str, Any]]
) -> AsyncIterator[RealPrometheus]:
    """Run gateways, and a Prometheus that scrapes them."""
    prometheus = RealPrometheus(folder, jobs)
    for gateway in gateways:
        gateway.start()
    try:
        await asyncio.to_thread(prometheus.start)
        yield prometheus
    finally:
        prometheus.stop()
        for gateway in gateways:
            gateway.stop()


@dataclass(frozen=True)
class ShiftedClock:
    """The machine's clock, with an error in seconds."""

    error: float = 0.0

    def now(self) -> float:
        return time.time() + self.error


@dataclass
class Watching:
    """A sampler that serves one plan, which consumes all that it gets."""

    url: str
    namespace: str
    since: float
    settle: float = SETTLE
    phase: float | None = 0.0
    clock: ShiftedClock = ShiftedClock()
    interval: float = INTERVAL
    length: int = LENGTH
    blocks: list[Block] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.client = PrometheusClient(self.url, timeout=2.0, pause=0.05, now=self.clock.now)
        self.subscription = BlockSubscription(
            f"{self.namespace}.herokuapp.com",
            f"{self.namespace}.shop.svc.cluster.local",
            (self.namespace,),
            250.0,
            1000.0,
            self.length,
            self.since,
            scrape_seconds=self.interval,
        )
        self.sampler = Sampler(
            self.client,
            IstioDialect(),
            self.clock,
            settle=self.settle,
            timing=None
            if self.phase is None
            else ScrapeTiming({self.namespace: self.interval}, {self.interval: self.phase}),
            on_samples=self.consume,
        )
        self.sampler.watch("ns/pdf", self.subscription)

    def consume(self, key: str) -> None:
        self.blocks += self.sampler.take(key).blocks
        since = self.blocks[-1].end if self.blocks else self.subscription.since
        self.sampler.watch(key, replace(self.subscription, since=since))
        self.news.set()

    async def usable(self, more: int) -> None:
        """Wait for more usable blocks; the machine may be busy."""
        enough = more + sum(block.usable for block in self.blocks)
        async with asyncio.timeout(60):
            while sum(block.usable for block in self.blocks) < enough:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def sampling(*watching: Watching) -> AsyncIterator[None]:
    """Let samplers run."""
    tasks = [asyncio.create_task(one.sampler.run()) for one in watching]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for one in watching:
            await one.client.close()


Stamps = Mapping[tuple[str, str, str], set[float]]


async def stamps(url: str, found: dict[tuple[str, str, str], set[float]]) -> None:
    """Note when Prometheus scraped whom for whom: it stamps a scrape with its beginning."""
    client = PrometheusClient(url)
    for item in await client.query('up{namespace!=""}[10m]', time.time()):
        labels = item["metric"]
        key = labels["namespace"], labels["pod"], labels["job"]
        found[key] |= {at for at, up in item["values"] if up == "1"}
    await client.close()


async def interval_shows(url: str, namespace: str, interval: float) -> None:
    """Wait until the samples show the scrape interval: where a sampler learns it later, blocks begin anew."""
    client = PrometheusClient(url)

    async def seen() -> set[float | None]:
        found = await client.query(f'up{{namespace="{namespace}"}}[10m]', time.time())
        return {interval_of([at for at, _ in item["values"]]) for item in found}

    async with asyncio.timeout(30):
        while await seen() != {interval}:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(INTERVAL)
    await client.close()


def scrape_of(answered_at: float, scrapes: set[float], interval: float) -> float | None:
    """Take the scrape that an answer was for from those that are left, by their beginnings; ``None`` if it is not there.

    On a busy machine an answer comes late, so all that tells its scrape is that it began within an interval and is not that of
    an earlier answer.
    """
    stamp = max((at for at in scrapes if answered_at - interval < at <= answered_at), default=None)
    if stamp is not None:
        scrapes.remove(stamp)
    return stamp


def truth(gateways: Sequence[FakeGateway], found: Stamps, block: Block, by: str) -> tuple[Counts, Counts]:
    """Return what gateways counted in a block: what they had at the last scrape in it without what they had before."""
    heroku = eks = Counts()
    for gateway in gateways:
        before = last = Note(0.0, by, Counts(), Counts())
        scrapes = set(found[gateway.namespace, gateway.pod, by])
        for note in gateway.notes:
            if note.by != by:
                continue
            # Where there is no such scrape Prometheus failed over it; the next has it, too.
            stamp = scrape_of(note.at, scrapes, gateway.interval)
            if stamp is None:
                continue
            if stamp <= block.start:
                before = note
            if stamp <= block.end:
                last = note
        heroku += minus(last.heroku, before.heroku)
        eks += minus(last.eks, before.eks)
    return heroku, eks


def minus(one: Counts, other: Counts) -> Counts:
    return Counts(
        one.requests - other.requests,
        one.errors - other.errors,
        one.timed - other.timed,
        one.slow - other.slow,
        one.very_slow - other.very_slow,
    )


def compare(
    case: str, live: Watching, gateways: Sequence[FakeGateway], found: Stamps, by: str = "gateways"
) -> list[str]:
    """Assert that all usable blocks are the truth, and say how many there are; return why others are not usable."""
    blocks = live.blocks
    assert live.since <= blocks[0].start < live.since + 2 * live.length
    assert [block.end for block in blocks[:-1]] == [block.start for block in blocks[1:]]
    largest, requests = 0.0, 0.0
    for block in blocks:
        if block.usable:
            heroku, eks = truth(gateways, found, block, by)
            wrong = abs(block.heroku.requests - heroku.requests) + abs(block.eks.requests - eks.requests)
            largest, requests = max(largest, wrong), requests + block.requests
    gaps = [block.gap for block in blocks if not block.usable]
    print(
        f"{case}: {len(blocks)} blocks, {len(gaps) / len(blocks):.0%} unusable; "
        f"largest error {largest:g} of {requests:g} requests; waited {live.sampler.waits} times",
        *sorted(set(gaps)),
        sep="\n    ",
    )
    for block in blocks:
        if block.usable:
            assert (block.heroku, block.eks) == truth(gateways, found, block, by), case
    return gaps
