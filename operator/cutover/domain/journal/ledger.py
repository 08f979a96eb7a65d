"""The bounded list of decisions, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

from cutover.api.v1alpha1 import LEDGER_LENGTH, GateKind, LedgerEntry, MigrationPlanStatus
from cutover.domain.evidence.numbers import bare
from cutover.domain.holds import QUIET, Hold
from cutover.domain.texts import fitted, share_out, shorten

#: Characters of a message, and of what an entry is about.
LONGEST_MESSAGE, LONGEST_SUBJECT = 300, 150
#: Characters of an entry's queries together, and of the whole ledger, as JSON. With twelve gates, their queries as long
#: as they may be, the status stays below 40 KiB, without the templates in force; it is written every minute.
LONGEST_QUERIES, LONGEST_LEDGER = 1200, 12_000
#: What an old message is cut to at last; and what an entry has beside its texts and gates, and what a gate's numbers
#: take at most, besides its name.
_SHORT_MESSAGE, _ENTRY, _GATE = 100, 150, 370


#: Decisions after which a hold at the same weight is still the same.
_MOVES_NOTHING = ("Hold", "Repair", "Edit", "Refuse")


def note(
    status: MigrationPlanStatus,
    decision: str,
    *,
    to: int,
    reason: str,
    message: str,
    now: datetime,
    subject: str | None = None,
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with one more decision; the numbers are what the gates say at that moment.

    Queries that an entry shares with a later one stand in the later one only. Where the ledger grows too long the
    oldest entries lose first their queries, then the gates' numbers, and at last the end of their messages, which have
    the numbers that decided.
    """
    entry = LedgerEntry(
        at=now,
        attempt=status.attempt,
        decision=decision,
        from_weight=status.weight or 0,
        to_weight=to,
        reason=reason,
        message=shorten(message, LONGEST_MESSAGE),
        gates=tuple(bare(gate) for gate in status.gates),
        # Those of the mesh's own metrics are the same at any time, and in the status once.
        queries=share_out(
            [
                f"{gate.name}: {query}"
                for gate in status.gates
                if gate.kind is not GateKind.COMPARATIVE
                for query in gate.queries
            ],
            LONGEST_QUERIES,
        ),
        subject=subject,
    )
    told = set(entry.queries)
    before = (
        old.model_copy(update={"queries": tuple(query for query in old.queries if query not in told)})
        for old in status.ledger
    )
    return _fitted([*before, entry][-LEDGER_LENGTH:])


def _fitted(entries: list[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Take from the oldest entries what makes the ledger too long; the newest keeps all."""
    over = sum(_length(entry) for entry in entries) - LONGEST_LEDGER
    for field in ("queries", "gates", "message"):
        for number, entry in enumerate(entries[:-1]):
            if over > 0:
                less = shorten(entry.message, _SHORT_MESSAGE) if field == "message" else ()
                entries[number] = entry.model_copy(update={field: less})
                over -= _length(entry) - _length(entries[number])
    return tuple(entries)


def _length(entry: LedgerEntry) -> int:
    texts = (entry.message, entry.subject or "", *entry.queries)
    return _ENTRY + sum(len(text) + 4 for text in texts) + sum(_GATE + len(gate.name) for gate in entry.gates)


def note_hold(status: MigrationPlanStatus, hold: Hold, now: datetime) -> tuple[LedgerEntry, ...]:
    """Return the ledger with a refusal to move, once for each reason and weight.

    Holds come and go; told each time they would push out of the list what moved the weight.
    """
    if hold.reason in QUIET or any(entry.reason == hold.reason for entry in _since_weight_moved(status)):
        return status.ledger
    return note(status, "Hold", to=status.weight or 0, reason=hold.reason, message=hold.message, now=now)


def note_repair(
    status: MigrationPlanStatus, *, reason: str, message: str, subject: str, now: datetime
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with an edit that was put back; of a tool that repeats itself only the first.

    Parameters
    ----------
    subject
        Who edited what: the same edit has the same.
    """
    known = fitted(subject, LONGEST_SUBJECT)
    if any((entry.decision, entry.subject) == ("Repair", known) for entry in _since_weight_moved(status)):
        return status.ledger
    weight = status.weight or 0
    return note(status, "Repair", to=weight, reason=reason, message=message, subject=known, now=now)


def _since_weight_moved(status: MigrationPlanStatus) -> Iterator[LedgerEntry]:
    return takewhile(lambda entry: entry.decision in _MOVES_NOTHING, reversed(status.ledger))
