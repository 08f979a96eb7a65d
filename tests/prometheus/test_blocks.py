"""Blocks from a real Prometheus against what its targets counted, on all kinds of messy data."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from pathlib import Path

from tests.kit.scraped_gateways import (
    INTERVAL,
    LENGTH,
    FakeGateway,
    ShiftedClock,
    Watching,
    compare,
    interval_shows,
    job,
    sampling,
    scraping,
    stamps,
)

#: Seconds between the scrapes of gateways that answer late. On a busy machine their scrapes take longer still, and a block waits
#: no longer for them than an interval.
SLOW = 1.5


async def test_blocks_are_what_the_gateways_counted(tmp_path: Path) -> None:
    """Resets, pods that come and go, scrapes that are missed, late, or made twice; operators with another time."""
    names = ("resets", "pods", "missed", "late", "replicas", "jobs")
    intervals = {"late": SLOW}
    resets, pods, missed, late, replicas, jobs = cases = [
        [FakeGateway(name, f"{name}-{number}", intervals.get(name, INTERVAL)) for number in range(2)] for name in names
    ]
    scrapes = [
        job("gateways", [*resets, *pods, *missed]),
        job("slow", late),
        job("replica-0", replicas, prometheus_replica="prometheus-0"),
        job("replica-1", replicas, prometheus_replica="prometheus-1"),
        job("again", jobs),
        job("once", jobs),
    ]
    everyone = [gateway for case in cases for gateway in case]
    async with scraping(tmp_path, everyone, scrapes) as prometheus:
        await interval_shows(prometheus.url, "late", SLOW)
        began = float(math.ceil(time.time() + 3 * INTERVAL))
        live = {name: Watching(prometheus.url, name, began) for name in names}
        # Blocks that end just after the scrapes, and no time for those to end.
        live["late"] = Watching(
            prometheus.url, "late", began, settle=0.02, phase=None, interval=SLOW, length=round(2 * SLOW)
        )
        # Both, as either may be the one whose scrape blocks end just after.
        for gateway in late:
            gateway.delays = (0.7, 0.8)
        slow, fast = (Watching(prometheus.url, "resets", began, clock=ShiftedClock(by)) for by in (-90.0, 90.0))
        async with sampling(*live.values(), slow, fast):
            for _ in range(3):
                await asyncio.sleep(2.5)
                resets[0].restart()
                replicas[1].refuse = 1
                missed[0].refuse = 1
                pods[1].stop()
                await asyncio.sleep(2.5)
                resets[1].restart()
                missed[1].refuse = 4
                pods[1].start()
            for gateway in late:
                gateway.delays = (0.0, 0.8)
            await asyncio.sleep(4)
        found: dict[tuple[str, str, str], set[float]] = defaultdict(set)
        await stamps(prometheus.url, found)
    for name, case in zip(names, cases, strict=True):
        by = {"late": "slow", "replicas": "replica-0", "jobs": "again"}.get(name, "gateways")
        gaps = compare(name, live[name], case, found, by)
        assert len(live[name].blocks) >= (3 if name == "late" else 7)
        assert len(gaps) <= len(live[name].blocks) - 2
    assert live["late"].sampler.waits
    for watching in (slow, fast):
        assert abs(watching.sampler.now() - time.time()) < 0.25
        compare(f"operator's clock {watching.clock.error:+g} s", watching, resets, found)
        # Either may have been stopped just before its last block.
        both = min(len(watching.blocks), len(live["resets"].blocks))
        assert watching.blocks[:both] == live["resets"].blocks[:both]
        assert max(len(watching.blocks), len(live["resets"].blocks)) <= both + 1


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
