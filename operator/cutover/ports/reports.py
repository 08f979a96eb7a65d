"""Keeping reports of plans that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cutover.domain.plan import Plan


class Reports(Protocol):
    """Writes the report of each plan that ends, beside the plans' loops. No method waits or raises."""

    def tell(self, plan: Plan) -> None:
        """Note a status that is stored; cheap where the plan has not ended, or its ledger is unchanged."""

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; a report that waits is still written."""


class ReportStore(Protocol):
    """A place where reports are kept."""

    @property
    def kind(self) -> str:
        """What it is, for metrics."""

    def place(self, plan: Plan, name: str) -> str:
        """Return where a report is kept, for people.

        Parameters
        ----------
        plan, name
            The plan, and the report's name (:func:`cutover.domain.journal.reports.report_name`).
        """

    async def keep(self, plan: Plan, name: str, documents: Mapping[str, str]) -> None:
        """Write a report.

        Parameters
        ----------
        plan, name
            As above.
        documents
            Texts by file name.

        Raises
        ------
        Conflict
            If it is there already.
        Gone
            If the plan's namespace is there no longer.
        Unavailable
            If it cannot be written now. The text is for people.
        """
