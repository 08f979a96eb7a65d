"""A decision is executed as it is: in its order, up to the first action that fails, and nothing else is done."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.kit.world import START, plan_spec

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, OnDelete, Phase
from cutover.domain.engine.actions import Action, Decision, Event, Finalize, Prepare, SetWeight, WriteStatus
from cutover.domain.plan import Plan
from cutover.domain.revision import Split
from cutover.ports.all import Ports
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.services import apply
from cutover.services.apply import Applier, RouteUnavailable
from cutover.services.working_status import WorkingStatus

STATUS = MigrationPlanStatus(
    observed_generation=1,
    phase=Phase.SHIFTING,
    attempt=1,
    weight=10,
    checkpoint=Checkpoint(at=START, weight_since=START, consumed_until=START),
)
PLAN = Plan("shop", "pdf", "1", 1, plan_spec(), STATUS)
DECIDED = STATUS.evolve(weight=25)
ROUTE = SetWeight(Split(1, 25), over="7", supersedes="a1-w50@1")


class Outside:
    """Notes what is asked of the outside world, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.set_to: list[SetWeight] = []
        self.time = START
        self.version = "1"
        self.plans = self.traffic = self.notifier = self.clock = self
        self.reports = None

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.failing:
            raise self.failing[what]

    def now(self, plan: Plan | None = None) -> float:
        return self.time

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, version: str) -> str:
        assert version == self.version
        self._do("status")
        self.version = str(int(version) + 1)
        return self.version

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        self._do("read")
        return PLAN, self.version

    async def prepare(self, plan: Plan) -> None:
        self._do("prepare")

    async def set(self, plan: Plan, write: SetWeight) -> None:
        self.set_to.append(write)
        self._do("route")

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        self._do(f"finalize {rest.end}")

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        self._do(f"event {reason}")

    def tell(self, plan: Plan, told: Any) -> None: ...

    def told(self, uid: str) -> dict[str, str]:
        return {}

    async def wait_turn(self, plan: Plan) -> None:
        self._do("wait")

    def applier(self) -> tuple[Applier, WorkingStatus]:
        ports = cast("Ports", self)
        working = WorkingStatus(ports)
        working.plan, working.version, working.stored = PLAN, self.version, STATUS
        return Applier(ports, working, self.wait_turn), working


def apply_to(outside: Outside, *actions: Action, plan: Plan = PLAN) -> WorkingStatus:
    applier, working = outside.applier()
    asyncio.run(applier.apply(plan, Decision(DECIDED, actions, (Event("Normal", "Told", "."),))))
    return working


NAMES: dict[type[Action], str] = {
    WriteStatus: "status",
    Prepare: "prepare",
    SetWeight: "route",
    Finalize: "finalize Heroku",
}


@pytest.mark.parametrize(
    "actions",
    [
        order
        for size in range(4)
        for order in itertools.permutations([WriteStatus(), Prepare(), ROUTE, Finalize(OnDelete.HEROKU)], size)
    ],
    ids=lambda actions: ", ".join(type(action).__name__ for action in actions) or "nothing",
)
def test_actions_are_executed_in_the_order_in_which_they_come(actions: tuple[Action, ...]) -> None:
    """Whatever the order is, and whatever it means: it is decided elsewhere."""
    outside = Outside()
    working = apply_to(outside, *actions)
    assert outside.done == [*(NAMES[type(action)] for action in actions), "event Told"]
    assert working.plan is not None
    assert working.plan.status == DECIDED


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_comes_after_a_failure_is_left(failing: int) -> None:
    outside = Outside()
    names = ["status", "prepare", "route"]
    outside.failing[names[failing]] = Unavailable("HTTP 500")
    with pytest.raises(Unavailable):
        apply_to(outside, WriteStatus(), Prepare(), ROUTE)
    assert outside.done == names[: failing + 1]


def test_what_is_written_to_the_route_is_what_was_decided() -> None:
    outside = Outside()
    apply_to(outside, ROUTE)
    assert outside.set_to == [ROUTE]


@pytest.mark.parametrize(("action", "route"), [(ROUTE, True), (Prepare(), True), (WriteStatus(), False)])
def test_a_route_that_cannot_be_written_is_told_apart(action: Action, route: bool) -> None:
    outside = Outside()
    outside.failing = {name: Unavailable("HTTP 500") for name in NAMES.values()}
    with pytest.raises(Unavailable) as caught:
        apply_to(outside, action)
    assert isinstance(caught.value, RouteUnavailable) is route


@pytest.mark.parametrize("error", [Conflict, Gone])
def test_conflicts_and_plans_that_are_gone_are_nothing_else(error: type[Exception]) -> None:
    outside = Outside()
    outside.failing["route"] = error("it is")
    with pytest.raises(error):
        apply_to(outside, ROUTE)


@pytest.mark.parametrize(("late", "written"), [(0.0, True), (0.5, False)])
def test_a_write_whose_evidence_has_grown_old_is_not_made(late: float, written: bool) -> None:
    outside = Outside()
    outside.time = START + 60 + late
    raising = replace(ROUTE, expires=START + 60)
    if written:
        apply_to(outside, raising)
    else:
        with pytest.raises(Conflict, match="too old"):
            apply_to(outside, raising)
    assert outside.done == (["route", "event Told"] if written else [])


def test_a_write_that_has_to_be_confirmed_reads_first() -> None:
    outside = Outside()
    apply_to(outside, replace(ROUTE, confirm=True))
    assert outside.done == ["read", "route", "event Told"]


def test_what_is_not_in_force_any_more_is_not_written() -> None:
    outside = Outside()
    applier, _ = outside.applier()
    outside.version = "2"
    with pytest.raises(Conflict, match="changed meanwhile"):
        asyncio.run(applier.apply(PLAN, Decision(DECIDED, (replace(ROUTE, confirm=True),))))
    assert outside.done == ["read"]


@pytest.mark.parametrize("may_wait", [False, True])
def test_a_write_that_may_wait_lets_others_go_first(may_wait: bool) -> None:
    outside = Outside()
    apply_to(outside, WriteStatus(may_wait=may_wait))
    assert outside.done == [*(["wait"] if may_wait else []), "status", "event Told"]


def test_what_was_written_holds_and_is_told_later_if_the_route_fails() -> None:
    outside = Outside()
    applier, working = outside.applier()
    outside.failing["route"] = Unavailable("HTTP 500")
    decision = Decision(DECIDED, (WriteStatus(), ROUTE), (Event("Normal", "Advance", "."),))
    with pytest.raises(RouteUnavailable):
        asyncio.run(applier.apply(PLAN, decision))
    plan = working.plan
    assert plan is not None
    assert plan.status == DECIDED
    outside.failing.clear()
    asyncio.run(applier.apply(plan, Decision(DECIDED, (ROUTE,))))
    assert outside.done == ["status", "route", "route", "event Advance"]


def test_only_what_is_put_back_again_and_again_is_fought_over() -> None:
    outside = Outside()
    applier, _ = outside.applier()
    for repairs, fought in ((False, False), (True, True)):
        for _ in range(apply.REPAIRS_AT_ONCE):
            asyncio.run(applier.apply(PLAN, Decision(STATUS, (replace(ROUTE, repairs=repairs),))))
        assert applier.fought_over is fought
    outside.time += apply.FIGHT_SECONDS
    assert not applier.fought_over
