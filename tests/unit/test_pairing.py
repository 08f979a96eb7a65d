"""Pairs beside a plan's loop: how often both legs are asked, that nothing waits for a leg that hangs, and who is woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from tests.kit import builders
from tests.kit.waiting import eventually

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, Phase
from cutover.domain.evidence.paired_safety import PairedStep
from cutover.domain.evidence.pairs import Pairs
from cutover.domain.evidence.probe_key import IN_A_ROW
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg, Probe
from cutover.scale.turns import Turns
from cutover.services.pairing import MOST_UNDER_WAY, Pairing

PLAN = builders.plan()


@dataclass
class Gateway:
    """Both legs; each may fail, hang, or have a bug in what asks it."""

    turns: Turns = field(default_factory=lambda: Turns(1e6))
    urgent_turns: Turns = field(default_factory=lambda: Turns(1e6))
    asked: list[tuple[Leg, str]] = field(default_factory=list)
    answer: Callable[[Leg], Probe] = lambda leg: Probe(0.0, "a1-w100", healthy=True, detail="HTTP 200", status=200)
    hanging: asyncio.Event | None = None

    @property
    def leg_probe(self) -> Gateway:
        return self

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        self.asked.append((leg, path))
        if self.hanging is not None and leg is Leg.EKS:
            await self.hanging.wait()
        return self.answer(leg)


@dataclass
class Rig:
    gateway: Gateway = field(default_factory=Gateway)
    news: int = 0
    answered: list[Probe] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.pairing = Pairing(
            self.gateway, now=lambda: self.now, news=self._note, answered=lambda probe, at: self.answered.append(probe)
        )

    def _note(self) -> None:
        self.news += 1


def every(seconds: float | None) -> Callable[[Pairs], float | None]:
    return lambda pairs: seconds


def with_paths(plan: Plan, *paths: str) -> Plan:
    probe = plan.spec.traffic.probe.model_copy(update={"paths": paths})
    traffic = plan.spec.traffic.model_copy(update={"probe": probe})
    return replace(plan, spec=plan.spec.model_copy(update={"traffic": traffic}))


async def test_both_legs_are_asked_the_same_path_after_path() -> None:
    rig = Rig()
    rig.pairing.keep(with_paths(PLAN, "/", "/up"), every(0.001))
    await eventually(lambda: rig.pairing.pairs.asked >= 4)
    rig.pairing.stop()
    assert [set(rig.gateway.asked[n : n + 2]) for n in (0, 2, 4, 6)] == [
        {(Leg.HEROKU, path), (Leg.EKS, path)} for path in ("/", "/up", "/", "/up")
    ]
    assert rig.pairing.heroku is not None
    assert rig.pairing.eks is not None
    assert rig.news == 1, "only the first is news"
    assert len(rig.answered) >= 4


async def test_reconciles_ask_no_more_often() -> None:
    rig = Rig()
    for _ in range(20):
        rig.pairing.keep(PLAN, every(60))
        await asyncio.sleep(0.001)
    assert rig.pairing.pairs.asked == 1
    rig.pairing.stop()


async def test_a_leg_that_hangs_is_asked_on_and_not_without_end() -> None:
    rig = Rig()
    rig.gateway.hanging = asyncio.Event()
    rig.pairing.keep(PLAN, every(0.001))
    await eventually(lambda: len(rig.gateway.asked) == 2 * MOST_UNDER_WAY)
    await asyncio.sleep(0.05)
    assert len(rig.gateway.asked) == 2 * MOST_UNDER_WAY
    rig.gateway.hanging.set()
    await eventually(lambda: rig.pairing.pairs.asked >= MOST_UNDER_WAY)
    rig.pairing.stop()


async def test_a_row_wakes_the_loop_and_is_asked_more_often() -> None:
    rig = Rig()
    good = rig.gateway.answer
    rig.pairing.keep(PLAN, lambda pairs: 0.001 if pairs.row else 3600)
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    failed = Probe(0.0, "a1-w100", healthy=False, detail="HTTP 503", status=503)
    rig.gateway.answer = lambda leg: failed if leg is Leg.EKS else good(leg)
    rig.pairing.keep(PLAN, lambda pairs: 0.001)
    await eventually(lambda: rig.pairing.pairs.row >= IN_A_ROW + 2)
    rig.pairing.stop()
    assert rig.news >= 2 + 3, "the first, the change, and each from the sixth of a row on"
    assert rig.pairing.eks is not None
    assert rig.pairing.eks.failures >= IN_A_ROW


async def test_another_leg_is_asked_afresh() -> None:
    rig = Rig()
    rig.pairing.keep(PLAN, every(60))
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    rig.pairing.keep(with_paths(PLAN, "/up"), every(60))
    assert rig.pairing.pairs.asked == 0
    assert rig.pairing.eks is None
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    assert rig.gateway.asked[-1][1] == "/up"
    rig.pairing.keep(PLAN, every(None))
    assert rig.pairing.pairs.asked == 0, "where none are wanted, none are known"


async def test_other_headers_are_another_question() -> None:
    rig = Rig()
    rig.pairing.keep(PLAN, every(60))
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    headers = [{"name": "Accept-Language", "value": "de"}]
    rig.pairing.keep(
        builders.plan(traffic={**builders.spec_fields()["traffic"], "probe": {"headers": headers}}), every(60)
    )
    assert rig.pairing.pairs.asked == 0
    rig.pairing.stop()


async def test_each_step_has_evidence_of_its_own() -> None:
    checkpoint = Checkpoint(weight_since=1.0, observed_at=2.0)
    traffic = {**builders.spec_fields()["traffic"], "probe": {"rate": 1}}
    plan = builders.plan(traffic=traffic, gates={"insufficientTraffic": "AcceptProbes"})
    pairing, seen = Rig().pairing, []
    for weight, known in (
        (10, checkpoint),
        (10, checkpoint.evolve(observed_at=None)),
        (25, checkpoint),
        (100, checkpoint),
    ):
        status = MigrationPlanStatus(phase=Phase.SHIFTING, attempt=1, weight=weight, checkpoint=known)
        pairing.keep(replace(plan, status=status), every(1.0))
        seen.append(pairing.pairs.safety and pairing.pairs.safety.step)
    pairing.stop()
    assert seen == [PairedStep(1, 10, 25), None, PairedStep(1, 25, 50), None]


async def test_a_fault_of_ours_is_a_failed_probe() -> None:
    rig = Rig()

    def fault(leg: Leg) -> Probe:
        raise KeyError("number")

    rig.gateway.answer = fault
    rig.pairing.keep(PLAN, every(60))
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    rig.pairing.stop()
    assert rig.pairing.pairs.both_failed == 1
    assert rig.pairing.heroku is not None
    assert "KeyError('number')" in rig.pairing.heroku.detail


async def test_nothing_is_left_behind() -> None:
    rig = Rig()
    rig.gateway.hanging = asyncio.Event()
    rig.pairing.keep(PLAN, every(0.001))
    await eventually(lambda: len(rig.gateway.asked) >= 4)
    rig.pairing.stop()
    await asyncio.sleep(0.01)
    asked = len(rig.gateway.asked)
    await asyncio.sleep(0.02)
    assert len(rig.gateway.asked) == asked
    assert not rig.pairing._running


@pytest.mark.parametrize("plans", [1, 1000])
def test_a_thousand_plans_take_turns(plans: int) -> None:
    turns = Turns(200)
    waits = [turns.take(10.0) for _ in range(plans)]
    assert waits[0] == 0
    assert waits[-1] == pytest.approx((plans - 1) / 200)
    assert turns.take(1000.0) == 0


async def test_plans_that_wait_for_their_turn_stay_in_line() -> None:
    """However often they reconcile meanwhile."""
    turns = Turns(100)
    rigs = [Rig(Gateway(turns)) for _ in range(20)]
    for _ in range(30):
        for rig in rigs:
            rig.pairing.keep(PLAN, every(60))
        await asyncio.sleep(0.01)
    assert [rig.pairing.pairs.asked for rig in rigs] == [1] * 20
    for rig in rigs:
        rig.pairing.stop()


async def test_a_declared_rate_is_not_urgent() -> None:
    gateway = Gateway(Turns(1e6), Turns(1e-6))
    gateway.urgent_turns.take(asyncio.get_running_loop().time())
    rig = Rig(gateway)
    plan = builders.plan(traffic={**builders.spec_fields()["traffic"], "probe": {"rate": 1}})
    rig.pairing.keep(plan, every(1.0 / plan.spec.traffic.probe.rate))
    await eventually(lambda: rig.pairing.pairs.asked == 1)
    rig.pairing.stop()


async def test_who_has_to_know_at_once_waits_for_no_other() -> None:
    """A plan in the long line of those where nothing is wrong leaves it."""
    turns = Turns(1.0)
    for _ in range(1000):
        turns.take(asyncio.get_running_loop().time())
    rig = Rig(Gateway(turns))
    rig.pairing.keep(PLAN, every(60))
    await asyncio.sleep(0.01)
    assert rig.pairing.pairs.asked == 0
    rig.pairing.keep(PLAN, every(0.01))
    await eventually(lambda: rig.pairing.pairs.asked >= 3)
    rig.pairing.stop()
