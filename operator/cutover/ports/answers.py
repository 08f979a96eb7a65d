"""Asking for the answers that users get, now and after the takeover."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.alike.findings import NoAnswer
from cutover.domain.alike.page import Page
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg


class Answers(Protocol):
    """One GET each, of which only what is compared is kept. Nothing is raised: where there is no answer, its reason is."""

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        """Return the answer that users get as long as the takeover has not moved them."""

    async def of_leg(self, plan: Plan, leg: Leg, path: str) -> Page | NoAnswer:
        """Return the answer of a leg through the gateway, by the probes' route."""
