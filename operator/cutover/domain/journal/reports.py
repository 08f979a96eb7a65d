"""Which decisions end a plan, and the name of the ConfigMap in which its report is then kept."""

from __future__ import annotations

from hashlib import sha256

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.domain.journal.notifications import key_of

#: Decisions by which a plan ends, by the phase that it is in from then on.
ENDS = {Phase.COMPLETED: "Complete", Phase.ROLLED_BACK: "RolledBack"}
_DIGEST = 10


def ended_by(status: MigrationPlanStatus) -> LedgerEntry | None:
    """Return the decision that ended a plan; ``None`` where it has not ended, or the ledger has it no longer."""
    decision = ENDS.get(status.phase)
    return next((entry for entry in reversed(status.ledger) if entry.decision == decision), None)


def report_name(uid: str, plan: str, entry: LedgerEntry) -> str:
    """Return the name of the ConfigMap with the report; ``""`` for a decision that ends nothing.

    It is known before the ConfigMap is written, and the same for every process that writes it.

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
