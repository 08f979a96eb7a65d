"""Blocks from a real Prometheus against what its targets counted: restarts on both sides, a gateway that comes and goes.

Each fake gateway notes what it added to its counters before every scrape: that is the truth. It never looks at what
Prometheus or the sampler make of it.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from cutover.adapters.prometheus import PrometheusClient
from cutover.core.blocks import Block, Counts
from cutover.ports import Target
from cutover.sampler import Sampler
from devstack.build import ensure_programs

NAMESPACE = "istio-ingress"
HEROKU = "acme-pdf.herokuapp.com"
EKS = "pdf.shop.svc.cluster.local"
LENGTH = 2
INTERVAL = 0.5
SETTLE = 0.3
BOUNDS = (250.0, 1000.0, math.inf)


class FakeGateway:
    """Istio's metrics on a port, made up at each scrape."""

    def __init__(self, pod: str) -> None:
        self.pod = pod
        self.truth: list[tuple[float, Counts, Counts]] = []
        self._random = random.Random(pod)
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def start(self) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = gateway.scrape().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
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

    def scrape(self) -> str:
        with self._lock:
            self.truth.append((time.time(), self._serve(HEROKU, 0.01), self._serve(EKS, 0.05)))
            common = f'reporter="source",source_workload_namespace="{NAMESPACE}",destination_service='
            lines = ["# TYPE istio_requests_total counter"]
            lines += [
                f'istio_requests_total{{{common}"{leg}",response_code="{code}"}} {value}'
                for (leg, code), value in self._requests.items()
            ]
            name = "istio_request_duration_milliseconds"
            lines.append(f"# TYPE {name} histogram")
            for leg in (HEROKU, EKS):
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


class RealPrometheus:
    """A Prometheus process whose data can be thrown away."""

    def __init__(self, folder: Path, gateways: list[FakeGateway]) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        job = {
            "job_name": "gateways",
            "scrape_interval": f"{round(INTERVAL * 1000)}ms",
            "scrape_timeout": f"{round(INTERVAL * 1000)}ms",
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{gateway.port}"],
                    "labels": {"namespace": NAMESPACE, "pod": gateway.pod},
                }
                for gateway in gateways
            ],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    ensure_programs().prometheus,
                    f"--config.file={self._folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        with httpx.Client(trust_env=False) as http:
            for _ in range(200):
                try:
                    # It looks for its targets 5 s after its start.
                    if http.get(f"{self.url}/api/v1/query?query=up==1").json()["data"]["result"]:
                        return
                except (httpx.HTTPError, KeyError, ValueError):
                    pass
                time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self, *, lose_data: bool = False) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
        if lose_data:
            shutil.rmtree(self._folder / "data")


class SystemClock:
    def now(self) -> float:
        return time.time()


@dataclass
class Watching:
    """A sampler that serves one plan, which consumes all that it gets."""

    sampler: Sampler
    target: Target
    blocks: list[Block]

    def __call__(self, key: str) -> None:
        self.blocks += self.sampler.take(key).blocks
        since = self.blocks[-1].end if self.blocks else self.target.since
        self.sampler.watch(key, replace(self.target, since=since))

    @classmethod
    def start(cls, client: PrometheusClient, since: float) -> Watching:
        target = Target(HEROKU, EKS, (NAMESPACE,), 250.0, 1000.0, LENGTH, since)
        sampler = Sampler(
            client,
            SystemClock(),
            scrape_interval=INTERVAL,
            settle=SETTLE,
            phase=0.0,
            on_samples=lambda key: watching(key),
        )
        watching = cls(sampler, target, [])
        sampler.watch("ns/pdf", target)
        return watching


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[RealPrometheus, list[FakeGateway]]]:
    gateways = [FakeGateway("gw-0"), FakeGateway("gw-1")]
    prometheus = RealPrometheus(tmp_path, gateways)
    gateways[0].start()
    await asyncio.to_thread(prometheus.start)
    yield prometheus, gateways
    prometheus.stop()
    for gateway in gateways:
        gateway.stop()


async def scrapes(client: PrometheusClient, times: dict[str, set[float]]) -> None:
    """Note when Prometheus scraped whom: it stamps a scrape with its beginning."""
    for item in await client.query(f'up{{namespace="{NAMESPACE}"}}[10m]', time.time()):
        times[item["metric"]["pod"]] |= {at for at, up in item["values"] if up == "1"}


def counted(gateways: list[FakeGateway], times: dict[str, set[float]]) -> list[tuple[float, Counts, Counts]]:
    """Put what the gateways noted at the times that Prometheus gave to its scrapes."""
    truth = []
    for gateway in gateways:
        heroku = eks = Counts()
        for noted, more_heroku, more_eks in gateway.truth:
            heroku, eks = heroku + more_heroku, eks + more_eks
            stamp = max((at for at in times[gateway.pod] if noted - INTERVAL / 2 < at <= noted), default=None)
            if stamp is None:
                continue  # Prometheus died over it; the next scrape has it too
            truth.append((stamp, heroku, eks))
            heroku = eks = Counts()
    return truth


async def test_blocks_are_what_the_gateways_counted(parts: tuple[RealPrometheus, list[FakeGateway]]) -> None:
    prometheus, (first, second) = parts
    client = PrometheusClient(prometheus.url, timeout=2.0, pause=0.05)
    times: dict[str, set[float]] = defaultdict(set)
    began = math.ceil(time.time() + 2 * INTERVAL)
    live = Watching.start(client, began)
    task = asyncio.create_task(live.sampler.run())
    try:
        await asyncio.sleep(4)
        first.restart()
        await asyncio.sleep(2)
        second.start()
        await asyncio.sleep(3)
        second.stop()
        await asyncio.sleep(2)
        await scrapes(client, times)
        await asyncio.to_thread(prometheus.stop)
        await asyncio.to_thread(prometheus.start)
        await asyncio.sleep(4)
        await scrapes(client, times)
        replayed = Watching.start(client, began)
        await replayed.sampler.tick()
        lost = time.time()
        await asyncio.to_thread(prometheus.stop, lose_data=True)
        await asyncio.to_thread(prometheus.start)
        await asyncio.sleep(4)
        await scrapes(client, times)
    finally:
        task.cancel()
        await client.close()
    assert began <= live.blocks[0].start < began + LENGTH
    assert [block.end for block in live.blocks[:-1]] == [block.start for block in live.blocks[1:]]
    assert [block for block in live.blocks if block.end < lost - LENGTH] == [
        block for block in replayed.blocks if block.end < lost - LENGTH
    ]
    truth = counted([first, second], times)
    usable = [block for block in live.blocks if block.usable]
    largest_error = 0.0
    for block in live.blocks:
        heroku = eks = Counts()
        for stamp, more_heroku, more_eks in truth:
            if block.start < stamp <= block.end:
                heroku, eks = heroku + more_heroku, eks + more_eks
        wrong = abs(block.requests - heroku.requests - eks.requests)
        print(f"{block.start - began:+6.2f} s: {wrong:g} of {block.requests:g} requests wrong", block.gap)
        if block.usable:
            largest_error = max(largest_error, wrong)
            assert (block.heroku, block.eks) == (heroku, eks)
    assert largest_error == 0
    assert len(usable) >= 5
    assert any("gw-1 is new" in block.gap for block in live.blocks)
    assert any(block.gap == "no samples" for block in live.blocks)
    assert live.blocks[-1].usable
    assert live.sampler.late_scrapes == 0
