"""Which decisions end a plan, the name of its report, and where people find it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.domain.journal.notifications import key_of

#: Decisions by which a plan ends, by the phase that it is in from then on.
ENDS = {Phase.COMPLETED: "Complete", Phase.ROLLED_BACK: "RolledBack"}
_DIGEST = 10


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """Where reports are kept that notifications may name.

    Parameters
    ----------
    config_maps
        Whether each is in a ConfigMap.
    url
        Address at which the folder with all of them is served; ``""`` for none.
    """

    config_maps: bool = False
    url: str = ""

    def page(self, namespace: str, name: str) -> str:
        """Return the address of a report's page; ``""`` for none."""
        return f"{self.url}/{namespace}/{name}.html" if self.url and name else ""


#: Where reports are not kept, or nobody is told.
NO_LINKS = ReportLinks()


def ended_by(status: MigrationPlanStatus) -> LedgerEntry | None:
    """Return the decision that ended a plan; ``None`` where it has not ended, or the ledger has it no longer."""
    decision = ENDS.get(status.phase)
    return next((entry for entry in reversed(status.ledger) if entry.decision == decision), None)


def report_name(uid: str, plan: str, entry: LedgerEntry) -> str:
    """Return the name of a report, as a ConfigMap and as a file; ``""`` for a decision that ends nothing.

    It is known before the report is written, and the same for every process that writes it.

    Parameters
    ----------
    uid, plan
        UID and name of the plan.
    entry
        The decision.
    """
    if entry.decision not in ENDS.values():
        return ""
    digest = sha256(f"{uid}/{key_of(entry)}".encode(errors="surrogatepass")).hexdigest()[:_DIGEST]
    return f"cutover-{plan}-report-a{entry.attempt}-{digest}"
