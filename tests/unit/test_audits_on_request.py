"""Somebody asks for the audits and for both legs' answers as they are now, by an annotation: when it is answered, and by what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.alike import PAGE, AlikeAnswers
from tests.kit.loop_rig import LoopRig
from tests.kit.states import checked_world, judging_world, rolled_back
from tests.kit.target import READY
from tests.kit.world import World, plan_spec

from cutover.api.v1alpha1 import AuditStatus, CheckResult, MigrationPlanStatus, Phase
from cutover.domain.alike.findings import NoAnswer, PathAnswers
from cutover.domain.alike.page import Page
from cutover.domain.commands.annotations import AUDIT_ANNOTATION
from cutover.domain.engine.decide import decide
from cutover.domain.engine.wanted import audit_asked_at
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg, Probe

NAME = "answers-alike"
GONE = PathAnswers("/", NoAnswer("users have the operator's route"), PAGE, PAGE, replace(PAGE, status=404))
SAME = PathAnswers("/", NoAnswer("users have the operator's route"), PAGE, PAGE, PAGE)


def ask(world: World, text: str = "now", within: float = 30) -> AuditStatus:
    """Return how a request was answered."""
    world.annotations = {**world.annotations, AUDIT_ANNOTATION: text}
    world.run(within)
    audit = world.stored.audit
    assert audit is not None
    assert audit.request == text
    return audit


def alike(world: World) -> tuple[CheckResult, str]:
    return next((one.result, one.message) for one in world.stored.preflight if one.check == NAME)


def completed() -> World:
    return judging_world(10).until_phase(Phase.COMPLETED, within=200_000)


ROUTED: dict[str, Callable[[], World]] = {
    "before the first step": lambda: checked_world().until_phase(Phase.BASELINE),
    "at 10 %": lambda: judging_world(10),
    "completed": completed,
    "rolled back": lambda: rolled_back(Phase.ROLLED_BACK),
}


@pytest.mark.parametrize("where", ROUTED)
def test_after_the_takeover_both_legs_are_compared_as_they_are_now(where: str) -> None:
    world = ROUTED[where]()
    phase, weight = world.stored.phase, world.stored.weight
    world.answers = (GONE,)
    answered = ask(world).answered_at
    assert answered is not None
    result, message = alike(world)
    assert result is CheckResult.WARNED
    assert message.startswith("/: EKS answers with HTTP 404 instead of HTTP 200. To do: ")
    told = [entry.message for entry in world.stored.ledger if entry.decision == "Audit"]
    assert told == [f"since the takeover the audits find: answers-alike: {message}"]
    world.answers = (SAME,)
    assert ask(world, "again").answered_at is not None
    assert alike(world) == (CheckResult.PASSED, "")
    assert len([entry for entry in world.stored.ledger if entry.decision == "Audit"]) == 1
    if phase in (Phase.COMPLETED, Phase.ROLLED_BACK):
        assert (world.stored.phase, world.stored.weight) == (phase, weight), "it moves nothing"


def test_a_leg_that_gives_no_answer_is_told() -> None:
    world = judging_world(10)
    silence = NoAnswer("no answer within 10 s")
    world.answers = (replace(SAME, heroku=silence, again=silence), replace(SAME, path="/up", eks=silence))
    ask(world)
    assert alike(world) == (
        CheckResult.WARNED,
        "/: Heroku gives no answer through the gateway (no answer within 10 s); /up: EKS gives no answer (no answer within 10 s)",
    )
    world.answers = (replace(SAME, again=Page(503)),)
    ask(world, "again")
    assert alike(world)[1].startswith("/: Heroku answers by turns with HTTP 200 and HTTP 503")


def test_nothing_is_compared_later_unless_somebody_asks() -> None:
    world = judging_world(10)
    before = alike(world)
    world.answers = (GONE,)
    world.run(600)
    assert alike(world) == before
    assert world.stored.audit is None


def test_one_value_is_one_request() -> None:
    world = judging_world(10)
    first = ask(world)
    world.run(300)
    assert world.stored.audit == first
    assert ask(world, "later").asked_at > first.asked_at


WITHOUT_SERVICE = {"target": replace(READY, ports=None)}


@pytest.mark.parametrize(
    ("spec", "world", "why"),
    [
        ({"preflight": {"skip": [{"check": NAME, "reason": "we know"}]}}, {}, "preflight.skip names answers-alike"),
        ({"suspend": True}, {}, "spec.suspend is set, and the operator has no route yet"),
        ({}, WITHOUT_SERVICE, "before the trial, which begins once the checks pass"),
    ],
)
def test_where_the_legs_are_not_asked_the_status_says_why(
    spec: dict[str, Any], world: dict[str, Any], why: str
) -> None:
    audit = ask(World(spec=plan_spec(**spec), **world).run(20))
    assert audit.answered_at is not None
    assert audit.message.startswith("the legs' answers: ")
    assert audit.message.endswith(why)


def test_who_asks_just_after_the_plan_was_applied_gets_the_answers_of_the_trial() -> None:
    world = World(spec=plan_spec(), target=READY)
    world.annotations = {AUDIT_ANNOTATION: "now"}
    world.until(lambda _: world.stored.audit is not None and world.stored.audit.answered_at is not None, within=120)
    audit = world.stored.audit
    assert audit is not None
    assert audit.answered_at is not None
    assert audit.answered_at > audit.asked_at
    assert audit.message == ""
    assert alike(world)[0] is CheckResult.PASSED


def test_while_users_go_back_it_waits() -> None:
    status = MigrationPlanStatus(phase=Phase.ROLLING_BACK, attempt=1, weight=0)
    asked = AuditStatus(request="now", asked_at=datetime(2027, 1, 11, 10, 0, tzinfo=UTC))
    assert audit_asked_at(status.evolve(audit=asked)) is None
    assert audit_asked_at(status.evolve(audit=asked, phase=Phase.ROLLED_BACK)) == asked.asked_at.timestamp()
    assert audit_asked_at(status.evolve(audit=asked, phase=Phase.PREFLIGHT)) is None
    assert audit_asked_at(status.evolve(audit=asked, phase=Phase.PREFLIGHT, weight=None)) is not None


def test_a_request_of_a_time_to_come_is_noted_anew() -> None:
    world = judging_world(10)
    plan, seen = world.plan(), replace(world.observe(), asked_anew=False)
    ahead = AuditStatus(request="now", asked_at=datetime.fromtimestamp(world.now, UTC) + timedelta(days=3650))
    plan = replace(plan, annotations={AUDIT_ANNOTATION: "now"}, status=plan.status.evolve(audit=ahead))
    noted = decide(plan, seen, world.now).status.audit
    assert noted is not None
    assert noted.asked_at.timestamp() == pytest.approx(world.now)


def test_whatever_the_annotation_says_the_status_can_be_stored() -> None:
    world = judging_world(10)
    world.annotations = {AUDIT_ANNOTATION: "\x1b[2J\u202e" + "x" * 100_000}
    world.run(30)
    audit = world.stored.audit
    assert audit is not None
    assert audit.answered_at is not None
    assert len(audit.request) <= 120
    assert audit.request.isprintable()


# ------------------------------------------------------------------------------------------------- beside a plan's loop


@dataclass
class Counting(AlikeAnswers):
    """Notes who was asked, and waits where it has to."""

    asked: list[str] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        self.asked.append("users")
        return await super().of_users(plan, path)

    async def of_leg(self, plan: Plan, leg: Leg, path: str) -> Page | NoAnswer:
        self.asked.append(leg)
        await self.holding.wait()
        return await super().of_leg(plan, leg, path)


@pytest.mark.usefixtures("virtual_time")
async def test_the_operator_asks_both_legs_once_and_then_answers() -> None:
    rig, answers = LoopRig(), Counting()
    loop = rig.loop()
    loop._observer._ports = replace(loop._observer._ports, answers=answers)
    rig.edit(annotations={AUDIT_ANNOTATION: "now"})
    rig.deliver()
    delay = await loop.reconcile()
    assert delay == 0
    noted = rig.stored.audit
    assert noted is not None
    assert noted.answered_at is None
    await loop.reconcile()
    await asyncio.sleep(0)
    assert rig.stored.audit == noted, "while the legs are asked nothing is answered"
    answers.holding.set()
    loop._wake.clear()
    async with asyncio.timeout(60):
        await loop._wake.wait()  # the answers are news
        while (audit := rig.stored.audit) is None or audit.answered_at is None:
            await asyncio.sleep(0.001)
            rig.now += 1
            await loop.reconcile()
    assert sorted(answers.asked) == [Leg.EKS, Leg.HEROKU, Leg.HEROKU], "users get what the legs answer"
    assert "audits: not asked in these tests" in audit.message
    assert next(one.result for one in rig.stored.preflight if one.check == NAME) is CheckResult.PASSED
    for _ in range(3):
        rig.now += 600
        await loop.reconcile()
    assert len(answers.asked) == 3
    loop._observer.stop()


@pytest.mark.usefixtures("virtual_time")
async def test_in_the_trial_answers_of_a_moment_ago_are_asked_for_once_more() -> None:
    rig, answers = LoopRig(), Counting()
    answers.holding.set()
    observer = rig.loop()._observer
    observer._ports = replace(observer._ports, answers=answers)
    trying = {"phase": "Preflight", "attempt": 1, "route": {"trial": "VirtualService docs/cutover-pdf"}}
    plan = observer._working.plan = builders.plan(status=trying)
    there = Probe(0.0, "a1-trial", healthy=True, detail="HTTP 200", status=200)
    async with asyncio.timeout(60):
        while observer._answers(plan, there, None) is None:  # noqa: ASYNC110  # a call is what makes it go on
            await asyncio.sleep(0.001)
    rig.now += 5
    asked_at = datetime.fromtimestamp(rig.now, UTC)
    waiting = replace(plan, status=plan.status.evolve(audit=AuditStatus(request="now", asked_at=asked_at)))
    for _ in range(3):
        observer._renew(waiting)
        assert observer._answers(waiting, there, None) is not None, "those of before are there meanwhile"
        await asyncio.sleep(0.01)
    assert answers.asked.count("users") == 2
    assert observer.answers.renewed(rig.now)
    observer.stop()
