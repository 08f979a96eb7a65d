"""A team's own counters and gauges in a real Prometheus, against what the processes that were scraped know themselves.

Each fake app notes its own counts at every scrape: that is the truth. It never looks at what Prometheus or the runner
make of it.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.kit.metrics_server import MetricsServer
from tests.kit.real_prometheus import RealPrometheus
from tests.kit.scraped_gateways import scrape_of

from cutover.adapters.prometheus.client import PrometheusClient
from cutover.api.v1alpha1.gates import BoundSlo, Mode, RatioSlo
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.slo.bounds import judge
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.verdicts import Verdict
from cutover.ports.slo_feed import SloSubscription
from cutover.services.slo_feed import PrometheusSloFeed
from devstack.support import free_port

INTERVAL = 1.0
LENGTH = 2
KEY = "ns/pdf"


class Scrape(NamedTuple):
    """What an app's counters were when somebody read them."""

    at: float
    scraper: str
    life: int
    ok: int
    failed: int


class App:
    """One process: counts jobs, and makes some up at every scrape."""

    def __init__(self, pod: str, leg: str, *, most: int = 200, ok: int = 0) -> None:
        self.pod = pod
        self.leg = leg
        self.scrapes: list[Scrape] = []
        self.fails = False
        self.failing_scrapes = 0
        self.extra = ""
        self._most = most
        self._life, self._ok, self._failed = 0, ok, 0
        self._random = random.Random(pod)
        self._lock = threading.Lock()
        self._server: MetricsServer | None = None
        self.port = free_port()

    def start(self) -> None:
        self._server = MetricsServer(lambda path: self.scrape(path.rpartition("/")[2]) or None, self.port)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def restart(self) -> None:
        with self._lock:
            self._life, self._ok, self._failed = self._life + 1, 0, 0

    def scrape(self, scraper: str) -> str:
        with self._lock:
            if self.failing_scrapes:
                self.failing_scrapes -= 1
                return ""
            if self.scrapes:  # the first one finds a process that has done nothing since it is known
                self._ok += self._random.randint(0, self._most)
                self._failed += self._random.randint(0, 9) if self.fails else 0
            self.scrapes.append(Scrape(time.time(), scraper, self._life, self._ok, self._failed))
            lines = ["# TYPE jobs_total counter"]
            for result, value in (("ok", self._ok), ("failed", self._failed)):
                if value:
                    lines.append(f'jobs_total{{leg="{self.leg}",result="{result}"}} {value}')
            return "\n".join(lines) + "\n" + self.extra


class SystemClock:
    def now(self) -> float:
        return time.time()


def replicas(folder: Path, targets: list[tuple[App, str]]) -> RealPrometheus:
    """Return a Prometheus that has the samples of one or two replicas of an app, as Thanos would."""
    jobs = [
        {
            "job_name": f"{app.pod}-{replica}",
            "metrics_path": f"/metrics/{replica}",
            "scrape_interval": f"{INTERVAL:g}s",
            "scrape_timeout": f"{INTERVAL:g}s",
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{app.port}"],
                    "labels": {"job": "app", "namespace": "shop", "pod": app.pod}
                    | ({"prometheus_replica": replica} if replica else {}),
                }
            ],
        }
        for app, replica in targets
    ]
    return RealPrometheus(folder, jobs)


def ratio(name: str, template: str) -> CustomSlo:
    queries = tuple(
        template.replace("LEG", leg).replace("MORE", more) for leg in ("heroku", "eks") for more in (failed, "")
    )
    slo = RatioSlo.model_validate({"bad": "x", "total": "x", "scrapeInterval": "1s"})
    return CustomSlo(name, Mode.ENFORCE, slo, queries)


failed = ',result="failed"'
SELECTORS = ratio("selectors", 'jobs_total{leg="LEG"MORE}')
SUMS = ratio("sums", 'sum(jobs_total{leg="LEG",prometheus_replica!="b"MORE}) or vector(0)')


def bound(name: str, query: str, **more: Any) -> CustomSlo:
    slo = BoundSlo.model_validate({"query": "x", "max": 0.25, "for": "3s", "scrapeInterval": "1s", **more})
    return CustomSlo(name, Mode.ENFORCE, slo, (query,))


@dataclass
class Watching:
    """A runner that serves one plan, which consumes all that it gets."""

    own: PrometheusSloFeed
    gates: tuple[CustomSlo, ...]
    began: float
    blocks: dict[str, list[Block]]
    readings: dict[str, SloReading]

    def __call__(self, key: str) -> None:
        for name, reading in self.own.take(key).items():
            self.readings[name] = reading
            print(
                f"{time.time() % 1000:.1f} {name}: {[block.end % 1000 for block in reading.blocks]}", reading.problem
            )
            self.blocks[name] += reading.blocks
        self.watch()

    def watch(self) -> None:
        since = {gate.name: self.began for gate in self.gates if isinstance(gate.slo, RatioSlo)}
        since |= {name: blocks[-1].end for name, blocks in self.blocks.items() if blocks}
        self.own.watch(KEY, SloSubscription("", self.gates, LENGTH, since, self.began, frozenset({"baseline"})))

    @classmethod
    def start(cls, client: PrometheusClient, began: float, *gates: CustomSlo) -> Watching:
        own = PrometheusSloFeed(lambda source: client, SystemClock(), on_news=lambda key: watching(key), settle=0.5)
        watching = cls(own, gates, began, defaultdict(list), {})
        watching.watch()
        return watching


@pytest.fixture
async def client() -> AsyncIterator[list[PrometheusClient]]:
    clients: list[PrometheusClient] = []
    yield clients
    for one in clients:
        await one.close()


async def stamps(client: PrometheusClient, into: dict[tuple[str, str], set[float]]) -> None:
    """Note when Prometheus scraped whom: it stamps a scrape with its beginning."""
    for item in await client.query("up[10m]", time.time()):
        labels = item["metric"]
        into[labels["pod"], labels.get("prometheus_replica", "")] |= {at for at, up in item["values"] if up == "1"}


def truth(apps: list[App], times: dict[tuple[str, str], set[float]]) -> list[tuple[float, str, int, int]]:
    """Return what each scrape by the first replica added: time, leg, jobs, failures."""
    found = []
    for app in apps:
        scraper = min((scrape.scraper for scrape in app.scrapes), default="")
        scrapes, known = [], set(times[app.pod, "a" if scraper == "a" else ""])
        for scrape in app.scrapes:
            if scrape.scraper != scraper:
                continue
            if (stamp := scrape_of(scrape.at, known, INTERVAL)) is not None:
                scrapes.append(scrape._replace(at=stamp))
        for before, after in pairwise(scrapes):
            same = before.life == after.life
            failures = after.failed - (before.failed if same else 0)
            found.append((after.at, app.leg, after.ok - (before.ok if same else 0) + failures, failures))
    return found


def compared(title: str, blocks: list[Block], facts: list[tuple[float, str, int, int]]) -> tuple[float, int]:
    """Print the blocks with their error, and return the largest one of usable blocks and how many were usable."""
    largest = 0.0
    for block in blocks:
        legs = {"heroku": Counts(), "eks": Counts()}
        for at, leg, jobs, failures in facts:
            if block.start < at <= block.end:
                legs[leg] += Counts(jobs, failures)
        wrong = max(
            abs(found.requests - true.requests) + abs(found.errors - true.errors)
            for found, true in ((block.heroku, legs["heroku"]), (block.eks, legs["eks"]))
        )
        print(f"{title} {block.start % 1000:5.0f}: {wrong:g} wrong of {block.requests:g}", block.gap)
        if block.usable:
            largest = max(largest, wrong)
    usable = sum(block.usable for block in blocks)
    print(f"{title}: largest error {largest:g} in {usable} usable blocks of {len(blocks)}")
    return largest, usable


async def test_blocks_are_what_the_apps_counted(tmp_path: Path, client: list[PrometheusClient]) -> None:
    dyno, first, second, old = (
        App("dyno-1", "heroku"),
        App("pdf-1", "eks"),
        App("pdf-2", "eks"),
        App("pdf-3", "eks", ok=50_000),
    )
    apps = [dyno, first, second, old]
    prometheus = replicas(tmp_path, [(dyno, ""), (first, "a"), (first, "b"), (second, ""), (old, "")])
    dyno.start()
    first.start()
    await asyncio.to_thread(prometheus.start)
    client.append(PrometheusClient(prometheus.url, timeout=2.0, pause=0.05))
    times: dict[tuple[str, str], set[float]] = defaultdict(set)
    try:
        await asyncio.sleep(2 * INTERVAL)
        began = math.ceil(time.time() / LENGTH) * LENGTH
        live = Watching.start(client[0], began, SELECTORS, SUMS)
        task = asyncio.create_task(live.own.run())
        await asyncio.sleep(4)
        dyno.fails = first.fails = second.fails = True  # the first failures ever
        await asyncio.sleep(4)
        dyno.restart()
        await asyncio.sleep(3)
        second.start()  # a new pod, which did nothing yet
        await asyncio.sleep(4)
        first.stop()  # the one that it replaces
        await asyncio.sleep(4)
        dyno.failing_scrapes = 1
        await asyncio.sleep(4)
        old.start()  # one that has been there for long, and that Prometheus did not know
        await asyncio.sleep(4)
        await stamps(client[0], times)
        await asyncio.to_thread(prometheus.stop)
        await asyncio.to_thread(prometheus.start)
        await asyncio.sleep(7)
        await stamps(client[0], times)
        task.cancel()
        again = Watching.start(client[0], began, SELECTORS, SUMS)
        await asyncio.gather(*again.own.start_rounds())
    finally:
        prometheus.stop()
        for app in apps:
            app.stop()
    facts = truth(apps, times)
    for name in ("selectors", "sums"):
        blocks = live.blocks[name]
        assert blocks[0].start == began
        assert [block.end for block in blocks[:-1]] == [block.start for block in blocks[1:]]
        assert len(blocks) >= 14
    for blocks in (live.blocks["selectors"], again.blocks["selectors"]):
        largest, usable = compared("selectors", blocks, facts)
        assert largest == 0
        assert usable >= 10
    assert again.blocks["selectors"][: len(live.blocks["selectors"])] == live.blocks["selectors"]
    assert live.own.late_samples == 0
    gaps = " ".join(block.gap for block in live.blocks["selectors"])
    assert "scrape target pdf-3 is new" in gaps
    assert sum(block.eks.errors for block in live.blocks["selectors"]) > 0
    # A sum of counters cannot tell a restart or a new pod from events: the figure is for the documentation.
    compared("sums", live.blocks["sums"], facts)
    assert any("it fell" in block.gap for block in live.blocks["sums"])


async def test_bounds(tmp_path: Path, client: list[PrometheusClient]) -> None:
    app = App("pdf-1", "eks")
    long_ago = round(time.time() * 1000) - 5000
    app.extra = f'cold 0.1\nhot 0.9\nbroken NaN\npools{{pool="a"}} 1\npools{{pool="b"}} 2\nold 0.1 {long_ago}\n'
    prometheus = replicas(tmp_path, [(app, "")])
    app.start()
    await asyncio.to_thread(prometheus.start)
    client.append(PrometheusClient(prometheus.url, timeout=2.0, pause=0.05))
    gates = (
        bound("cold", 'cold{pod="pdf-1"}'),
        bound("hot", "max(hot) # the hottest"),
        bound("nan", "broken"),
        bound("stale", "old + cold"),
        bound("ambiguous", "pools"),
        bound("typo", "sum(cold"),
        bound("nothing", "cool"),
        bound("optional", "sum(cool) or vector(0)"),
        bound("baseline", "cold", timesBaseline=2),
    )
    try:
        live = Watching.start(client[0], time.time(), *gates)
        task = asyncio.create_task(live.own.run())
        await asyncio.sleep(9)
        task.cancel()
    finally:
        prometheus.stop()
        app.stop()
    now = time.time()
    said = {
        gate.name: judge(gate.slo, live.readings[gate.name], baseline=None, since=live.began, now=now)
        for gate in gates
        if isinstance(gate.slo, BoundSlo)
    }
    for name, judgement in said.items():
        print(name, judgement)
    assert {name: judgement.verdict for name, judgement in said.items()} == {
        "cold": Verdict.PASS,
        "hot": Verdict.FAIL,
        "nan": Verdict.NO_DATA,
        "stale": Verdict.NO_DATA,
        "ambiguous": Verdict.AMBIGUOUS,
        "typo": Verdict.QUERY_ERROR,
        "nothing": Verdict.NO_DATA,
        "optional": Verdict.PASS,
        "baseline": Verdict.NO_DATA,
    }
    assert "numbers" in said["nan"].why
    assert "the newest sample of old is" in said["stale"].why
    assert '2 series where one is expected, such as pool="a" and pool="b"' in said["ambiguous"].why
    assert "1:9: parse error" in said["typo"].why
    assert (said["hot"].outside_seconds or 0) >= 3, "for as long as its rule says"
