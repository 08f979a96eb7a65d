"""One plan whose query Prometheus cannot answer: the others have their blocks, and do not pay for it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from tests.kit.fake_tsdb import EKS, HEROKU, START
from tests.kit.sampler_rig import LENGTH, SamplerRig

from cutover.ports.errors import QueryFailed, Unavailable
from cutover.services.isolation import REMEMBERED

PLANS = 40
TOO_MUCH = "Prometheus at prom:9090 answered more than 16 MiB"


class Ward:
    """Plans of one gateway, some of which make every query fail in which they are."""

    def __init__(self, *ill: int, plans: int = PLANS) -> None:
        self.world = SamplerRig(plans=plans)
        self.plans, self.ill = plans, set(ill)
        self.failed: list[frozenset[int]] = []  # the plans of each query that failed
        self._ask = self.world.tsdb.query
        self.world.tsdb.query = self.query  # type: ignore[method-assign]
        for plan in range(plans):
            self.world.sampler.watch(f"ns/{plan:03}", self.world.target(plan))

    async def query(self, promql: str, at: float) -> list[dict[str, Any]]:
        asked = frozenset(int(number) for number in re.findall(r"\b(\d+)\\\\\.acme-pdf", promql))
        if asked & self.ill:
            self.failed.append(asked)
            await self.refuse(asked)
        return await self._ask(promql, at)

    async def refuse(self, asked: frozenset[int]) -> None:
        raise QueryFailed(TOO_MUCH)

    async def go_to(self, seconds: float) -> None:
        """Let time pass and read as often as a running sampler would."""
        while self.world.tsdb.now < START + seconds:
            await self.world.ask_at(min(self.world.tsdb.now + 1, START + seconds))
            for _ in range(9):
                await self.world.sampler.reconcile()

    def blocks(self) -> dict[int, int]:
        """Return how many usable blocks each plan has, and consume them."""
        found = {}
        for plan in range(self.plans):
            key = f"ns/{plan:03}"
            taken = self.world.sampler.take(key).blocks
            found[plan] = sum(block.usable and block.requests > 0 for block in taken)
            if taken:
                self.world.sampler.watch(key, self.world.target(plan, since=taken[-1].end))
        return found


async def test_the_others_have_their_blocks_and_the_ill_one_its_reason() -> None:
    ward = Ward(17)
    await ward.go_to(LENGTH + 1)
    assert ward.blocks() == {plan: int(plan != 17) for plan in range(PLANS)}
    assert ward.world.sampler.take("ns/017").error == (
        f"{TOO_MUCH}; asked about this plan alone: have its legs too many series, or is Prometheus slow?"
    )
    assert {ward.world.sampler.take(f"ns/{plan:03}").error for plan in set(range(PLANS)) - ward.ill} == {""}
    assert [len(asked) for asked in ward.failed] == [40, 5, 1]


async def test_the_search_is_not_made_again_and_the_ill_one_is_asked_about_alone_and_rarely() -> None:
    ward = Ward(17)
    await ward.go_to(LENGTH + 1)
    search = len(ward.failed)
    for block in range(2, 30):
        await ward.go_to(block * LENGTH + 1)
        assert ward.blocks()[16] == 1 + (block == 2)
    later = ward.failed[search:]
    assert set(later) == {frozenset({17})}
    assert len(later) <= 11


async def test_several_ill_ones_are_found() -> None:
    ward = Ward(0, 1, 25, 39)
    await ward.go_to(LENGTH + 1)
    assert ward.blocks() == {plan: int(plan not in ward.ill) for plan in range(PLANS)}


async def test_one_that_is_well_again_has_all_its_blocks_and_joins_the_others() -> None:
    ward = Ward(17)
    await ward.go_to(3 * LENGTH + 1)
    assert ward.blocks()[17] == 0
    ward.ill.clear()
    await ward.go_to(10 * LENGTH + 1)
    assert ward.blocks()[17] == 10
    await ward.go_to(10 * LENGTH + REMEMBERED + 1)
    ward.blocks()
    ward.world.tsdb.queries.clear()
    await ward.go_to(11 * LENGTH + REMEMBERED + 1)
    assert len(ward.world.tsdb.queries) == 3, "all are asked about together again"
    assert set(ward.blocks().values()) == {1}


async def test_a_query_that_takes_for_ever_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ward, asked_alone = Ward(3, plans=8), asyncio.Event()

    async def hang(asked: frozenset[int]) -> None:
        if len(asked) > 1:
            raise QueryFailed("Prometheus at prom:9090 did not answer within 10 s")
        asked_alone.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ward, "refuse", hang)
    sampling = asyncio.create_task(ward.world.sampler.run())
    try:
        for block in (1, 2, 3):
            ward.world.run_to(START + block * LENGTH + 1)
            ward.world.sampler.watch("ns/new", ward.world.target(0))  # wakes it, as its sleep goes by the real clock
            ward.world.sampler.forget("ns/new")
            for _ in range(200):
                await asyncio.sleep(0)
            assert ward.blocks() == {plan: int(plan != 3) for plan in range(8)}
        assert asked_alone.is_set()
    finally:
        sampling.cancel()


async def test_where_the_gateways_have_too_many_counters_to_look_at_all_blocks_still_end_after_their_scrapes() -> None:
    world = SamplerRig(plans=2, phase=None)
    ask = world.tsdb.query

    async def limited(promql: str, at: float) -> list[dict[str, Any]]:
        if "timestamp(" in promql:
            raise QueryFailed("query processing would load too many samples into memory in query execution")
        return await ask(promql, at)

    world.tsdb.query = limited  # type: ignore[method-assign]
    world.sampler.watch("ns/0", world.target(0))
    await world.read(4)
    blocks = world.sampler.take("ns/0").blocks
    assert [block.end - START for block in blocks] == [20.25, 35.25, 50.25]
    assert all(block.usable for block in blocks)


async def test_an_outage_is_not_searched_for() -> None:
    ward = Ward(*range(PLANS))

    async def away(asked: frozenset[int]) -> None:
        raise Unavailable("Prometheus at prom:9090 cannot be connected to")

    ward.refuse = away  # type: ignore[method-assign]
    await ward.go_to(LENGTH + 1)
    assert [len(asked) for asked in ward.failed] == [PLANS]
    ward.ill.clear()
    await ward.go_to(LENGTH + 7)
    assert set(ward.blocks().values()) == {1}


async def test_plans_that_are_too_much_together_are_asked_about_in_parts() -> None:
    """None of them is ill: their answers are only too long together."""
    ward = Ward(plans=PLANS)

    async def limited(promql: str, at: float) -> list[dict[str, Any]]:
        if len(re.findall(re.escape(EKS.split(".")[0]), promql)) > 12:
            ward.failed.append(frozenset())
            raise QueryFailed(TOO_MUCH)
        return await ward._ask(promql, at)

    ward.world.tsdb.query = limited  # type: ignore[method-assign]
    for block in range(1, 10):
        await ward.go_to(block * LENGTH + 1)
        assert set(ward.blocks().values()) == {1}
    assert len(ward.failed) <= 1 + 2 + 4 + 8, "it is remembered"
    assert not any(ward.world.sampler.take(f"ns/{plan:03}").error for plan in range(PLANS))


def test_the_legs_of_the_rig_are_told_apart() -> None:
    assert re.findall(r"\b(\d+)\\\\\.acme-pdf", f'"3.{HEROKU}"'.replace(".", r"\\.")) == ["3"]
