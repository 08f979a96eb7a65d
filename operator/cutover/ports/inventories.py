"""Reading the Kubernetes objects that preflight judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory


class Inventories(Protocol):
    """The cluster's objects that preflight judges."""

    async def inventory(self, plan: Plan, reads: Sequence[Read] | None = None, *, fresh: bool = False) -> Inventory:
        """Make reads for a plan, by default those that its checks declare, lists in their order. Raises Unavailable.

        Parameters
        ----------
        fresh
            Whether no list may be from before the call.
        """
