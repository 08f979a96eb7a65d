"""The check of users' answers in the trial: what it holds, what it only tells, and when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.alike import ALIKE, PAGE, AlikeAnswers
from tests.kit.loop_rig import LoopRig
from tests.kit.world import HANGING, World, check, plan_spec

from cutover.api.v1alpha1 import CheckResult, Phase
from cutover.domain.alike.findings import NoAnswer, PathAnswers
from cutover.domain.alike.page import Page
from cutover.domain.evidence.own_requests import OwnRequest
from cutover.domain.plan import Plan
from cutover.domain.traffic import Probe
from cutover.services.observing import ANSWERS_SECONDS

NAME = "answers-alike"
BAD_REQUEST = (PathAnswers("/", PAGE, Page(400), Page(400), PAGE),)
OTHER_EKS = (PathAnswers("/", PAGE, PAGE, PAGE, replace(PAGE, status=404)),)


def world(answers: tuple[PathAnswers, ...] | None, **fields: Any) -> World:
    w = World(spec=plan_spec(**fields), on_decision=check)
    w.answers = answers
    return w


def said(w: World) -> tuple[CheckResult, str]:
    found = next(one for one in w.status.preflight if one.check == NAME)
    return found.result, found.message


def test_no_user_is_moved_where_heroku_would_answer_otherwise() -> None:
    w = world(BAD_REQUEST).run(400)
    assert (w.status.phase, w.status.weight, w.status.reason) == (Phase.PREFLIGHT, None, "PreflightFailed")
    assert w.weights == []
    assert said(w)[0] is CheckResult.FAILED
    assert "set heroku.hostHeader: Public" in w.status.message
    w.answers = ALIKE
    w.until_phase(Phase.BASELINE, within=60)
    assert said(w) == (CheckResult.PASSED, "")


def test_what_differs_between_the_legs_is_told_and_stays_told() -> None:
    w = world(OTHER_EKS).until_phase(Phase.BASELINE)
    result, message = said(w)
    assert result is CheckResult.WARNED
    assert message.startswith("/: EKS answers with HTTP 404 instead of HTTP 200")
    (taken,) = (one for one in w.status.ledger if one.decision == "TakeOver")
    assert "answers-alike: /: EKS answers" in taken.message


def test_answers_that_do_not_come_are_waited_for_and_then_told() -> None:
    w = world(None).run(30)
    assert (w.status.weight, w.status.reason) == (None, "Trying")
    w.run(300)
    assert (w.status.weight, w.status.reason) == (None, "PreflightFailed")
    assert "answers-alike: the answers that users get have not been asked for yet" in w.status.message
    w.answers = ALIKE
    w.until_phase(Phase.BASELINE, within=60)


@pytest.mark.parametrize("answers", [None, BAD_REQUEST])
def test_who_skips_it_does_not_wait_for_it(answers: tuple[PathAnswers, ...] | None) -> None:
    w = world(answers, preflight={"skip": [{"check": NAME, "reason": "we know"}]}).until_phase(
        Phase.BASELINE, within=40
    )
    assert said(w) == (CheckResult.SKIPPED, "skipped: we know")


def test_another_message_is_written_at_once() -> None:
    w = world(BAD_REQUEST).run(60)
    w.answers = (PathAnswers("/", PAGE, Page(403), Page(403), PAGE),)
    w.run(20)
    (stored,) = (one for one in w.stored.preflight if one.check == NAME)
    assert "HTTP 403" in stored.message


def test_a_leg_that_hangs_does_not_keep_the_answers_from_being_asked_for() -> None:
    skip = [{"check": "eks-answers", "reason": "it is slow"}]
    w = world(OTHER_EKS, preflight={"skip": skip})
    w.eks = HANGING
    w.until_phase(Phase.BASELINE, within=60)
    assert said(w)[0] is CheckResult.WARNED


def test_a_provider_that_cannot_try_has_nothing_to_compare() -> None:
    w = world(BAD_REQUEST)
    w.capabilities = replace(w.capabilities, tries=False)
    w.until_phase(Phase.BASELINE)
    assert said(w) == (CheckResult.SKIPPED, "skipped: users have the operator's route already")


# ---------------------------------------------------------------------------------------------- beside a plan's loop


@dataclass
class Answering(AlikeAnswers):
    """Counts how often it is asked, and fails by a bug where it has to."""

    asked: list[str] = field(default_factory=list)
    fault: Exception | None = None

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        self.asked.append(path)
        if self.fault is not None:
            raise self.fault
        return await super().of_users(plan, path)


TRYING = {"phase": "Preflight", "attempt": 1, "route": {"trial": "VirtualService docs/cutover-pdf"}}
THERE = Probe(0.0, "a1-trial", healthy=True, detail="HTTP 200", status=200)


Known = Callable[..., tuple[PathAnswers, ...] | None]


def observing(answers: Answering) -> tuple[LoopRig, Known, Callable[[], tuple[OwnRequest, ...]]]:
    """Return a loop's world, what its observer knows of answers, and what the metrics' counts owe."""
    rig = LoopRig()
    observer = rig.loop()._observer
    ports = replace(observer._ports, answers=answers)
    observer._ports = ports
    observer._working.plan = a_plan()
    return rig, observer._answers, lambda: observer.probes._own


def a_plan(*paths: str, **spec: Any) -> Plan:
    istio = {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]}
    return builders.plan(status=TRYING, traffic={"istio": istio, "probe": {"paths": paths or ("/",)}}, **spec)


async def answered(known: Callable[[], tuple[PathAnswers, ...] | None]) -> tuple[PathAnswers, ...]:
    async with asyncio.timeout(60):
        while (found := known()) is None:  # noqa: ASYNC110  # a call is what makes it go on
            await asyncio.sleep(0.001)
    return found


@pytest.mark.usefixtures("virtual_time")
async def test_answers_are_asked_for_once_and_again_after_a_while() -> None:
    answers, plan = Answering(), a_plan()
    rig, known, owed = observing(answers)
    assert known(plan, None, None) is None
    assert known(plan, replace(THERE, revision="a1-w0"), None) is None
    assert answers.asked == []
    assert await answered(lambda: known(plan, THERE, None)) == ALIKE
    for _ in range(5):
        known(plan, THERE, None)
        await asyncio.sleep(0)
    assert answers.asked == ["/"]
    assert [one.code for one in owed()] == ["200"], "EKS' own, which the metrics count as a user's"
    rig.now += ANSWERS_SECONDS
    known(plan, THERE, None)
    await asyncio.sleep(0.01)
    assert answers.asked == ["/", "/"]


@pytest.mark.usefixtures("virtual_time")
async def test_an_edit_of_what_is_asked_makes_answers_of_before_nothing() -> None:
    answers = Answering()
    _, known, _ = observing(answers)
    await answered(lambda: known(a_plan(), THERE, None))
    assert known(a_plan("/up"), THERE, None) is None
    assert [each.path for each in await answered(lambda: known(a_plan("/up"), THERE, None))] == ["/up"]


async def test_nothing_is_asked_by_a_plan_that_skips_it() -> None:
    answers = Answering()
    _, known, _ = observing(answers)
    plan = a_plan(preflight={"skip": [{"check": NAME, "reason": "we know"}]})
    for _ in range(5):
        assert known(plan, THERE, None) is None
        await asyncio.sleep(0)
    assert answers.asked == []


@pytest.mark.usefixtures("virtual_time")
async def test_a_bug_in_asking_is_told_in_place_of_an_answer() -> None:
    _, known, _ = observing(Answering(fault=RuntimeError("no such thing")))
    (found,) = await answered(lambda: known(a_plan(), THERE, None))
    assert found.users == NoAnswer("it could not be asked for: RuntimeError('no such thing')")
    assert found.heroku == PAGE
