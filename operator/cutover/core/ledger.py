"""The bounded list of decisions, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

from cutover.api.v1alpha1 import LEDGER_LENGTH, LedgerEntry, MigrationPlanStatus
from cutover.core.holds import QUIET, Hold

#: Characters of a message and of a query that are kept: thirty entries have to fit into a status.
LONGEST_MESSAGE, LONGEST_QUERY = 300, 500


def note(
    status: MigrationPlanStatus, decision: str, *, to: int, reason: str, message: str, now: datetime
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with one more decision; the numbers are what the gates say at that moment."""
    entry = LedgerEntry(
        at=now,
        attempt=status.attempt,
        decision=decision,
        from_weight=status.weight or 0,
        to_weight=to,
        reason=reason,
        message=shorten(message, LONGEST_MESSAGE),
        gates=tuple(f"{gate.name}: {gate.evidence}" for gate in status.gates),
        # Those of the mesh's own metrics are the same at any time, and in the status once.
        queries=tuple(
            f"{gate.name}: {shorten(query, LONGEST_QUERY)}"
            for gate in status.gates
            if gate.kind != "Comparative"
            for query in gate.queries
        ),
    )
    return (*status.ledger, entry)[-LEDGER_LENGTH:]


def shorten(text: str, longest: int) -> str:
    """Cut a text that somebody else may have made as long as they liked."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def note_hold(status: MigrationPlanStatus, hold: Hold, now: datetime) -> tuple[LedgerEntry, ...]:
    """Return the ledger with a refusal to move, once for each reason and weight.

    Holds come and go; told each time they would push out of the list what moved the weight.
    """
    if hold.reason in QUIET or any(entry.reason == hold.reason for entry in _since_weight_moved(status)):
        return status.ledger
    return note(status, "Hold", to=status.weight or 0, reason=hold.reason, message=hold.message, now=now)


def note_repair(status: MigrationPlanStatus, *, reason: str, message: str, now: datetime) -> tuple[LedgerEntry, ...]:
    """Return the ledger with an edit that was put back; of a tool that repeats itself only the first."""
    weight = status.weight or 0
    entries = note(status, "Repair", to=weight, reason=reason, message=message, now=now)
    if any(entry.message == entries[-1].message for entry in _since_weight_moved(status)):
        return status.ledger
    return entries


def _since_weight_moved(status: MigrationPlanStatus) -> Iterator[LedgerEntry]:
    return takewhile(lambda entry: entry.decision in ("Hold", "Repair"), reversed(status.ledger))
