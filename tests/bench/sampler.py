"""What the shared queries for blocks cost: ``make bench-sampler``, or ``python tests/bench/sampler.py [--plans 1 100 1000]``.

A real Prometheus scrapes two gateways' counters, made up by an exporter in a process of its own with the labels that
Istio gives them; a real sampler, in another process, serves so many plans from it. Of the histogram's 20 buckets the
exporter has the three that the sampler asks for, as the rest would only burden the scrape. Each block is checked: it has
to be usable, and to have exactly as many requests as the exporter counted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ParamSpec, TypeVar

import yaml
from measuring import Memory, mesh_labels, samples
from rich import box
from rich.console import Console
from rich.table import Table

import cutover.services.reading
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.counting import Reading
from cutover.ports.block_feed import BlockSubscription
from cutover.services.sampler import Sampler
from devstack.build import ensure_programs
from devstack.support import free_port

INTERVAL = 15
NAMESPACE = "istio-ingress"
PODS = ("istio-ingress-7d9c5b6f4-k2x8p", "istio-ingress-7d9c5b6f4-w9qtz")
#: Response codes and Envoy's flags that a busy service has.
CODES = (("200", "-"), ("302", "-"), ("404", "-"), ("503", "UC"), ("0", "DC"))
BOUNDS = ("250", "1000", "+Inf")
#: Requests that each series gains by a scrape.
GAIN = 3
P, T = ParamSpec("P"), TypeVar("T")
_HANDLER = {"handler": "/api/v1/query"}


def legs(plan: int) -> tuple[str, str]:
    """Return the destinations of a plan."""
    return f"acme-service-{plan}-1a2b3c4d5e6f.herokuapp.com", f"service-{plan}.team-{plan % 20}.svc.cluster.local"


# ------------------------------------------------------------------------------------------------------------ exporter


def export(plans: int, ports: list[int]) -> None:
    """Serve the counters of so many plans, one gateway on each port, for ever."""
    heads = [head for plan in range(plans) for leg in legs(plan) for head in _series(leg)]
    heads.sort(key=lambda head: head.split("{")[0])

    def handler() -> type[BaseHTTPRequestHandler]:
        scrapes = itertools.count(1)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                value = f" {next(scrapes) * GAIN}\n"
                body = (value.join(heads) + value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    servers = [ThreadingHTTPServer(("127.0.0.1", port), handler()) for port in ports]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()


def _series(leg: str) -> Iterator[str]:
    common = mesh_labels(leg, NAMESPACE)
    for code, flags in CODES:
        labels = ",".join(
            f'{label}="{value}"' for label, value in {**common, "response_code": code, "response_flags": flags}.items()
        )
        yield f"istio_requests_total{{{labels}}}"
        for bound in BOUNDS:
            yield f'istio_request_duration_milliseconds_bucket{{{labels},le="{bound}"}}'


@contextmanager
def prometheus(folder: Path, plans: int) -> Iterator[str]:
    """Run an exporter and a Prometheus that scrapes it; yield its URL."""
    gateways = [free_port() for _ in PODS]
    port = free_port()
    config = {
        "scrape_configs": [
            {
                "job_name": "gateways",
                "scrape_interval": f"{INTERVAL}s",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{gateway}"], "labels": {"namespace": NAMESPACE, "pod": pod}}
                    for pod, gateway in zip(PODS, gateways, strict=True)
                ],
            }
        ]
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        str(ensure_programs().prometheus),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        processes = [
            subprocess.Popen([sys.executable, __file__, "--export", str(plans), *map(str, gateways)]),
            subprocess.Popen(command, stdout=log, stderr=log),
        ]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        for process in processes:
            process.kill()
            process.wait()


# ----------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Cost:
    """What serving so many plans took, per tick where nothing else is said.

    Parameters
    ----------
    plans
        How many.
    ticks
        In how many ticks it was measured.
    queries
        Asked.
    mebibytes
        Of the answers.
    cpu
        Milliseconds of this process.
    cutting
        Milliseconds of them for making blocks of the answers; nearly all others are for HTTP and JSON.
    answering
        Milliseconds that Prometheus took, by its own count.
    late
        Milliseconds from the moment at which a block could be read to the delivery of it: median of the plans, and last.
    rss, peak
        Resident MiB of the process at the end, and at most.
    """

    plans: int
    ticks: int
    queries: float
    mebibytes: float
    cpu: float
    cutting: float
    answering: float
    late: tuple[float, float]
    rss: float
    peak: float


class Stopwatch:
    """Adds up the CPU time that some functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function, timed."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            before = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - before

        return call


class _Clock:
    def now(self) -> float:
        return time.time()


async def measure(url: str, plans: int, ticks: int) -> Cost:
    """Serve so many plans for so many ticks, after two to warm up. Raises AssertionError where a block is wrong."""
    client, cutting = PrometheusClient(url), Stopwatch()
    setattr(Reading, "add_counters", cutting.timed(Reading.add_counters))  # noqa: B010
    setattr(cutover.services.reading, "cut", cutting.timed(cutover.services.reading.cut))  # noqa: B010
    targets: dict[str, BlockSubscription] = {}
    late: list[float] = []
    blocks: list[Block] = []
    news = asyncio.Event()

    def deliver(key: str) -> None:
        taken = sampler.take(key)
        assert not taken.error, taken.error
        now = time.time()
        late.extend(now - block.end - sampler.settle for block in taken.blocks[-1:])
        blocks.extend(taken.blocks)
        news.set()
        if taken.blocks:
            targets[key] = replace(targets[key], since=taken.blocks[-1].end)
            sampler.watch(key, targets[key])

    sampler = Sampler(client, IstioDialect(), _Clock(), on_samples=deliver)
    for plan in range(plans):
        key = f"team-{plan % 20}/service-{plan}"
        targets[key] = BlockSubscription(*legs(plan), (NAMESPACE,), 250.0, 1000.0, INTERVAL, time.time())
        sampler.watch(key, targets[key])
    task = asyncio.create_task(sampler.run())

    async def reconcile(number: int) -> None:
        while len(blocks) < number * plans:
            news.clear()
            await news.wait()

    await reconcile(2)
    await asyncio.sleep(2.0)
    late.clear()
    queries, cpu, cut, answers = sampler.queries, time.process_time(), cutting.seconds, _answers(url)
    await reconcile(2 + ticks)
    cpu, cut = time.process_time() - cpu, cutting.seconds - cut
    queries, memory = sampler.queries - queries, Memory.of(os.getpid())
    answered = {name: value - answers[name] for name, value in _answers(url).items()}
    task.cancel()
    await client.close()
    gaps = {block.gap for block in blocks[plans:] if not block.usable}
    assert not gaps, gaps
    expected = len(PODS) * GAIN * (len(CODES) - 1)
    wrong = max(abs(leg.requests - expected) for block in blocks[plans:] for leg in (block.heroku, block.eks))
    assert wrong == 0, f"{wrong:g} requests wrong"
    return Cost(
        plans,
        ticks,
        queries / ticks,
        answered["prometheus_http_response_size_bytes_sum"] / ticks / (1 << 20),
        1000 * cpu / ticks,
        1000 * cut / ticks,
        1000 * answered["prometheus_http_request_duration_seconds_sum"] / ticks,
        (1000 * statistics.median(late), 1000 * max(late)),
        memory.rss,
        memory.peak,
    )


def _answers(url: str) -> dict[str, float]:
    names = ("prometheus_http_response_size_bytes_sum", "prometheus_http_request_duration_seconds_sum")
    found = dict.fromkeys(names, 0.0)
    for sample in samples(f"{url}/metrics"):
        if sample.name in found and sample.labels == _HANDLER:
            found[sample.name] += sample.value
    return found


# ------------------------------------------------------------------------------------------------------------- running


def table(costs: list[Cost]) -> Table:
    """Return what is printed."""
    shown = Table(box=box.MARKDOWN)
    shown.add_column("per tick of 15 s")
    for cost in costs:
        shown.add_column(f"{cost.plans:,} plans" if cost.plans > 1 else "1 plan", justify="right")
    rows = {
        "queries": lambda c: f"{c.queries:g}",
        "answers, MiB": lambda c: f"{c.mebibytes:.2f}",
        "CPU, ms": lambda c: f"{c.cpu:.1f}",
        "– of it cutting": lambda c: f"{c.cutting:.1f}",
        "CPU per plan and minute, ms": lambda c: f"{c.cpu * 60 / INTERVAL / c.plans:.2f}",
        "Prometheus' time to answer, ms": lambda c: f"{c.answering:.1f}",
        "delivered after, ms: median / last": lambda c: f"{c.late[0]:.0f} / {c.late[1]:.0f}",
        "memory, MiB: at the end / peak": lambda c: f"{c.rss:.0f} / {c.peak:.0f}",
    }
    for name, value in rows.items():
        shown.add_row(name, *(value(cost) for cost in costs))
    return shown


def main() -> int:
    """Run the bench; 0 unless it broke or a block was wrong."""
    parser = argparse.ArgumentParser(prog="sampler.py", description="What the shared queries for blocks cost.")
    parser.add_argument("--plans", type=int, nargs="+", default=[1, 100, 1000], metavar="N", help="numbers of plans")
    parser.add_argument("--ticks", type=int, default=8, help="ticks to measure, after three to warm up")
    parser.add_argument("--export", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        export(options.export[0], options.export[1:])
        return 0
    if options.measure:
        cost = asyncio.run(measure(options.measure, options.plans[0], options.ticks))
        json.dump(asdict(cost), sys.stdout)
        return 0
    costs = []
    for plans in options.plans:
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as scratch, prometheus(Path(scratch), plans) as url:
            # Two scrapes of each gateway, or the first block would have no beginning.
            time.sleep(5 + 2 * INTERVAL)
            # In a process of its own, so that one number of plans does not leave its memory to the next.
            command = [
                sys.executable,
                __file__,
                "--measure",
                url,
                "--plans",
                str(plans),
                "--ticks",
                str(options.ticks),
            ]
            answer = subprocess.run(
                command, stdout=subprocess.PIPE, check=True, timeout=INTERVAL * (options.ticks + 20)
            )
            found = json.loads(answer.stdout)
            costs.append(Cost(**found | {"late": tuple(found["late"])}))
            Console(width=160, highlight=False).print(table(costs[-1:]))
    Console(width=160, highlight=False).print(table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
