"""Sending notifications about plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cutover.domain.plan import Plan


class Notifier(Protocol):
    """Sends the new entries of the plans' ledgers to receivers, beside the plans' loops. No method waits or raises."""

    def tell(self, plan: Plan, told: Mapping[str, str]) -> None:
        """Queue the ledger's new entries; called for every status that is stored, cheap if unchanged.

        ``told`` is what the stored status remembers of :meth:`told`.
        """

    def told(self, uid: str) -> Mapping[str, str]:
        """Return, by receiver, the last entry that was delivered; the next write of the status remembers it."""

    def overdue(self, uid: str, told: Mapping[str, str]) -> float | None:
        """Return the seconds until that is worth a write of its own; ``None`` where the status remembers all of it."""

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; queued notifications are still sent."""
