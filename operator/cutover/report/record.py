"""What a report is made from: the plan, and whatever else is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cutover.api.v1alpha1 import LedgerEntry
from cutover.domain.journal.notifications import key_of
from cutover.domain.plan import Plan
from cutover.report.history import History
from cutover.report.week import Week


@dataclass(frozen=True, slots=True)
class Happening:
    """A Kubernetes Event about the plan."""

    at: datetime
    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What each leg costs, in the words of who asks for the report; ``""`` where nobody says."""

    heroku: str = ""
    eks: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one migration.

    Parameters
    ----------
    plan
        The plan with its status.
    at
        When the report is made.
    older
        Decisions from the operator's log; a plan keeps the last 30 only.
    events
        Kubernetes' Events about the plan.
    history
        What Prometheus has, if it was asked.
    week
        Heroku's record before the takeover, by hours of the week.
    costs
        What each leg costs.
    skippers
        Who wrote fields of the spec that skip something, by the field's path.
    """

    plan: Plan
    at: datetime
    older: tuple[LedgerEntry, ...] = ()
    events: tuple[Happening, ...] = ()
    history: History | None = None
    week: Week | None = None
    costs: Costs = Costs()
    skippers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """All decisions that are known, oldest first, each once."""
        return merged(self.older, self.plan.status.ledger)


def merged(older: Sequence[LedgerEntry], newer: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Return the entries of two ledgers of one plan, oldest first.

    Where both have an entry, that of ``older`` stays: it is from the log, which keeps the numbers that a full ledger drops.
    """
    known = {key_of(entry) for entry in older}
    return tuple(
        sorted([*older, *(entry for entry in newer if key_of(entry) not in known)], key=lambda entry: entry.at)
    )
