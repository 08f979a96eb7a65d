"""Answers that are alike, for tests that are about something else."""

from __future__ import annotations

from cutover.domain.alike.findings import NoAnswer, PathAnswers
from cutover.domain.alike.page import Page
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg

#: What everybody answers.
PAGE = Page(200, content_type="text/html; charset=utf-8", size=1000)
ALIKE = (PathAnswers("/", PAGE, PAGE, PAGE, PAGE),)


class AlikeAnswers:
    """:class:`cutover.ports.answers.Answers` where users and both legs get the same."""

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        return PAGE

    async def of_leg(self, plan: Plan, leg: Leg, path: str) -> Page | NoAnswer:
        return PAGE
