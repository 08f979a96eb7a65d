"""Blocks follow the scrapes, as they are seen in the samples."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from tests.kit.fake_tsdb import NAMESPACE, START
from tests.kit.sampler_rig import SamplerRig
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import BlockStatus, MigrationPlanStatus
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.lengths import block_length, in_force, lengthened, next_length
from cutover.services.scrape_timing import interval_of, timing_of


@pytest.mark.parametrize(
    ("scrape", "named", "length"),
    [
        (15, None, 15),
        (30, None, 30),
        (60, None, 60),
        (10, None, 10),
        (5, None, 5),
        (1, None, 5),
        (2, None, 6),
        (2.5, None, 5),
        (7.5, None, 15),
        (0.7, None, 5),
        (120, None, 120),
        (15, 15, 15),
        (15, 30, 30),
        (15, 20, 30),
        (30, 15, 30),
        (60, 15, 60),
        (5, 60, 60),
        (7, 60, 60),
        (7, 15, 21),
        (1, 1, 1),
        (0.5, 2, 2),
    ],
)
def test_a_block_has_a_scrape_of_each_gateway(scrape: float, named: int | None, length: int) -> None:
    spec = plan_spec(gates={"block": f"{named}s"} if named else {})
    blocks = next_length(spec, None, scrape)
    assert blocks == BlockStatus(scrape_seconds=scrape, seconds=length)
    assert in_force(spec, MigrationPlanStatus(blocks=blocks)) == (length, scrape)
    assert bool(lengthened(spec, blocks)) == (named not in (None, length))


def test_an_odd_interval_is_rounded_up() -> None:
    assert (block_length(11.3, 5), block_length(8.9, 10)) == (12, 18)


def test_until_the_scrapes_are_seen_the_plan_or_15_s_decide() -> None:
    assert in_force(plan_spec(gates={}), MigrationPlanStatus()).seconds == 15
    assert in_force(plan_spec(gates={"block": "5s"}), MigrationPlanStatus()).seconds == 5
    assert next_length(plan_spec(gates={}), None, None) is None


def test_what_was_seen_stays_while_nothing_is_seen() -> None:
    before = BlockStatus(scrape_seconds=30, seconds=30)
    assert next_length(plan_spec(gates={}), before, None) is before
    assert next_length(plan_spec(gates={"block": "60s"}), before, None) == BlockStatus(scrape_seconds=30, seconds=60)


def test_a_length_that_is_too_short_is_told_with_what_to_write() -> None:
    spec = plan_spec(gates={"block": "15s"})
    assert lengthened(spec, next_length(spec, None, 30.0)) == (
        "gates.block: 15s is shorter than the time between two scrapes of the gateways, 30 s, so blocks of 30 s are judged;"
        " write 30s, leave the field out, or scrape the gateways more often"
    )


# --------------------------------------------------------------------------------------------- what the samples show


@pytest.mark.parametrize(
    ("distances", "interval"),
    [
        ([15] * 5, 15.0),
        ([15, 30, 15, 15, 15], 15.0),  # one was missed
        ([15.3, 14.8, 15.1, 15.0, 14.9], 15.0),
        ([15] * 10 + [60] * 3, 60.0),
        ([60] * 10 + [5] * 2, 60.0),
        ([0.5] * 5, 0.5),
        ([7] * 3, 7.0),
        ([30] * 2, None),
        ([], None),
        ([300] * 5, None),
    ],
)
def test_the_interval_is_the_usual_distance(distances: list[float], interval: float | None) -> None:
    times = [START]
    for distance in distances:
        times.append(times[-1] + distance)
    assert interval_of(times) == interval


def target(pod: str, namespace: str = NAMESPACE) -> dict[str, str]:
    return {"pod": pod, "instance": f"{pod}:15020", "namespace": namespace}


def test_of_gateways_that_differ_the_slowest_counts_and_what_does_not_count_requests_is_nothing() -> None:
    last = [{"metric": target(pod), "value": [START, str(START)]} for pod in ("a", "b", "c")]
    presence = [
        {"metric": target(pod, space), "values": [[START - n * every, "1"] for n in range(6, -1, -1)]}
        for pod, space, every in (("a", NAMESPACE, 15), ("b", NAMESPACE, 30), ("c", "other", 5), ("x", NAMESPACE, 60))
    ]
    timing = timing_of(last, presence)
    assert timing.intervals == {NAMESPACE: 30.0, "other": 5.0}
    assert timing.interval([NAMESPACE, "other"]) == 30.0
    assert timing.interval(["nowhere"]) is None
    assert set(timing.phases) == {5.0, 30.0}


class Judged:
    """A plan that takes its blocks and follows the scrapes, as the engine does."""

    def __init__(self, rig: SamplerRig, since: float = START, status: BlockStatus | None = None) -> None:
        self.rig, self.since, self.status = rig, since, status
        self.blocks: list[Block] = []
        self.spec = plan_spec(gates={})

    def reconcile(self) -> None:
        length = in_force(self.spec, MigrationPlanStatus(blocks=self.status))
        wanted = replace(
            self.rig.target(0, since=self.since), block_seconds=length.seconds, scrape_seconds=length.scrape_seconds
        )
        self.rig.sampler.watch("ns/0", wanted)
        samples = self.rig.sampler.take("ns/0")
        self.blocks += samples.blocks
        self.since = self.blocks[-1].end if self.blocks else self.since
        self.status = next_length(self.spec, self.status, samples.scrape_seconds)

    async def run(self, until: float) -> None:
        while self.rig.tsdb.now < until:
            await self.rig.ask_at(self.rig.tsdb.now + 1)
            self.reconcile()


@pytest.mark.parametrize("scrape", [5.0, 7.0, 15.0, 30.0, 60.0])
async def test_blocks_follow_the_scrapes_and_a_restart_reads_the_same(scrape: float) -> None:
    rig = SamplerRig(scrape_interval=scrape, phase=None)
    rig.run_to(START + 5 * scrape)
    live = Judged(rig, since=rig.tsdb.now)
    await live.run(START + 5 * scrape + 900)
    assert live.status == BlockStatus(scrape_seconds=scrape, seconds=max(5, scrape))
    assert [block.gap for block in live.blocks if not block.usable] == []
    assert {block.end - block.start for block in live.blocks} == {scrape}
    assert len(live.blocks) >= 900 / scrape - 4
    assert all(one.end == other.start for one, other in pairwise(live.blocks))
    rig.fresh()
    again = Judged(rig, since=live.blocks[2].end, status=live.status)
    await again.run(rig.tsdb.now + 3)
    assert again.blocks[: len(live.blocks) - 3] == live.blocks[3:]


@pytest.mark.parametrize(("before", "after"), [(15.0, 30.0), (15.0, 60.0), (60.0, 15.0), (30.0, 5.0)])
async def test_scrapes_that_change_are_followed_and_nothing_is_counted_twice(before: float, after: float) -> None:
    rig = SamplerRig(scrape_interval=before, phase=None)
    rig.run_to(START + 5 * before)
    plan = Judged(rig, since=rig.tsdb.now)
    await plan.run(rig.tsdb.now + 300)
    rig.interval = after
    await plan.run(rig.tsdb.now + 5 * max(before, after) + 60)
    assert plan.status == BlockStatus(scrape_seconds=after, seconds=int(after))
    count = len(plan.blocks)
    await plan.run(rig.tsdb.now + 5 * after)
    assert [block.gap for block in plan.blocks[count:]] == [""] * len(plan.blocks[count:])
    assert len(plan.blocks) >= count + 4
    assert all(one.end <= other.start for one, other in pairwise(plan.blocks))
