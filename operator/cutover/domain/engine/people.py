"""What people ask of a plan: operator commands in annotations, the ceiling, and edits of its spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cutover.api.v1alpha1 import ApprovedStep, GateKind, MigrationPlanStatus, Phase, Step
from cutover.domain.commands.annotations import (
    APPROVE_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    read,
)
from cutover.domain.commands.refusals import Refusal, refusals
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.moves import lower, roll_back
from cutover.domain.engine.outcome import Outcome
from cutover.domain.journal.ledger import note
from cutover.domain.journal.spec_snapshot import changes as spec_changes
from cutover.domain.journal.spec_snapshot import spec_snapshot
from cutover.domain.steps import next_step

# ------------------------------------------------------------------------------------------------------------- commands


def commanded(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Roll back or lower the weight because an annotation or the ceiling asks for it."""
    if status.phase not in (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED):
        return None
    command = _command(context, ROLLBACK_ANNOTATION)
    if command is not None and command.attempt == status.attempt:
        # At weight 0, too: a rollback command also means that the first step must not begin.
        return roll_back(
            context, status, "Requested", f"asked for by the annotation {ROLLBACK_ANNOTATION} {command.who}"
        )
    weight, ceiling = status.weight or 0, context.spec.ceiling
    if ceiling >= weight:
        return None
    if ceiling == 0:
        return roll_back(context, status, "Requested", f"asked for by spec.ceiling 0{_editor(context)}")
    message = f"{weight} % → {ceiling} %: spec.ceiling was lowered{_editor(context)}"
    given = {name: context.plan.annotations.get(name, "") for name in (APPROVE_ANNOTATION, SKIP_ANNOTATION)}
    void = {name: text for name, text in given.items() if text}
    return lower(context, status, ceiling, message, void or None)


def approval(context: Context, status: MigrationPlanStatus, upcoming: Step) -> str | None:
    """Return who approved a step; ``None`` if it has no approval."""
    if command := _permission(context, APPROVE_ANNOTATION, status, upcoming):
        return command.who
    approved = status.approved
    return approved.by if approved is not None and approved.weight == upcoming.weight else None


def skip(context: Context, status: MigrationPlanStatus, upcoming: Step) -> Command | None:
    """Return the command that skips holds before a step, if there is one."""
    return _permission(context, SKIP_ANNOTATION, status, upcoming)


def refused(context: Context, status: MigrationPlanStatus) -> tuple[Refusal, ...]:
    """Return the operator commands that are refused."""
    return tuple(refusals(context.plan.annotations, spec=context.spec, status=status))


def _command(context: Context, annotation: str) -> Command | None:
    """Return the command in an annotation; ``None`` if the annotation is missing or cannot be read."""
    text = context.plan.annotations.get(annotation)
    return None if text is None else read(annotation, text, context.plan.writers.get(annotation))


def _permission(context: Context, annotation: str, status: MigrationPlanStatus, upcoming: Step) -> Command | None:
    """Return the command that permits the next step, if there is one and it is not void."""
    command = _command(context, annotation)
    if command is None or (command.attempt, command.weight) != (status.attempt, upcoming.weight):
        return None
    return None if (status.void or {}).get(annotation) == context.plan.annotations[annotation] else command


def _editor(context: Context) -> str:
    """Return who edited the spec last, as the end of a sentence."""
    writer = context.plan.writers.get("spec")
    return "" if writer is None else f" {writer}"


# ------------------------------------------------------------------------------------------------ lines in the ledger


def note_edits(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record edits since the last spec snapshot, and the step that a raised ceiling approves."""
    plan, before = context.plan, status.spec_snapshot
    if status.weight is None or plan.unreadable:
        return status
    if before is not None and before.generation == plan.generation:
        return status
    after = spec_snapshot(plan.spec, plan.generation)
    # The mesh's gates are in the status once they are judged; after a crash in the first step they may be missing.
    numbers = status.weight > 0 and any(gate.kind is GateKind.COMPARATIVE for gate in status.gates)
    if before is not None and (text := spec_changes(before, after, gates=not numbers)):
        text = f"edited{_editor(context)}: {text}"
        status = _noted(context, status, "Edit", reason="PlanEdited", message=text)
    if before is not None:
        status = _approved_by_ceiling(context, status, before.ceiling)
    return status.evolve(spec_snapshot=after)


def note_refusals(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record refused commands in the ledger, each once."""
    told = {entry.subject for entry in status.ledger if entry.decision == "Refuse"}
    for refusal in refused(context, status):
        if refusal.subject not in told:
            subject = refusal.subject
            status = _noted(context, status, "Refuse", reason=refusal.reason, message=str(refusal), subject=subject)
    return status


def note_skips(
    context: Context, status: MigrationPlanStatus, command: Command, skipped: Iterable[tuple[str, str]]
) -> tuple[MigrationPlanStatus, tuple[Event, ...]]:
    """Record the holds that a command skips, with an Event for each.

    Parameters
    ----------
    command
        The command.
    skipped
        Each hold's reason and message.
    """
    events = []
    for reason, why in skipped:
        text = f"{reason} is skipped, asked for by the annotation {SKIP_ANNOTATION} {command.who}: {why}"
        status = _noted(context, status, "Skip", reason=reason, message=text)
        events.append(Event("Normal", "Skip", text))
    return status, tuple(events)


def tell_refusals(context: Context, outcome: Outcome) -> Outcome:
    """Add an Event for each command that this reconcile refused."""
    known = {(entry.at, entry.reason) for entry in context.plan.status.ledger if entry.decision == "Refuse"}
    events = tuple(
        Event("Warning", "Refuse", entry.message)
        for entry in outcome.status.ledger
        if (entry.decision, entry.at) == ("Refuse", context.time) and (entry.at, entry.reason) not in known
    )
    return replace(outcome, events=(*events, *outcome.events)) if events else outcome


def _approved_by_ceiling(context: Context, status: MigrationPlanStatus, before: int) -> MigrationPlanStatus:
    """Count a raised ceiling as the approval of the first step that the old one held back: Git is the approval."""
    ceiling = context.spec.ceiling
    held_back = next_step(context.spec, before)
    if before < ceiling and held_back is not None and (status.weight or 0) < held_back.weight <= ceiling:
        by = f"by spec.ceiling {before} → {ceiling}{_editor(context)}"
        return status.evolve(approved=ApprovedStep(weight=held_back.weight, by=by))
    if status.approved is not None and status.approved.weight > ceiling:
        return status.evolve(approved=None)
    return status


def _noted(
    context: Context,
    status: MigrationPlanStatus,
    decision: str,
    *,
    reason: str,
    message: str,
    subject: str | None = None,
) -> MigrationPlanStatus:
    """Add a ledger entry for what moves no weight. The gates' numbers are left out, as they did not decide it."""
    without_gates, weight = status.evolve(gates=()), status.weight or 0
    ledger = note(
        without_gates, decision, to=weight, reason=reason, message=message, subject=subject, now=context.time
    )
    return status.evolve(ledger=ledger)
