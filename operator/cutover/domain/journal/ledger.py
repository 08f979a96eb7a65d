"""The ledger: the bounded list of decisions in the status, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile

from cutover.api.v1alpha1 import LEDGER_LENGTH, GateKind, LedgerEntry, MigrationPlanStatus, NewReleases
from cutover.domain.evidence.numbers import numbers_only
from cutover.domain.holds import QUIET, Hold
from cutover.domain.texts import fitted, plain, shorten, shorten_together

#: Characters of a message, and of a subject.
LONGEST_MESSAGE, LONGEST_SUBJECT = 300, 150
#: Characters of all queries of an entry, and of the whole ledger as JSON. With twelve gates and the longest queries the
#: status stays below 44 KiB, without the templates in force; it is written every minute.
LONGEST_QUERIES, LONGEST_LEDGER = 1200, 12_000
#: Characters of an old message that was cut, of an entry besides its texts and gates, of a gate's numbers (at most) besides
#: its name, of the releases of an entry besides their versions, and of a version.
_SHORT_MESSAGE, _ENTRY, _GATE, _RELEASES, _VERSION = 100, 150, 370, 45, 8

#: Decisions that do not change the weight: a hold before them and the same hold after them are one hold.
_MOVES_NOTHING = ("Hold", "Repair", "Edit", "Refuse", "Audit", "Change")
#: Decisions that are no decisions on the weight.
_NO_MOVES = (*_MOVES_NOTHING, "Skip", "Gates")


def note(
    status: MigrationPlanStatus,
    decision: str,
    *,
    to: int,
    reason: str,
    message: str,
    now: datetime,
    subject: str | None = None,
    by: str = "",
    edited: tuple[str, ...] = (),
    releases: NewReleases | None = None,
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with one more decision, with the gates' numbers at that moment.

    A query is kept only in the latest entry that has it. If the ledger grows too long, the oldest entries lose first
    their queries, then the gates' numbers, and last the names of edited fields and the end of their messages, which have the
    numbers that decided.
    """
    entry = LedgerEntry(
        at=now,
        attempt=status.attempt,
        decision=decision,
        from_weight=status.weight or 0,
        to_weight=to,
        reason=reason,
        message=plain(shorten(message, LONGEST_MESSAGE)),
        gates=tuple(numbers_only(gate) for gate in status.gates),
        # The queries of the mesh's metrics never change, and are in the status.
        queries=shorten_together(
            [
                plain(f"{gate.name}: {query}")
                for gate in status.gates
                if gate.kind is not GateKind.COMPARATIVE
                for query in gate.queries
            ],
            LONGEST_QUERIES,
        ),
        subject=None if subject is None else plain(subject),
        by=shorten(plain(by.removeprefix("by ")), LONGEST_SUBJECT) or None,
        edited=edited,
        releases=releases,
    )
    repeated = set(entry.queries)
    before = (
        old.evolve(queries=tuple(query for query in old.queries if query not in repeated)) for old in status.ledger
    )
    return _fitted([*before, entry][-LEDGER_LENGTH:])


def _fitted(entries: list[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """Cut the oldest entries until the ledger is short enough; the newest entry stays whole."""
    over = sum(_length(entry) for entry in entries) - LONGEST_LEDGER
    for cut in (_without_queries, _without_gates, _with_short_message):
        for number, entry in enumerate(entries[:-1]):
            if over > 0:
                entries[number] = cut(entry)
                over -= _length(entry) - _length(entries[number])
    return tuple(entries)


def _without_queries(entry: LedgerEntry) -> LedgerEntry:
    return entry.evolve(queries=())


def _without_gates(entry: LedgerEntry) -> LedgerEntry:
    return entry.evolve(gates=())


def _with_short_message(entry: LedgerEntry) -> LedgerEntry:
    return entry.evolve(message=shorten(entry.message, _SHORT_MESSAGE), edited=())


def _length(entry: LedgerEntry) -> int:
    texts = (entry.message, entry.subject or "", entry.by or "", *entry.queries, *entry.edited)
    numbers = _RELEASES + _VERSION * len(entry.releases.named) if entry.releases is not None else 0
    return (
        _ENTRY + numbers + sum(len(text) + 4 for text in texts) + sum(_GATE + len(gate.name) for gate in entry.gates)
    )


def last_move(status: MigrationPlanStatus) -> LedgerEntry | None:
    """Return the last decision on the weight; ``None`` if the ledger has none."""
    return next((entry for entry in reversed(status.ledger) if entry.decision not in _NO_MOVES), None)


def led_to_weight(status: MigrationPlanStatus) -> bool:
    """Tell whether the ledger has a decision that led to the status's weight.

    Of a full ledger without any decision on the weight nothing can be told: other entries may have pushed it out.
    """
    move = last_move(status)
    return len(status.ledger) >= LEDGER_LENGTH if move is None else move.to_weight == status.weight


def note_hold(status: MigrationPlanStatus, hold: Hold, now: datetime) -> tuple[LedgerEntry, ...]:
    """Return the ledger with a hold, once for each reason and weight.

    Holds come and go; recorded each time, they would push the moves out of the list.
    """
    if hold.reason in QUIET or any(entry.reason == hold.reason for entry in _since_weight_moved(status)):
        return status.ledger
    return note(status, "Hold", to=status.weight or 0, reason=hold.reason, message=hold.message, now=now)


def note_repair(
    status: MigrationPlanStatus, *, reason: str, message: str, subject: str, now: datetime
) -> tuple[LedgerEntry, ...]:
    """Return the ledger with an edit that was put back; if a tool repeats the edit, only the first is recorded.

    Parameters
    ----------
    subject
        Who edited what; a repeated edit has the same subject.
    """
    known = fitted(plain(subject), LONGEST_SUBJECT)
    if any((entry.decision, entry.subject) == ("Repair", known) for entry in _since_weight_moved(status)):
        return status.ledger
    weight = status.weight or 0
    return note(status, "Repair", to=weight, reason=reason, message=message, subject=known, now=now)


def noted_since_move(status: MigrationPlanStatus, decision: str, reason: str) -> bool:
    """Tell whether the ledger has such an entry since the weight moved."""
    return any((entry.decision, entry.reason) == (decision, reason) for entry in _since_weight_moved(status))


def _since_weight_moved(status: MigrationPlanStatus) -> Iterator[LedgerEntry]:
    return takewhile(lambda entry: entry.decision in _MOVES_NOTHING, reversed(status.ledger))
