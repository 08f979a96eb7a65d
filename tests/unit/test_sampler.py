"""Delivery: each block once, in order, without holes, from as few queries as can be."""

from __future__ import annotations

import asyncio
import math
import random
import re
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_tsdb import EKS, HEROKU, NAMESPACE, START, FakePrometheus, Gateway

from cutover.core.blocks import Block
from cutover.ports import Target, Unavailable
from cutover.sampler import OLDEST_BLOCK, Sampler, best_phase

LENGTH = 15
TARGET = Target(HEROKU, EKS, (NAMESPACE,), 250.0, 1000.0, LENGTH, START)


@dataclass
class Clock:
    time: float = START

    def now(self) -> float:
        return self.time


class World:
    """Traffic on a gateway, a scrape every 15 s, and a sampler that is asked as often as it wants."""

    def __init__(
        self, plans: int = 1, scrape_interval: float = 15.0, offset: float = 5.0, phase: float | None = 0.0
    ) -> None:
        self.phase = phase
        self.clock, self.tsdb, self.gateway = Clock(), FakePrometheus(), Gateway("gw-0")
        self.woken: list[str] = []
        self.sampler = self.fresh()
        self.random = random.Random(7)
        self.plans = plans
        self.interval = scrape_interval
        self.next_scrape = START + offset - 2 * scrape_interval
        self.truth: dict[float, float] = {}
        self.run_to(START)

    def fresh(self) -> Sampler:
        self.sampler = Sampler(self.tsdb, self.clock, on_samples=self.woken.append, phase=self.phase)
        return self.sampler

    def target(self, plan: int, since: float = START) -> Target:
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
        self.clock.time = self.tsdb.now = time

    async def ask_at(self, time: float) -> None:
        self.run_to(time)
        await self.sampler.tick()

    async def read(self, blocks: int) -> None:
        """Let blocks go by, and be read when they can be."""
        for _ in range(blocks):
            await self.ask_at(math.floor(self.clock.time / LENGTH) * LENGTH + LENGTH + 1)


def ends(blocks: tuple[Block, ...]) -> list[float]:
    return [block.end - START for block in blocks]


@pytest.fixture
def world() -> World:
    return World()


async def test_block_is_delivered_when_it_has_settled(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.ask_at(START + 15.9)
    assert world.sampler.take("ns/0").blocks == ()
    assert not world.tsdb.queries
    await world.ask_at(START + 16)
    (block,) = world.sampler.take("ns/0").blocks
    assert (block.start, block.end) == (START, START + 15)
    assert block.usable
    assert 0 < block.heroku.requests <= 50
    assert world.woken == ["ns/0"]
    assert world.sampler.take("ns/0").blocks == ()


async def test_blocks_are_complete_consecutive_and_not_repeated(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    for step in (1, 3, 1, 7, 2):
        await world.read(step)
        blocks = world.sampler.take("ns/0").blocks
        world.sampler.watch("ns/0", world.target(0, since=blocks[-1].end))
        got += blocks
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(14)]
    assert all(block.usable for block in got)
    before_start = sum(v for (d, _), v in World().gateway.requests.items() if d.endswith(HEROKU))
    assert sum(block.heroku.requests for block in got) + before_start == sum(
        value for (destination, _), value in world.gateway.requests.items() if destination.endswith(HEROKU)
    )


@pytest.mark.parametrize("since", [START - 8, START, START + 7.3])
async def test_first_block_is_the_first_that_starts_after_since(world: World, since: float) -> None:
    world.sampler.watch("ns/0", world.target(0, since))
    await world.read(3)
    first = world.sampler.take("ns/0").blocks[0]
    assert since <= first.start < since + LENGTH


async def test_replay_after_a_restart_gives_the_same_blocks() -> None:
    world = World(plans=5)
    for plan in range(5):
        world.sampler.watch(f"ns/{plan}", world.target(plan))
    await world.read(40)
    live = {plan: world.sampler.take(f"ns/{plan}").blocks for plan in range(5)}
    restarted = world.fresh()
    for plan in range(5):
        restarted.watch(f"ns/{plan}", world.target(plan, since=START + plan * LENGTH * 3))
    await restarted.tick()
    for plan in range(5):
        assert restarted.take(f"ns/{plan}").blocks == live[plan][3 * plan :]


async def test_long_replay_is_fetched_in_pieces_and_in_order(world: World) -> None:
    world.run_to(START + 3 * 3600 + 1)
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    while len(got) < 720:
        world.tsdb.queries.clear()
        await world.sampler.tick()
        assert len(world.tsdb.queries) == 3
        got += world.sampler.take("ns/0").blocks
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(720)]
    assert all(block.usable for block in got)


async def test_a_replay_that_is_too_much_at_once_is_fetched_in_smaller_pieces(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = world.tsdb.query

    async def limited(promql: str, at: float) -> list[dict[str, Any]]:
        window = re.search(r"\[(\d+)ms\]", promql)
        if window and int(window[1]) > 600_000:
            raise Unavailable("Prometheus at prom:9090 answered more than 64 MiB")
        return await ask(promql, at)

    monkeypatch.setattr(world.tsdb, "query", limited)
    world.run_to(START + 3600 + 1)
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    for _ in range(20):
        await world.sampler.tick()
        got += world.sampler.take("ns/0").blocks
        world.run_to(world.clock.time + 5)
    assert len(got) >= 240
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(len(got))]
    assert world.sampler.take("ns/0").error == ""
    assert world.sampler.errors <= 3, "once it is known how much is too much, it is not tried again and again"


async def test_replay_is_bounded(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0, since=0.0))
    await world.read(1)
    assert world.sampler.take("ns/0").blocks[0].end >= world.clock.time - OLDEST_BLOCK - LENGTH


async def test_outage_is_told_and_blocks_come_later(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(1)
    world.sampler.take("ns/0")
    world.tsdb.down = "Prometheus at prom:9090 cannot be connected to"
    world.woken.clear()
    await world.read(1)
    began = world.clock.time
    await world.read(3)
    assert world.woken == ["ns/0"]
    samples = world.sampler.take("ns/0")
    assert (samples.blocks, samples.error, samples.error_since) == ((), world.tsdb.down, began)
    assert world.sampler.errors == 4
    world.tsdb.down = ""
    world.woken.clear()
    await world.read(1)
    samples = world.sampler.take("ns/0")
    assert (ends(samples.blocks), samples.error, samples.error_since) == ([30, 45, 60, 75, 90], "", 0.0)
    assert all(block.usable for block in samples.blocks)
    assert world.woken == ["ns/0"]


async def test_prometheus_is_not_pressed_in_an_outage(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.tsdb.down = "down"
    await world.read(1)
    for seconds in (1, 2, 3, 4):
        await world.ask_at(START + 16 + seconds)
    assert len(world.tsdb.queries) == 1
    await world.ask_at(START + 21)
    assert len(world.tsdb.queries) == 2


async def test_trouble_of_one_group_is_not_that_of_the_others(world: World) -> None:
    world.sampler.watch("ns/15", world.target(0))
    world.sampler.watch("ns/30", replace(world.target(1), block_seconds=30))

    class Partly(FakePrometheus):
        async def query(self, promql: str, at: float):  # type: ignore[no-untyped-def]
            if f"1\\\\.{HEROKU.split('.')[0]}" in promql:
                raise Unavailable("too much")
            return await world.tsdb.query(promql, at)

    world.sampler._prometheus = Partly()
    await world.read(2)
    assert len(world.sampler.take("ns/15").blocks) == 2
    assert world.sampler.take("ns/30").error == "too much"


async def test_answer_of_another_shape_is_an_outage(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.tsdb.add(START + 9, 1, __name__="istio_requests_total", reporter="source", destination_service=f"0.{EKS}")
    world.tsdb.add(
        START + 9,
        1,
        __name__="istio_request_duration_milliseconds_bucket",
        reporter="source",
        source_workload_namespace=NAMESPACE,
        destination_service=f"0.{EKS}",
        le="250",
    )

    async def odd(promql: str, at: float) -> list[dict[str, object]]:
        return [{"metric": {}, "values": [[1, "x"]]}]

    world.tsdb.query = odd  # type: ignore[method-assign, assignment]
    await world.read(1)
    assert "not understood" in world.sampler.take("ns/0").error


async def test_plan_that_goes_back_gets_the_same_blocks_again(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(10)
    first = world.sampler.take("ns/0").blocks
    world.tsdb.queries.clear()
    # A conflict: what was decided on them is void, the plan is read again as it was stored.
    world.sampler.watch("ns/0", world.target(0, START + 4 * LENGTH))
    assert world.sampler.take("ns/0").blocks == first[4:]
    assert not world.tsdb.queries
    # And a conflict at the very first pass, where since has not changed at all.
    world.sampler.watch("ns/0", world.target(0, START + 4 * LENGTH))
    assert world.sampler.take("ns/0").blocks == first[4:]


async def test_plan_that_goes_back_far_is_read_again(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(50)
    first = world.sampler.take("ns/0").blocks
    world.sampler.watch("ns/0", world.target(0, START + 49 * LENGTH))
    world.sampler.watch("ns/0", world.target(0, START + LENGTH))
    await world.sampler.tick()
    assert world.sampler.take("ns/0").blocks == first[1:]


async def test_plan_that_does_not_consume_is_not_read_over_and_over(world: World) -> None:
    for _ in range(40):
        world.sampler.watch("ns/0", world.target(0))
        world.sampler.take("ns/0")
        await world.read(1)
    assert len(world.tsdb.queries) == 40 * 3


async def test_plan_that_skips_ahead(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    world.sampler.watch("ns/0", world.target(0, since=START + 3 * LENGTH))
    assert ends(world.sampler.take("ns/0").blocks) == [60]
    world.sampler.watch("ns/0", world.target(0, since=START + 8 * LENGTH))
    await world.read(5)
    assert ends(world.sampler.take("ns/0").blocks) == [135]


async def test_other_legs_or_length_begin_anew(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    world.sampler.watch("ns/0", replace(world.target(0), block_seconds=30))
    assert world.sampler.take("ns/0").blocks == ()
    await world.sampler.tick()
    assert ends(world.sampler.take("ns/0").blocks) == [30, 60]


async def test_new_thresholds_apply_to_later_blocks(world: World) -> None:
    world.sampler.watch("ns/0", replace(world.target(0), slow_ms=None, very_slow_ms=None))
    await world.read(2)
    world.sampler.watch("ns/0", world.target(0))
    await world.read(1)
    blocks = world.sampler.take("ns/0").blocks
    assert [block.eks.slow for block in blocks[:2]] == [0, 0]
    assert blocks[2].eks.slow == blocks[2].eks.timed > 0


async def test_forgotten_plans_cost_nothing(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.sampler.forget("ns/0")
    world.sampler.forget("ns/0")
    await world.read(2)
    assert not world.tsdb.queries
    assert world.sampler.take("ns/0").blocks == ()


async def test_plan_forgotten_while_prometheus_thinks(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.run_to(START + 16)
    answer = world.tsdb.query

    async def query(promql: str, at: float) -> list[dict[str, object]]:
        world.sampler.forget("ns/0")
        world.sampler.watch("ns/0", world.target(0, since=START + LENGTH))
        return await answer(promql, at)

    world.tsdb.query = query  # type: ignore[method-assign, assignment]
    await world.sampler.tick()
    assert world.sampler.take("ns/0").blocks == ()


async def test_plan_that_does_not_take_is_not_served_for_ever(world: World) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.run_to(START + 6 * 3600)
    for _ in range(10):
        await world.sampler.tick()
    assert len(world.sampler.take("ns/0").blocks) < 1300
    before = len(world.tsdb.queries)
    await world.sampler.tick()
    assert len(world.tsdb.queries) > before


@pytest.mark.parametrize(("plans", "queries"), [(1, 3), (100, 3), (300, 9)])
async def test_queries_do_not_grow_with_plans(plans: int, queries: int) -> None:
    world = World(plans=plans)
    for plan in range(plans):
        world.sampler.watch(f"ns/{plan}", world.target(plan))
    await world.read(1)
    assert len(world.tsdb.queries) == queries
    for plan in range(plans):
        (block,) = world.sampler.take(f"ns/{plan}").blocks
        assert block.usable
        assert block.heroku.requests > 0
    world.tsdb.queries.clear()
    await world.read(1)
    assert len(world.tsdb.queries) == queries


async def test_plans_of_other_gateways_in_one_query() -> None:
    world = World(plans=2)
    world.sampler.watch("ns/0", world.target(0))
    world.sampler.watch("ns/1", replace(world.target(1), gateway_namespaces=("elsewhere",)))
    await world.read(1)
    assert world.sampler.take("ns/0").blocks[0].usable
    assert world.sampler.take("ns/1").blocks[0].gap == "no samples"


async def test_settling_adapts_to_scrapes_that_are_seen_late() -> None:
    world = World(offset=14.9)  # just before the end of each block
    world.tsdb.delay = 3.0  # and long: it is seen 1.9 s too late
    world.sampler.watch("ns/0", world.target(0))
    for seconds in range(int(10 * LENGTH)):
        await world.ask_at(START + seconds)
    assert world.sampler.late_scrapes == 4
    assert world.sampler.settle == 4.0
    blocks = world.sampler.take("ns/0").blocks
    assert ends(blocks) == [15.0 * (number + 1) for number in range(len(blocks))]
    assert all(block.requests > 0 for block in blocks[4:])


async def test_histogram_of_a_short_baseline_is_exact(world: World) -> None:
    world.run_to(START + 301)
    world.sampler.watch("ns/0", world.target(0))
    await world.sampler.tick()
    blocks = world.sampler.take("ns/0").blocks
    timed = sum(block.heroku.timed for block in blocks)
    histogram = await world.sampler.histogram(world.target(0))
    assert histogram.cumulative == {250.0: 0.0, 1000.0: timed, math.inf: timed}
    assert histogram.total == timed


async def test_histogram_of_a_long_baseline(world: World) -> None:
    world.run_to(START + 3600)
    histogram = await world.sampler.histogram(world.target(0))
    assert list(histogram.cumulative) == [250.0, 1000.0, math.inf]
    assert histogram.cumulative[250.0] == 0
    assert histogram.total > 3000
    assert 'response_code!="0"' in world.tsdb.queries[-1][0]


async def test_histogram_before_anything(world: World) -> None:
    assert (await world.sampler.histogram(world.target(0, since=START + 99))).total == 0
    assert (await world.sampler.histogram(world.target(77))).cumulative == {}
    world.tsdb.down = "down"
    with pytest.raises(Unavailable):
        await world.sampler.histogram(world.target(0, since=START - 99))


async def test_run_serves_new_plans_at_once_and_survives_a_surprise(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.sampler._RETRY_SECONDS", 0.01)
    task = asyncio.create_task(world.sampler.run())
    await asyncio.sleep(0.01)
    world.run_to(START + 61)
    world.sampler.watch("ns/0", world.target(0))
    await asyncio.sleep(0.05)
    assert len(world.sampler.take("ns/0").blocks) == 4

    def surprise(key: str) -> None:
        world.sampler._on_samples = world.woken.append
        raise RuntimeError("surprise")

    world.sampler._on_samples = surprise
    world.run_to(START + 76)
    world.sampler.watch("ns/1", world.target(1, since=world.clock.time))
    await asyncio.sleep(0.05)
    world.run_to(START + 91)
    world.sampler.watch("ns/2", world.target(2, since=world.clock.time))
    await asyncio.sleep(0.05)
    assert "surprise" in caplog.text
    assert not task.done()
    assert ends(world.sampler.take("ns/0").blocks) == [75, 90]
    task.cancel()


@pytest.mark.parametrize(
    ("offsets", "phase"),
    [
        ((), None),
        ((5.0,), 5.25),
        ((5.1,), 5.25),
        ((14.98,), 0.25),  # the next interval's
        ((3.0, 4.0, 5.0), 5.25),
        ((14.0, 1.0), 1.25),  # the group goes over the end of the interval
    ],
)
def test_blocks_end_just_after_the_closest_group_of_scrapes(offsets: tuple[float, ...], phase: float | None) -> None:
    assert best_phase([START + offset for offset in offsets], 15.0) == phase


async def test_blocks_follow_the_scrapes_and_a_restart_goes_on_where_it_was() -> None:
    world = World(offset=5.0, phase=None)
    world.sampler.watch("ns/0", world.target(0))
    for second in range(1, 60):
        await world.ask_at(START + second)
    first = world.sampler.take("ns/0").blocks
    assert [block.end - START for block in first] == [20.25, 35.25, 50.25]
    assert all(block.usable for block in first)
    world.fresh().watch("ns/0", world.target(0, since=first[0].end))
    await world.ask_at(START + 60)
    assert world.sampler.take("ns/0").blocks == first[1:]


async def test_gateways_that_are_scraped_at_another_time_change_the_phase_and_count_nothing_twice() -> None:
    world = World(offset=5.0, phase=None)
    world.sampler.watch("ns/0", world.target(0))
    await world.ask_at(START + 30)
    world.next_scrape += 6
    for second in range(31, 1300):
        await world.ask_at(START + second)
        taken = world.sampler.take("ns/0").blocks
        if taken:
            world.sampler.watch("ns/0", world.target(0, since=taken[-1].end))
            world.truth |= {block.start: block.end for block in taken}
    spans = sorted(world.truth.items())
    assert all(end <= following for (_, end), (following, _) in pairwise(spans))
    assert (spans[-1][1] - START) % 15 == 11.25


async def test_a_restart_with_the_scrapes_elsewhere_counts_nothing_twice() -> None:
    world = World(offset=2.0, phase=None)
    world.sampler.watch("ns/0", world.target(0, since=START + 20.25))
    await world.read(5)
    first = world.sampler.take("ns/0").blocks[0]
    assert first.start >= START + 20.25
    assert (first.start - START) % 15 == 2.25


async def test_a_little_jitter_does_not_change_the_phase_over_a_restart() -> None:
    world = World(offset=5.21, phase=None)  # a quarter later than where the blocks ended before
    world.sampler.watch("ns/0", world.target(0, since=START + 20.25))
    await world.read(5)
    assert world.sampler.take("ns/0").blocks[0].start == START + 20.25


async def test_an_outage_before_the_phase_is_known_is_told_and_ends() -> None:
    world = World(phase=None)
    world.tsdb.down = "Prometheus is away"
    world.sampler.watch("ns/0", world.target(0))
    await world.ask_at(START + 20)
    assert world.sampler.take("ns/0").error == "Prometheus is away"
    world.tsdb.down = ""
    await world.read(4)
    taken = world.sampler.take("ns/0")
    assert not taken.error
    assert taken.blocks


async def test_gateways_without_traffic_are_asked_about_once_a_scrape() -> None:
    world = World(plans=0, phase=None)
    world.sampler.watch("ns/0", world.target(0))
    for second in range(1, 60):
        await world.ask_at(START + second)
    assert sum("timestamp" in promql for promql, _ in world.tsdb.queries) == 4
