"""Delivery: each block once, in order, without holes, from as few queries as can be."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.kit.fake_tsdb import EKS, HEROKU, NAMESPACE, START, FakePrometheus, Gateway
from tests.kit.sampler_rig import LENGTH, SamplerRig

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.domain.evidence.blocks import Block
from cutover.domain.observation import Samples
from cutover.ports.errors import Unavailable
from cutover.services.reading import OLDEST_BLOCK, best_phase
from cutover.services.samplers import Samplers


def ends(blocks: tuple[Block, ...]) -> list[float]:
    return [block.end - START for block in blocks]


@pytest.fixture
def world() -> SamplerRig:
    return SamplerRig()


async def test_block_is_delivered_when_it_has_settled(world: SamplerRig) -> None:
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


async def test_blocks_are_complete_consecutive_and_not_repeated(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    for step in (1, 3, 1, 7, 2):
        await world.read(step)
        blocks = world.sampler.take("ns/0").blocks
        world.sampler.watch("ns/0", world.target(0, since=blocks[-1].end))
        got += blocks
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(14)]
    assert all(block.usable for block in got)
    before_start = sum(v for (d, _), v in SamplerRig().gateway.requests.items() if d.endswith(HEROKU))
    assert sum(block.heroku.requests for block in got) + before_start == sum(
        value for (destination, _), value in world.gateway.requests.items() if destination.endswith(HEROKU)
    )


@pytest.mark.parametrize("since", [START - 8, START, START + 7.3])
async def test_first_block_is_the_first_that_starts_after_since(world: SamplerRig, since: float) -> None:
    world.sampler.watch("ns/0", world.target(0, since))
    await world.read(3)
    first = world.sampler.take("ns/0").blocks[0]
    assert since <= first.start < since + LENGTH


async def test_replay_after_a_restart_gives_the_same_blocks() -> None:
    world = SamplerRig(plans=5)
    for plan in range(5):
        world.sampler.watch(f"ns/{plan}", world.target(plan))
    await world.read(40)
    live = {plan: world.sampler.take(f"ns/{plan}").blocks for plan in range(5)}
    restarted = world.fresh()
    for plan in range(5):
        restarted.watch(f"ns/{plan}", world.target(plan, since=START + plan * LENGTH * 3))
    await restarted.reconcile()
    for plan in range(5):
        assert restarted.take(f"ns/{plan}").blocks == live[plan][3 * plan :]


async def test_long_replay_is_fetched_in_pieces_and_in_order(world: SamplerRig) -> None:
    world.run_to(START + 3 * 3600 + 1)
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    while len(got) < 720:
        world.tsdb.queries.clear()
        await world.sampler.reconcile()
        assert len(world.tsdb.queries) == 3
        got += world.sampler.take("ns/0").blocks
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(720)]
    assert all(block.usable for block in got)


async def test_a_replay_that_is_too_much_at_once_is_fetched_in_smaller_pieces(
    world: SamplerRig, monkeypatch: pytest.MonkeyPatch
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
        await world.sampler.reconcile()
        got += world.sampler.take("ns/0").blocks
        world.run_to(world.clock.time + 5)
    assert len(got) >= 240
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(len(got))]
    assert world.sampler.take("ns/0").error == ""
    assert world.sampler.errors <= 3, "once it is known how much is too much, it is not tried again and again"


async def test_replay_is_bounded(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0, since=0.0))
    await world.read(1)
    assert world.sampler.take("ns/0").blocks[0].end >= world.clock.time - OLDEST_BLOCK - LENGTH


async def test_outage_is_told_and_blocks_come_later(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(1)
    world.sampler.take("ns/0")
    world.tsdb.down = "Prometheus at prom:9090 cannot be connected to"
    world.woken.clear()
    await world.read(1)
    await world.read(3)
    assert world.woken == ["ns/0"]
    samples = world.sampler.take("ns/0")
    assert (samples.blocks, samples.error) == ((), world.tsdb.down)
    assert world.sampler.errors == 4
    world.tsdb.down = ""
    world.woken.clear()
    await world.read(1)
    samples = world.sampler.take("ns/0")
    assert (ends(samples.blocks), samples.error) == ([30, 45, 60, 75, 90], "")
    assert all(block.usable for block in samples.blocks)
    assert world.woken == ["ns/0"]


async def test_prometheus_is_not_pressed_in_an_outage(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.tsdb.down = "down"
    await world.read(1)
    for seconds in (1, 2, 3, 4):
        await world.ask_at(START + 16 + seconds)
    assert world.sampler.errors == 1
    await world.ask_at(START + 21)
    assert world.sampler.errors == 2


async def test_trouble_of_one_group_is_not_that_of_the_others(world: SamplerRig) -> None:
    world.sampler.watch("ns/15", world.target(0))
    world.sampler.watch("ns/30", replace(world.target(1), block_seconds=30))

    class Partly(FakePrometheus):
        async def query(self, promql: str, at: float):  # type: ignore[no-untyped-def]
            if f"1\\\\.{HEROKU.split('.')[0]}" in promql:
                raise Unavailable("too much")
            return await world.tsdb.query(promql, at)

    world.sampler._reads.prometheus = Partly()
    await world.read(2)
    assert len(world.sampler.take("ns/15").blocks) == 2
    assert world.sampler.take("ns/30").error == "too much"


async def test_trouble_with_some_destinations_is_not_that_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SamplerRig(plans=250)
    for plan in range(250):
        world.sampler.watch(f"ns/{plan:03}", world.target(plan))
    ask, under_way, most = world.tsdb.query, 0, 0

    async def partly(promql: str, at: float) -> list[dict[str, Any]]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        if re.search(r"\b150\\\\.acme", promql):
            raise Unavailable("too much")
        return await ask(promql, at)

    monkeypatch.setattr(world.tsdb, "query", partly)
    await world.read(1)
    for plan in range(250):
        samples = world.sampler.take(f"ns/{plan:03}")
        assert (samples.error, len(samples.blocks)) == (("too much", 0) if 100 <= plan < 200 else ("", 1))
    assert most == 3


async def test_answer_of_another_shape_is_an_outage(world: SamplerRig) -> None:
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


async def test_plan_that_goes_back_gets_the_same_blocks_again(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(10)
    first = world.sampler.take("ns/0").blocks
    world.tsdb.queries.clear()
    # A conflict: what was decided on them is void, the plan is read again as it was stored.
    world.sampler.watch("ns/0", world.target(0, START + 4 * LENGTH))
    assert world.sampler.take("ns/0").blocks == first[4:]
    assert not world.tsdb.queries
    # And a conflict at the very first reconcile, where since has not changed at all.
    world.sampler.watch("ns/0", world.target(0, START + 4 * LENGTH))
    assert world.sampler.take("ns/0").blocks == first[4:]


async def test_plan_that_goes_back_far_is_read_again(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(50)
    first = world.sampler.take("ns/0").blocks
    world.sampler.watch("ns/0", world.target(0, START + 49 * LENGTH))
    world.sampler.watch("ns/0", world.target(0, START + LENGTH))
    await world.sampler.reconcile()
    assert world.sampler.take("ns/0").blocks == first[1:]


async def test_plan_that_does_not_consume_is_not_read_over_and_over(world: SamplerRig) -> None:
    for _ in range(40):
        world.sampler.watch("ns/0", world.target(0))
        world.sampler.take("ns/0")
        await world.read(1)
    assert len(world.tsdb.queries) == 40 * 3


async def test_plan_that_skips_ahead(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    world.sampler.watch("ns/0", world.target(0, since=START + 3 * LENGTH))
    assert ends(world.sampler.take("ns/0").blocks) == [60]
    world.sampler.watch("ns/0", world.target(0, since=START + 8 * LENGTH))
    await world.read(5)
    assert ends(world.sampler.take("ns/0").blocks) == [135]


async def test_other_legs_or_length_begin_anew(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    world.sampler.watch("ns/0", replace(world.target(0), block_seconds=30))
    assert world.sampler.take("ns/0").blocks == ()
    await world.sampler.reconcile()
    assert ends(world.sampler.take("ns/0").blocks) == [30, 60]


# ---------------------------------------------------------------------------------------------------------- two clocks


@pytest.mark.parametrize("behind", [90.0, -90.0])
@pytest.mark.parametrize("phase", [0.0, None])
async def test_an_operator_with_another_time_sees_and_judges_the_same(behind: float, phase: float | None) -> None:
    """A decision is a pure function of the time and the blocks that it gets: where those agree, it does."""
    agreed, other = SamplerRig(phase=phase), SamplerRig(phase=phase)
    other.set_clock(behind)
    blocks: list[Block] = []
    for second in range(5, 200):
        seen = []
        for world in (agreed, other):
            world.run_to(START + second)
            world.sampler.watch("ns/0", world.target(0, since=blocks[-1].end if blocks else START))
            await world.sampler.reconcile()
            seen.append((world.sampler.now(), world.sampler.take("ns/0")))
        assert seen[0] == seen[1]
        blocks += seen[0][1].blocks
    assert len(blocks) >= 11
    assert all(block.usable for block in blocks)


@pytest.mark.parametrize("set_at", [1, 200])
@pytest.mark.parametrize("behind", [90.0, -90.0])
async def test_a_clock_that_is_set_loses_and_repeats_nothing(world: SamplerRig, set_at: int, behind: float) -> None:
    world.sampler.watch("ns/0", world.target(0))
    got: list[Block] = []
    for second in range(1, 600):
        if second in {set_at, 400}:
            world.set_clock(behind if second == set_at else 0.0)
        await world.ask_at(START + second)
        got += world.sampler.take("ns/0").blocks
        world.sampler.watch("ns/0", world.target(0, since=got[-1].end if got else START))
    assert ends(tuple(got)) == [15.0 * (number + 1) for number in range(39)]
    assert all(block.usable for block in got)


async def test_what_was_read_before_its_time_is_read_again(world: SamplerRig, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = world.tsdb.query

    async def compare_meanwhile(promql: str, at: float) -> list[dict[str, Any]]:
        if "bucket" in promql:
            world.tsdb.skew = world.tsdb.ahead
        return await ask(promql, at)

    async def nothing() -> None:
        pass

    monkeypatch.setattr(world.tsdb, "query", compare_meanwhile)
    monkeypatch.setattr(world.tsdb, "compare_clocks", nothing)
    world.set_clock(-90.0)
    world.sampler.watch("ns/0", world.target(0))
    await world.ask_at(START + 1)
    assert world.tsdb.queries
    assert world.sampler.take("ns/0").blocks == ()
    await world.read(1)
    (block,) = world.sampler.take("ns/0").blocks
    assert block.usable
    assert block.requests > 0


async def test_a_clock_that_was_set_forward_does_not_put_off_the_next_try(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.set_clock(90.0)
    world.tsdb.down = "down"
    await world.read(12)
    world.tsdb.skew, world.tsdb.down = 90.0, ""
    await world.ask_at(world.tsdb.now + 6)
    assert len(world.sampler.take("ns/0").blocks) == 12


async def test_the_time_does_not_tremble(world: SamplerRig) -> None:
    for measured, known in ((0.2, 0.0), (-0.25, 0.0), (0.3, 0.3), (0.5, 0.3), (0.1, 0.3), (0.0, 0.0)):
        world.tsdb.skew = measured
        assert world.sampler.now() == world.clock.time + known


# ------------------------------------------------------------------------------------------------------ several sources


class Sources:
    """Two servers with the same plans' series under different names, and a third that is slow."""

    def __init__(self) -> None:
        self.worlds = {"": SamplerRig(), "eu": SamplerRig(offset=9.0)}
        self.clock = self.worlds[""].clock
        self.news = asyncio.Event()
        self.samplers = Samplers(
            {name: world.tsdb for name, world in self.worlds.items()},
            IstioDialect(),
            self.clock,
            on_samples=lambda key: self.news.set(),
        )

    async def reconcile(self, seconds: float) -> None:
        for world in self.worlds.values():
            world.run_to(START + seconds)
        await self.samplers.reconcile()


async def test_each_plan_is_served_by_its_source() -> None:
    sources = Sources()
    for name, world in sources.worlds.items():
        sources.samplers.watch(f"ns/{name}", replace(world.target(0), source=name))
    await sources.reconcile(30)
    await sources.reconcile(60)
    for name, world in sources.worlds.items():
        blocks = sources.samplers.take(f"ns/{name}").blocks
        assert blocks
        assert all(block.usable for block in blocks)
        assert world.tsdb.queries
        assert await sources.samplers.histogram(
            replace(world.target(0), source=name)
        ) == await world.sampler.histogram(world.target(0))
    assert sources.samplers.queries == sum(len(world.tsdb.queries) for world in sources.worlds.values()) - 4
    assert sources.samplers.errors == 0
    assert sources.samplers.last_success == START + 60
    assert sources.samplers.lateness > 0


async def test_trouble_with_one_source_is_nothing_to_another() -> None:
    sources = Sources()
    for name, world in sources.worlds.items():
        sources.samplers.watch(f"ns/{name}", replace(world.target(0), source=name))
    await sources.reconcile(30)
    sources.worlds["eu"].tsdb.down = "away"
    await sources.reconcile(60)
    await sources.reconcile(90)
    assert sources.samplers.take("ns/eu").error == "away"
    assert sources.samplers.take("ns/").error == ""
    assert sources.samplers.errors == 2
    assert sources.samplers.last_success == START + 30, "the silent one must show"
    sources.samplers.forget("ns/eu")
    assert sources.samplers.last_success == START + 90


async def test_a_slow_source_delays_no_other() -> None:
    sources = Sources()

    async def never(promql: str, at: float) -> list[dict[str, Any]]:
        await asyncio.Event().wait()
        raise AssertionError

    sources.worlds["eu"].tsdb.query = never  # type: ignore[method-assign]
    for name, world in sources.worlds.items():
        world.run_to(START + 61)
        sources.samplers.watch(f"ns/{name}", replace(world.target(0), source=name))
    task = asyncio.create_task(sources.samplers.run())
    await sources.news.wait()
    assert sources.samplers.take("ns/").blocks
    assert sources.samplers.take("ns/eu") == Samples()
    task.cancel()


async def test_each_source_has_its_time() -> None:
    sources = Sources()
    sources.worlds["eu"].tsdb.skew = 90.0
    assert sources.samplers.now("") == sources.clock.time
    assert sources.samplers.now("eu") == sources.clock.time + 90
    assert sources.samplers.now("nowhere") == sources.clock.time


async def test_a_plan_that_changes_its_source_begins_anew_there() -> None:
    sources = Sources()
    target = sources.worlds[""].target(0)
    sources.samplers.watch("ns/0", target)
    await sources.reconcile(60)
    assert sources.samplers.take("ns/0").blocks
    sources.samplers.watch("ns/0", replace(target, source="eu", since=START + 60))
    sources.worlds[""].tsdb.queries.clear()
    await sources.reconcile(91)
    assert not sources.worlds[""].tsdb.queries
    assert ends(sources.samplers.take("ns/0").blocks)[-1] > 60


HOSTILE = "hostile"


def another_gateway(sources: Sources, *scrapes: float) -> None:
    """Scrape a gateway in another namespace at so many seconds, and never again."""
    world = sources.worlds[""]
    other = Gateway("gw-1", {"namespace": HOSTILE})
    for at in scrapes:
        other.serve(f"1.{HEROKU}", times=5)
        other.scrape(world.tsdb, START + at)


async def test_another_plans_gateways_delay_no_block_and_end_none_elsewhere() -> None:
    sources = Sources()
    another_gateway(sources, -56, -41, -26, -11, 4, 19.5, 34.5)  # it is gone, which is waited for
    target = sources.worlds[""].target(0)
    sources.samplers.watch("ns/theirs", replace(sources.worlds[""].target(1), observers=(HOSTILE,)))
    sources.samplers.watch("ns/mine", target)
    delivered: dict[float, float] = {}
    for second in range(1, 100):
        await sources.reconcile(second)
        for block in sources.samplers.take("ns/mine").blocks:
            assert block.usable
            delivered[block.end - START] = second
            sources.samplers.watch("ns/mine", replace(target, since=block.end))
    assert delivered == {20.25: 22, 35.25: 37, 50.25: 52, 65.25: 67, 80.25: 82, 95.25: 97}


async def test_a_query_reads_nothing_of_other_plans_gateways() -> None:
    sources = Sources()
    another_gateway(sources, 5, 20)
    sources.samplers.watch("ns/theirs", replace(sources.worlds[""].target(1), observers=(HOSTILE,)))
    sources.samplers.watch("ns/mine", sources.worlds[""].target(0))
    await sources.reconcile(40)
    asked = [promql for promql, _ in sources.worlds[""].tsdb.queries]
    assert any(HOSTILE in promql for promql in asked)
    assert any(NAMESPACE in promql for promql in asked)
    assert not any(HOSTILE in promql and NAMESPACE in promql for promql in asked)


async def test_gateways_that_have_no_plan_any_more_are_not_asked_about_and_counts_do_not_fall() -> None:
    sources = Sources()
    running = asyncio.create_task(sources.samplers.run())
    await asyncio.sleep(0)
    sources.worlds[""].run_to(START + 40)
    sources.samplers.watch("ns/mine", sources.worlds[""].target(0))
    await sources.news.wait()
    asked = sources.samplers.queries
    assert asked
    sources.samplers.forget("ns/mine")
    sources.samplers.forget("ns/mine")
    assert not sources.samplers.each
    assert sources.samplers.queries == asked
    assert sources.samplers.last_success > 0
    sources.samplers.watch("ns/mine", sources.worlds[""].target(0))
    sources.news.clear()
    await sources.news.wait()
    assert sources.samplers.take("ns/mine").blocks
    assert sources.samplers.queries > asked
    assert not running.done()
    running.cancel()


async def test_a_histogram_of_a_plan_that_is_not_watched() -> None:
    sources = Sources()
    world = sources.worlds[""]
    world.run_to(START + 301)
    assert (await sources.samplers.histogram(world.target(0))).total > 0
    assert not sources.samplers.each
    assert sources.samplers.queries == 2


async def test_a_source_that_does_not_exist_is_named() -> None:
    sources = Sources()
    target = replace(sources.worlds[""].target(0), source="nowhere")
    sources.samplers.watch("ns/0", target)
    await sources.reconcile(60)
    sources.samplers.watch("ns/0", target)
    samples = sources.samplers.take("ns/0")
    assert samples.blocks == ()
    assert samples.error == "the operator's settings have no Prometheus named 'nowhere'"
    with pytest.raises(Unavailable, match="nowhere"):
        await sources.samplers.histogram(target)
    sources.samplers.forget("ns/0")
    assert sources.samplers.take("ns/0").error == ""


async def test_new_thresholds_apply_to_later_blocks(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", replace(world.target(0), slow_ms=None, very_slow_ms=None))
    await world.read(2)
    world.sampler.watch("ns/0", world.target(0))
    await world.read(1)
    blocks = world.sampler.take("ns/0").blocks
    assert [block.eks.slow for block in blocks[:2]] == [0, 0]
    assert blocks[2].eks.slow == blocks[2].eks.timed > 0


async def test_forgotten_plans_cost_nothing(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.sampler.forget("ns/0")
    world.sampler.forget("ns/0")
    await world.read(2)
    assert not world.tsdb.queries
    assert world.sampler.take("ns/0").blocks == ()


async def test_plan_forgotten_while_prometheus_thinks(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.run_to(START + 16)
    answer = world.tsdb.query

    async def query(promql: str, at: float) -> list[dict[str, object]]:
        world.sampler.forget("ns/0")
        world.sampler.watch("ns/0", world.target(0, since=START + LENGTH))
        return await answer(promql, at)

    world.tsdb.query = query  # type: ignore[method-assign, assignment]
    await world.sampler.reconcile()
    assert world.sampler.take("ns/0").blocks == ()


async def test_plan_that_does_not_take_is_not_served_for_ever(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    world.run_to(START + 6 * 3600)
    for _ in range(10):
        await world.sampler.reconcile()
    assert len(world.sampler.take("ns/0").blocks) < 1300
    before = len(world.tsdb.queries)
    await world.sampler.reconcile()
    assert len(world.tsdb.queries) > before


@pytest.mark.parametrize(("plans", "queries"), [(1, 3), (100, 3), (300, 7)])
async def test_queries_do_not_grow_with_plans(plans: int, queries: int) -> None:
    world = SamplerRig(plans=plans)
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


async def test_gateways_whose_targets_lack_labels_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """An older job names pods by kubernetes_namespace and kubernetes_pod_name."""
    world = SamplerRig(phase=None)
    world.gateway.labels |= {"namespace": "", "pod": "", "kubernetes_namespace": NAMESPACE}
    world.tsdb.samples.clear()
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    block = world.sampler.take("ns/0").blocks[-1]
    assert block.gap == (
        "no samples; 4 counters of job gateways (no namespace) name istio-ingress, and do not count: targets of the gateways"
        " have their namespace in the label namespace, and their pod in the label pod"
    )
    assert world.sampler.refused >= 4
    assert caplog.text.count("do not count") == 1


async def test_a_flood_of_forged_counters_is_not_read(world: SamplerRig) -> None:
    for number in range(50):
        labels = {
            "namespace": HOSTILE,
            "pod": f"evil-{number}",
            "reporter": "source",
            "source_workload_namespace": NAMESPACE,
        }
        for metric in ("istio_requests_total", "istio_request_duration_milliseconds_bucket"):
            world.tsdb.add(START + 5, math.nan, __name__=metric, destination_service=f"0.{EKS}", le="odd", **labels)
    answers: list[int] = []
    ask = world.tsdb.query

    async def measured(promql: str, at: float) -> list[dict[str, Any]]:
        answers.append(len(found := await ask(promql, at)))
        return found

    world.tsdb.query = measured  # type: ignore[method-assign]
    world.sampler.watch("ns/0", world.target(0))
    await world.read(1)
    assert world.sampler.take("ns/0").blocks[0].usable
    assert max(answers) < 20


@pytest.mark.parametrize("delay", [0.9, 3.0, 14.0])
async def test_a_scrape_that_is_seen_late_is_waited_for(delay: float) -> None:
    world, punctual = SamplerRig(offset=14.9), SamplerRig(offset=14.9)  # just before the end of each block
    world.tsdb.delay = delay
    for one in (world, punctual):
        one.sampler.watch("ns/0", one.target(0))
        for second in range(1, 10 * LENGTH):
            await one.ask_at(START + second)
    blocks, expected = (one.sampler.take("ns/0").blocks for one in (world, punctual))
    assert len(expected) >= 9
    assert blocks[:9] == expected[:9]
    assert all(block.usable for block in blocks)
    assert bool(world.sampler.waits) == (delay > 1)
    assert punctual.sampler.waits == 0


async def test_where_all_scrapes_are_late_they_are_not_looked_for_over_and_over() -> None:
    world = SamplerRig(offset=14.9)
    world.tsdb.delay = 8.0
    world.sampler.watch("ns/0", world.target(0))
    for tenth in range(10, 200 * LENGTH):
        await world.ask_at(START + tenth / 10)
    first = world.sampler.waits
    assert 5 < first <= 30
    for tenth in range(200 * LENGTH, 600 * LENGTH):
        await world.ask_at(START + tenth / 10)
    assert (world.sampler.waits - first) / 40 <= 1.5
    world.tsdb.delay = 0.0
    for tenth in range(600 * LENGTH, 900 * LENGTH):
        await world.ask_at(START + tenth / 10)
        if world.sampler.take("ns/0").blocks:
            read = tenth / 10
    assert read % LENGTH == 1, "as early as before"


async def test_a_gateway_that_is_gone_is_not_waited_for_longer_than_a_scrape_may_take(world: SamplerRig) -> None:
    other = Gateway("gw-1")
    for seconds in (-23, -8, 7):
        other.serve(f"0.{HEROKU}", times=5)
        other.scrape(world.tsdb, START + seconds)
    world.sampler.watch("ns/0", world.target(0))
    delivered: dict[float, float] = {}
    for second in range(1, 100):
        await world.ask_at(START + second)
        for block in world.sampler.take("ns/0").blocks:
            assert block.usable
            delivered[block.end - START] = second
    # It was to be scraped at 22 s and had until 37 s, and another second to be seen.
    assert delivered == {15: 16, 30: 38, 45: 46, 60: 61, 75: 76, 90: 91}


async def test_a_scrape_that_failed_is_not_waited_for(world: SamplerRig) -> None:
    world.sampler.watch("ns/0", world.target(0))
    await world.read(2)
    world.next_scrape += 15
    world.tsdb.add(START + 35, 0, __name__="up", **world.gateway.labels)
    await world.read(1)
    assert world.sampler.waits == 0
    assert ends(world.sampler.take("ns/0").blocks) == [15, 30, 45]


async def test_histogram_of_a_short_baseline_is_exact(world: SamplerRig) -> None:
    world.run_to(START + 301)
    world.sampler.watch("ns/0", world.target(0))
    await world.sampler.reconcile()
    blocks = world.sampler.take("ns/0").blocks
    timed = sum(block.heroku.timed for block in blocks)
    histogram = await world.sampler.histogram(world.target(0))
    assert histogram.cumulative == {250.0: 0.0, 1000.0: timed, math.inf: timed}
    assert histogram.total == timed


async def test_histogram_of_a_long_baseline(world: SamplerRig) -> None:
    world.run_to(START + 3600)
    histogram = await world.sampler.histogram(world.target(0))
    assert list(histogram.cumulative) == [250.0, 1000.0, math.inf]
    assert histogram.cumulative[250.0] == 0
    assert histogram.total > 3000
    assert 'response_code!~"0|101|499"' in world.tsdb.queries[-1][0]


async def test_histogram_before_anything(world: SamplerRig) -> None:
    assert (await world.sampler.histogram(world.target(0, since=START + 99))).total == 0
    assert (await world.sampler.histogram(world.target(77))).cumulative == {}
    world.tsdb.down = "down"
    with pytest.raises(Unavailable):
        await world.sampler.histogram(world.target(0, since=START - 99))


@pytest.mark.usefixtures("virtual_time")
async def test_run_serves_new_plans_at_once_and_survives_a_surprise(
    world: SamplerRig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.services.sampler._RETRY_SECONDS", 0.01)
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
    world = SamplerRig(offset=5.0, phase=None)
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
    world = SamplerRig(offset=5.0, phase=None)
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
    assert len(spans) > 80
    assert all(end <= following for (_, end), (following, _) in pairwise(spans))
    assert (spans[-1][1] - START) % 15 == 11.25


async def test_a_restart_with_the_scrapes_elsewhere_counts_nothing_twice() -> None:
    world = SamplerRig(offset=2.0, phase=None)
    world.sampler.watch("ns/0", world.target(0, since=START + 20.25))
    await world.read(5)
    first = world.sampler.take("ns/0").blocks[0]
    assert first.start >= START + 20.25
    assert (first.start - START) % 15 == 2.25


async def test_a_little_jitter_does_not_change_the_phase_over_a_restart() -> None:
    world = SamplerRig(offset=5.21, phase=None)  # a quarter later than where the blocks ended before
    world.sampler.watch("ns/0", world.target(0, since=START + 20.25))
    await world.read(5)
    assert world.sampler.take("ns/0").blocks[0].start == START + 20.25


async def test_an_outage_before_the_phase_is_known_is_told_and_ends() -> None:
    world = SamplerRig(phase=None)
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
    world = SamplerRig(plans=0, phase=None)
    world.sampler.watch("ns/0", world.target(0))
    for second in range(1, 60):
        await world.ask_at(START + second)
    assert sum("timestamp" in promql for promql, _ in world.tsdb.queries) == 4
