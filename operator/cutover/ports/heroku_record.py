"""What the drain has recorded of the plans' apps."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.dynos import DynoUse
from cutover.domain.plan import Plan


class HerokuRecord(Protocol):
    """Reads the drain's record from the plan's Prometheus."""

    async def dynos(self, plan: Plan) -> DynoUse | None:
        """Return what the web dynos use; ``None`` if nothing is recorded. Raises Unavailable."""

    async def requests_of_last_day(self, plan: Plan) -> float | None:
        """Return the requests at Heroku's router in the last 24 h; ``None`` if nothing is recorded. Raises Unavailable."""
