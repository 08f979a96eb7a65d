"""Releases on Heroku and rollouts of EKS during a cutover: lines in the ledger, and Events.

What they hold is in :mod:`cutover.domain.engine.holds`, what they do to the evidence in
:mod:`cutover.domain.evidence.ingest`. That Heroku's API is away is told, and neither holds nor moves anything.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.api.v1alpha1 import MigrationPlanStatus, ReleasesStatus
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import releases_wanted
from cutover.domain.journal.ledger import note, noted_since_move
from cutover.domain.releases import ALARMS, Change, compare

#: Decision of the ledger's entries.
CHANGE = "Change"


def note_changes(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record what changed on a leg since the last decision, each change once: the same write has what was seen."""
    known = status.releases
    if not releases_wanted(status):
        # Nobody asks any more, so that nothing is missing.
        return status if known is None or not known.problem else status.evolve(releases=known.evolve(problem=""))
    if context.plan.unreadable:
        return status
    # Another app or workload is no change of the one before; the edit of the spec has its own line.
    of = f"{context.spec.heroku.app}, {context.spec.eks.workload_ref.name}"
    before = known if known is not None and known.of == of else ReleasesStatus(of=of)
    compared = compare(before, context.seen.news, context.seen.rollout, context.spec.traffic.hosts, context.now)
    for change in compared.changes:
        status = _noted(context, status, change)
    return status if compared.status == known else status.evolve(releases=compared.status)


def tell_changes(context: Context, outcome: Outcome) -> Outcome:
    """Add an Event for each change that this reconcile recorded, and when Heroku's API stops or begins to answer."""
    before, now = context.plan.status, context.time
    old = {(entry.decision, entry.at, entry.reason) for entry in before.ledger}
    events = [
        Event("Warning" if entry.reason in ALARMS else "Normal", entry.reason, entry.message)
        for entry in outcome.status.ledger
        if entry.decision == CHANGE and entry.at == now and (CHANGE, now, entry.reason) not in old
    ]
    was, is_ = (one.problem if one is not None else "" for one in (before.releases, outcome.status.releases))
    if is_ and not was:
        text = f"{is_}; releases on Heroku are not noticed meanwhile, and nothing is held for it"
        events.append(Event("Warning", "HerokuApiUnavailable", text))
    elif was and not is_ and releases_wanted(before):
        events.append(Event("Normal", "HerokuApiAnswers", "Heroku's API answers again"))
    return replace(outcome, events=(*events, *outcome.events)) if events else outcome


def _noted(context: Context, status: MigrationPlanStatus, change: Change) -> MigrationPlanStatus:
    if change.often and noted_since_move(status, CHANGE, change.reason):
        return status
    weight, without_gates = status.weight or 0, status.evolve(gates=())
    ledger = note(
        without_gates,
        CHANGE,
        to=weight,
        reason=change.reason,
        message=change.message,
        now=context.time,
        releases=change.releases,
    )
    return status.evolve(ledger=ledger)
