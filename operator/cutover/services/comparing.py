"""Asks for the answers to a plan's paths that are compared: as users have them, and of both legs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from cutover.domain.alike.findings import NoAnswer, PathAnswers
from cutover.domain.alike.page import Page
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg
from cutover.ports.answers import Answers

log = structlog.get_logger("cutover")


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers, and what they are the answers to.

    Parameters
    ----------
    question
        What was asked, of whom and by which way, see :func:`question`.
    answers
        The answers to each path.
    """

    question: tuple[object, ...]
    answers: tuple[PathAnswers, ...]


def question(plan: Plan) -> tuple[object, ...]:
    """Return all of a plan that its answers depend on: with another question they say nothing."""
    spec = plan.spec
    return plan.uid, plan.status.attempt, spec.traffic, spec.heroku, spec.eks.service


async def compare(answers: Answers, plan: Plan) -> Asked:
    """Ask for each path, one after the other: users' way (until the takeover) and both legs at once, and Heroku once more."""
    found = [await _ask(answers, plan, path) for path in plan.spec.traffic.probe.paths]
    return Asked(question(plan), tuple(found))


async def _said(asking: Coroutine[Any, Any, Page | NoAnswer], plan: Plan) -> Page | NoAnswer:
    """Return an answer; a reason where asking fails by a bug, as the plan would wait and its status not say why."""
    try:
        return await asking
    except Exception as fault:
        log.exception("an answer could not be asked for", plan=plan.key)
        return NoAnswer(f"it could not be asked for: {fault!r}")


async def _users(answers: Answers, plan: Plan, path: str) -> Page | NoAnswer:
    """Ask as users do, until they have the operator's route: then they get what the legs answer."""
    if plan.status.weight is None:
        return await _said(answers.of_users(plan, path), plan)
    return NoAnswer("users have the operator's route")


async def _ask(answers: Answers, plan: Plan, path: str) -> PathAnswers:
    users, heroku, eks = await asyncio.gather(
        _users(answers, plan, path),
        _said(answers.of_leg(plan, Leg.HEROKU, path), plan),
        _said(answers.of_leg(plan, Leg.EKS, path), plan),
    )
    hangs = isinstance(heroku, NoAnswer)
    again = heroku if hangs else await _said(answers.of_leg(plan, Leg.HEROKU, path), plan)
    return PathAnswers(path, users, heroku, again, eks)
