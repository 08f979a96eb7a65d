"""Reading the Kubernetes objects that preflight judges."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory


class Inventories(Protocol):
    """The cluster's objects that preflight judges."""

    async def inventory(self, plan: Plan) -> Inventory:
        """Read the objects that the plan's checks declare. Raises Unavailable."""
