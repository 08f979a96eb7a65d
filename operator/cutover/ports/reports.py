"""Keeping reports of plans that have ended."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.plan import Plan


class Reports(Protocol):
    """Writes the report of each plan that ends, beside the plans' loops. No method waits or raises."""

    def tell(self, plan: Plan) -> None:
        """Note a status that is stored; cheap where the plan has not ended, or its ledger is unchanged."""

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; a report that waits is still written."""
