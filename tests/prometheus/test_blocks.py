"""Blocks from a real Prometheus against what its targets counted, on all kinds of messy data.

Each fake gateway notes what it added to its counters before every scrape: that is the truth. It never looks at what
Prometheus or the sampler make of it.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.kit.real_prometheus import RealPrometheus

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.evidence.blocks import Block, Counts
from cutover.ports.block_feed import BlockSubscription
from cutover.services.sampler import Sampler
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

    def __init__(self, namespace: str, pod: str) -> None:
        self.namespace, self.pod = namespace, pod
        self.legs = f"{namespace}.herokuapp.com", f"{namespace}.shop.svc.cluster.local"
        self.notes: list[Note] = []
        self.refuse = 0  # so many scrapes
        self.delays: tuple[float, ...] = (0.0,)  # one of them per scrape
        self._random = random.Random(pod)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._server: ThreadingHTTPServer | None = None
        self.port = free_port()

    def start(self) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if gateway.refuse:
                    gateway.refuse -= 1
                    self.send_error(500)
                    return
                body = gateway.scrape(self.path.partition("by=")[2]).encode()
                time.sleep(random.choice(gateway.delays))
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.handle_error = lambda *args: None  # type: ignore[assignment]  # a scrape that timed out
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
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
    """Return a scrape configuration."""
    return {
        "job_name": name,
        "scrape_interval": f"{round(INTERVAL * 1000)}ms",
        "scrape_timeout": f"{round(INTERVAL * 1000)}ms",
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
            LENGTH,
            self.since,
        )
        self.sampler = Sampler(
            self.client,
            IstioDialect(),
            self.clock,
            scrape_interval=INTERVAL,
            settle=self.settle,
            phase=self.phase,
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
    for item in await client.query("up[10m]", time.time()):
        labels = item["metric"]
        key = labels["namespace"], labels["pod"], labels["job"]
        found[key] |= {at for at, up in item["values"] if up == "1"}
    await client.close()


def truth(gateways: Sequence[FakeGateway], found: Stamps, block: Block, by: str) -> tuple[Counts, Counts]:
    """Return what gateways counted in a block: what they had at the last scrape in it without what they had before."""
    heroku = eks = Counts()
    for gateway in gateways:
        before = last = Note(0.0, by, Counts(), Counts())
        scrapes = found[gateway.namespace, gateway.pod, by]
        for note in gateway.notes:
            if note.by != by:
                continue
            # Where there is no such scrape Prometheus failed over it; the next has it, too.
            stamp = max((at for at in scrapes if note.at - INTERVAL / 2 < at <= note.at), default=math.inf)
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
    assert live.since <= blocks[0].start < live.since + 2 * LENGTH
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


async def test_blocks_are_what_the_gateways_counted(tmp_path: Path) -> None:
    """Resets, pods that come and go, scrapes that are missed, late, or made twice; operators with another time."""
    names = ("resets", "pods", "missed", "late", "replicas", "jobs")
    resets, pods, missed, late, replicas, jobs = cases = [
        [FakeGateway(name, f"{name}-0"), FakeGateway(name, f"{name}-1")] for name in names
    ]
    scrapes = [
        job("gateways", [*resets, *pods, *missed, *late]),
        job("replica-0", replicas, prometheus_replica="prometheus-0"),
        job("replica-1", replicas, prometheus_replica="prometheus-1"),
        job("again", jobs),
        job("once", jobs),
    ]
    everyone = [gateway for case in cases for gateway in case]
    async with scraping(tmp_path, everyone, scrapes) as prometheus:
        began = float(math.ceil(time.time() + 3 * INTERVAL))
        live = {name: Watching(prometheus.url, name, began) for name in names}
        # Blocks that end just after the scrapes, and no time for those to end.
        live["late"] = Watching(prometheus.url, "late", began, settle=0.02, phase=None)
        slow, fast = (Watching(prometheus.url, "resets", began, clock=ShiftedClock(by)) for by in (-90.0, 90.0))
        async with sampling(*live.values(), slow, fast):
            for _ in range(3):
                await asyncio.sleep(2.5)
                # Both, as either may be the one whose scrape blocks end just after.
                for gateway in late:
                    gateway.delays = (0.0, 0.4, 0.45)
                resets[0].restart()
                replicas[1].refuse = 1
                missed[0].refuse = 1
                pods[1].stop()
                await asyncio.sleep(2.5)
                resets[1].restart()
                missed[1].refuse = 4
                pods[1].start()
            await asyncio.sleep(4)
        found: dict[tuple[str, str, str], set[float]] = defaultdict(set)
        await stamps(prometheus.url, found)
    for name, case in zip(names, cases, strict=True):
        gaps = compare(name, live[name], case, found, {"replicas": "replica-0", "jobs": "again"}.get(name, "gateways"))
        assert len(live[name].blocks) >= 7
        assert len(gaps) <= len(live[name].blocks) - 2
    assert live["late"].sampler.waits
    for watching in (slow, fast):
        assert abs(watching.sampler.now() - time.time()) < 0.25
        compare(f"operator's clock {watching.clock.error:+g} s", watching, resets, found)
        assert watching.blocks == live["resets"].blocks[: len(watching.blocks)]
        assert abs(len(watching.blocks) - len(live["resets"].blocks)) <= 1


async def test_restarts_of_prometheus(tmp_path: Path) -> None:
    """With its data, and without; what is read again afterwards is the same."""
    gateways = [FakeGateway("gateways", f"gw-{number}") for number in range(2)]
    found: dict[tuple[str, str, str], set[float]] = defaultdict(set)
    async with scraping(tmp_path, gateways, [job("gateways", gateways)]) as prometheus:
        began = float(math.ceil(time.time() + 3 * INTERVAL))
        live = Watching(prometheus.url, "gateways", began)
        async with sampling(live):
            await live.usable(2)
            await stamps(prometheus.url, found)
            await asyncio.to_thread(prometheus.stop)
            gateways[0].restart()
            await asyncio.to_thread(prometheus.start)
            await live.usable(2)
            await stamps(prometheus.url, found)
            replayed = Watching(prometheus.url, "gateways", began)
            await replayed.sampler.reconcile()
            await replayed.client.close()
            lost = time.time()
            await asyncio.to_thread(prometheus.stop, lose_data=True)
            await asyncio.to_thread(prometheus.start)
            await live.usable(2)
            await stamps(prometheus.url, found)
    gaps = compare("Prometheus restarted, then without its data", live, gateways, found)
    assert [block for block in live.blocks if block.end < lost - LENGTH] == [
        block for block in replayed.blocks if block.end < lost - LENGTH
    ]
    assert "no samples" in gaps
    assert any("is new" in gap for gap in gaps)
