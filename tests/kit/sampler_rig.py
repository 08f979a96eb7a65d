"""A sampler on Prometheus in memory: traffic, scrapes and clocks go as a test wants."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from tests.kit.fake_tsdb import EKS, HEROKU, NAMESPACE, START, FakePrometheus, Gateway
from tests.kit.manual_clock import ManualClock

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.ports.block_feed import BlockSubscription
from cutover.services.sampler import Sampler
from cutover.services.scrape_timing import ScrapeTiming

LENGTH = 15
TARGET = BlockSubscription(HEROKU, EKS, (NAMESPACE,), 250.0, 1000.0, LENGTH, START)


class SamplerRig:
    """Traffic on a gateway, a scrape every 15 s by default, and a sampler that is asked as often as it wants."""

    def __init__(
        self, plans: int = 1, scrape_interval: float = 15.0, offset: float = 5.0, phase: float | None = 0.0
    ) -> None:
        self.timing = None if phase is None else ScrapeTiming({NAMESPACE: scrape_interval}, {scrape_interval: phase})
        self.clock, self.tsdb, self.gateway = ManualClock(), FakePrometheus(), Gateway("gw-0")
        self.woken: list[str] = []
        self.sampler = self.fresh()
        self.random = random.Random(7)
        self.plans = plans
        self.interval = scrape_interval
        self.next_scrape = START + offset - 2 * scrape_interval
        self.truth: dict[float, float] = {}
        self.run_to(START)

    def fresh(self) -> Sampler:
        self.sampler = Sampler(self.tsdb, IstioDialect(), self.clock, on_samples=self.woken.append, timing=self.timing)
        return self.sampler

    def set_clock(self, behind: float) -> None:
        """Let the operator's clock be so many seconds behind Prometheus'."""
        self.tsdb.ahead = behind
        self.clock.time = self.tsdb.now - behind

    def target(self, plan: int, since: float = START) -> BlockSubscription:
        return replace(TARGET, heroku=f"{plan}.{HEROKU}", eks=f"{plan}.{EKS}", since=since)

    def run_to(self, time: float) -> None:
        """Scrape until then, without asking."""
        while self.next_scrape <= time:
            for plan in range(self.plans):
                for leg in (f"{plan}.{HEROKU}", f"{plan}.{EKS}"):
                    times = self.random.randint(1, 50)
                    self.gateway.serve(leg, self.random.choice(["200", "503"]), 300.0, times)
            self.gateway.scrape(self.tsdb, self.next_scrape)
            self.next_scrape += self.interval
        self.tsdb.now = time
        self.clock.time = time - self.tsdb.ahead

    async def ask_at(self, time: float) -> None:
        self.run_to(time)
        await self.sampler.reconcile()

    async def read(self, blocks: int) -> None:
        """Let blocks go by, and be read when they can be."""
        for _ in range(blocks):
            await self.ask_at(math.floor(self.tsdb.now / LENGTH) * LENGTH + LENGTH + 1)
