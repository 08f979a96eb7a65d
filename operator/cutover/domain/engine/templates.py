"""Which gate templates are in force: wait for them after a start, and put the newest in force at a step."""

from __future__ import annotations

from dataclasses import replace

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.journal.ledger import note
from cutover.domain.slo.templates import Resolution, changes

#: Seconds after a start in which a missing template may still arrive.
TEMPLATES_SECONDS = 5.0


def await_templates(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Wait for missing gate templates after a start, as the watch delivers them one by one."""
    if context.now - context.seen.since > TEMPLATES_SECONDS or not context.newest_slos.problems:
        return None
    return Outcome(status, str(status.phase), "reading the templates of gates", requeue=1)


def unchanged_while_reading(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Keep the last reason and message while templates are read, so that a valid plan does not turn invalid for a moment."""
    # Templates that are in force are in the status.
    if not context.slos.problems or await_templates(context, status) is None:
        return None
    held = next((c for c in status.conditions if (c.type, c.status) == ("Held", "True")), None)
    known = held is not None and held.reason in list(
        HoldReason
    )  # another version of the operator may have other reasons
    hold = Hold(HoldReason(held.reason), held.message) if held is not None and known else None
    return Outcome(status, status.reason or str(status.phase), status.message, hold=hold, requeue=1)


def put_in_force(context: Context, status: MigrationPlanStatus, newest: Resolution) -> MigrationPlanStatus:
    """Put the newest gate templates in force, and record which have changed."""
    if changed := changes(status.templates, newest.resolved):
        message, weight = "; ".join(changed), status.weight or 0
        ledger = note(status, "Gates", to=weight, reason="TemplateChanged", message=message, now=context.time)
        before = {(template.gate, template.definition) for template in status.templates}
        other = {template.gate for template in newest.resolved if (template.gate, template.definition) not in before}
        # The change is recorded here. Without these fields the judging does not record it again as an edit of the plan.
        gates = tuple(
            replace(gate, limits=None, queries=(), query_digest=None) if gate.name in other else gate
            for gate in status.gates
        )
        status = status.evolve(ledger=ledger, gates=gates)
    return status.evolve(templates=newest.resolved)
