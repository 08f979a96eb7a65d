"""Asking the Heroku leg whether it answers."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.plan import Plan
from cutover.domain.traffic import Probe


class LegProbe(Protocol):
    """Requests to the Heroku leg on the way that a user's request takes."""

    async def probe(self, plan: Plan) -> Probe:
        """Send one request to the Heroku leg. Never raises: a failure is an unhealthy probe."""
