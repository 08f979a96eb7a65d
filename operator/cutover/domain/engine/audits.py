"""The audits at each step: the Deployment may have been changed since the takeover. What is new is told once."""

from __future__ import annotations

from dataclasses import replace

from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import audits_wanted
from cutover.domain.journal.ledger import note
from cutover.domain.preflight.registry import FINDINGS, REPEATED, findings

#: Names of the checks that are judged again.
_NAMES = frozenset(check.name for check in REPEATED)


def tell_audits(context: Context, outcome: Outcome) -> Outcome:
    """Take over what the audits find now, with a line in the ledger and an Event for what they did not find before."""
    status, found = outcome.status, context.seen.audits
    if found is None or not audits_wanted(status):
        return outcome
    known = tuple(one for one in status.preflight if one.check in _NAMES)
    if known == found:
        return outcome
    told = {(one.check, one.result) for one in known}
    new = [one for one in found if one.result in FINDINGS and (one.check, one.result) not in told]
    others = tuple(one for one in status.preflight if one.check not in _NAMES)
    status = status.evolve(preflight=(*others, *found))
    if not new:
        return replace(outcome, status=status)
    message = f"since the takeover the audits find: {findings(new)}"
    weight = status.weight or 0
    ledger = note(status, "Audit", to=weight, reason="NewFindings", message=message, now=context.time)
    event = Event("Warning", "NewFindings", message)
    return replace(outcome, status=status.evolve(ledger=ledger), events=(*outcome.events, event))
