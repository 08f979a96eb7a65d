"""The bounded list of decisions, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import takewhile

from cutover.api.v1alpha1 import LEDGER_LENGTH, LedgerEntry, MigrationPlanStatus
from cutover.domain.holds import QUIET, Hold

#: Characters of a message and of what a gate says that are kept.
LONGEST_MESSAGE, LONGEST_EVIDENCE = 300, 150
#: Characters of an entry's queries together, and of the whole ledger. With twelve gates, their queries as long as they
#: may be, the status stays below 32 KiB, without the templates in force; it is written every minute.
LONGEST_QUERIES, LONGEST_LEDGER = 1200, 9000
#: What an old message is cut to at last, and what an entry has beside its texts.
_SHORT_MESSAGE, _ENTRY = 100, 150


#: Decisions after which a hold at the same weight is still the same.
_MOVES_NOTHING = ("Hold", "Repair", "Edit", "Refuse")


def note(
    status: MigrationPlanStatus, decision: str, *, to: int, reason: str, message: str, now: datetime
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with one more decision; the numbers are what the gates say at that moment.

    Queries that an entry shares with a later one stand in the later one only. Where the ledger grows too long the
    oldest entries lose first their queries, then what the gates said, and at last the end of their messages, which have
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
        gates=tuple(f"{gate.name}: {shorten(gate.evidence, LONGEST_EVIDENCE)}" for gate in status.gates),
        # Those of the mesh's own metrics are the same at any time, and in the status once.
        queries=share_out(
            [f"{gate.name}: {query}" for gate in status.gates if gate.kind != "Comparative" for query in gate.queries],
            LONGEST_QUERIES,
        ),
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
    return _ENTRY + len(entry.message) + sum(len(text) + 4 for text in (*entry.gates, *entry.queries))


def share_out(texts: Sequence[str], longest: int) -> tuple[str, ...]:
    """Cut texts where they are too long together: short ones stay whole, the others have the same length."""
    most, left = longest, longest
    for number, text in enumerate(sorted(texts, key=len)):
        most = left // (len(texts) - number)
        if len(text) > most:
            break
        left -= len(text)
    else:
        return tuple(texts)
    return tuple(shorten(text, max(most, 2)) for text in texts)


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
    told = entries[-1].message
    # An older one may have been cut.
    if any(told.startswith(entry.message.removesuffix("…")) for entry in _since_weight_moved(status)):
        return status.ledger
    return entries


def _since_weight_moved(status: MigrationPlanStatus) -> Iterator[LedgerEntry]:
    return takewhile(lambda entry: entry.decision in _MOVES_NOTHING, reversed(status.ledger))
