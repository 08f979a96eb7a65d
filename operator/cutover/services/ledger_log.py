"""Logs each entry of a plan's ledger as one line, for archives of decisions that cannot be edited."""

from __future__ import annotations

from itertools import takewhile

import structlog

from cutover.api.v1alpha1 import LedgerEntry
from cutover.domain.journal.notifications import key_of, severity_of
from cutover.domain.plan import Plan

log = structlog.get_logger("cutover")

#: First characters of a message, which a ledger that grows too long never cuts.
_KEPT = 60


class LedgerLog:
    """What was logged of one plan's ledger.

    An entry is logged once it is stored. The process that stored it may end before it logs: so the first time that a plan is
    seen the entries of its last decision are logged again. Each has an identifier, by which the same one is known.
    """

    def __init__(self) -> None:
        self._uid = ""
        self._ledger: tuple[LedgerEntry, ...] = ()
        self._last: tuple[str, str] | None = None

    def write(self, plan: Plan) -> None:
        """Log the new entries; cheap where there are none."""
        ledger = plan.status.ledger
        if ledger is self._ledger and plan.uid == self._uid:
            return
        first = plan.uid != self._uid
        self._uid, self._ledger = plan.uid, ledger
        if not ledger:
            return
        for entry in self._of_last_decision(ledger) if first else self._new(ledger):
            self._line(plan, entry)
        self._last = _mark(ledger[-1])

    @staticmethod
    def _of_last_decision(ledger: tuple[LedgerEntry, ...]) -> list[LedgerEntry]:
        return [*takewhile(lambda entry: entry.at == ledger[-1].at, reversed(ledger))][::-1]

    def _new(self, ledger: tuple[LedgerEntry, ...]) -> list[LedgerEntry]:
        """Return the entries after the last one that was logged; all of a ledger that does not have it any more."""
        return [*takewhile(lambda entry: _mark(entry) != self._last, reversed(ledger))][::-1]

    @staticmethod
    def _line(plan: Plan, entry: LedgerEntry) -> None:
        log.info(
            "decision",
            id=f"{plan.uid}/{key_of(entry)}",
            plan=plan.key,
            phase=plan.status.phase,
            step=plan.status.step,
            severity=severity_of(entry.decision, entry.reason),
            **entry.to_wire(),
        )


def _mark(entry: LedgerEntry) -> tuple[str, str]:
    """Return what tells an entry from others, also from an equal decision in the same second, and is never cut later."""
    return key_of(entry), entry.message[:_KEPT]
