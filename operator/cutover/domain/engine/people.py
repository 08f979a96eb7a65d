"""What people ask of a plan: operator commands in annotations, the ceiling, and edits of its spec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cutover.api.v1alpha1 import ApprovedStep, GateKind, MigrationPlanStatus, Phase, Step
from cutover.domain.commands.annotations import (
    APPROVE_ANNOTATION,
    FORWARD_ANNOTATION,
    PROCEED_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    quote,
    read,
)
from cutover.domain.commands.refusals import Refusal, refusals
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.moves import lower, roll_back
from cutover.domain.engine.outcome import Outcome
from cutover.domain.journal.ledger import note
from cutover.domain.journal.spec_snapshot import changes as spec_changes
from cutover.domain.journal.spec_snapshot import edited_fields, spec_snapshot
from cutover.domain.steps import next_step

# ------------------------------------------------------------------------------------------------------------- commands


def commanded(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Roll back or lower the weight because an annotation or the ceiling asks for it."""
    if status.phase not in (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED):
        return None
    command = _command(context, ROLLBACK_ANNOTATION)
    if command is not None and command.attempt == status.attempt:
        # At weight 0, too: a rollback command also means that the first step must not begin.
        asked = f"asked for by the annotation {ROLLBACK_ANNOTATION} {command.who}"
        return roll_back(context, status, "Requested", asked, by=command.who)
    weight, ceiling = status.weight or 0, context.spec.ceiling
    if ceiling >= weight:
        return None
    editor = _editor(context)
    if ceiling == 0:
        return roll_back(context, status, "Requested", f"asked for by spec.ceiling 0{editor}", by=editor.strip())
    message = f"{weight} % → {ceiling} %: spec.ceiling was lowered{editor}"
    permissions = (APPROVE_ANNOTATION, SKIP_ANNOTATION, PROCEED_ANNOTATION, FORWARD_ANNOTATION)
    # Of annotations that are no commands nothing is kept: they have no effect, and may be 256 KiB.
    void = {name: _given(context, name) for name in permissions if _command(context, name) is not None}
    return lower(context, status, ceiling, message, void or None, by=editor.strip())


def approval(context: Context, status: MigrationPlanStatus, upcoming: Step) -> str | None:
    """Return who approved a step; ``None`` if it has no approval."""
    if command := _permission(context, APPROVE_ANNOTATION, status, upcoming):
        return command.who
    approved = status.approved
    return approved.by if approved is not None and approved.weight == upcoming.weight else None


def skip(context: Context, status: MigrationPlanStatus, upcoming: Step) -> Command | None:
    """Return the command that skips holds before a step, if there is one."""
    return _permission(context, SKIP_ANNOTATION, status, upcoming)


def proceeding(context: Context, status: MigrationPlanStatus, upcoming: Step) -> Command | None:
    """Return the command that lets a step begin in place of evidence, if there is one."""
    return _permission(context, PROCEED_ANNOTATION, status, upcoming)


def forwarding(context: Context, status: MigrationPlanStatus) -> Command | None:
    """Return the command to send all traffic to EKS, if there is one and it is not void."""
    command = _command(context, FORWARD_ANNOTATION)
    if command is None or command.attempt != status.attempt:
        return None
    return None if _void(context, status, FORWARD_ANNOTATION) else command


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
    return None if _void(context, status, annotation) else command


def _void(context: Context, status: MigrationPlanStatus, annotation: str) -> bool:
    """Tell whether the text of an annotation does not count any more."""
    return (status.void or {}).get(annotation) == _given(context, annotation)


def _given(context: Context, annotation: str) -> str:
    """Return the text of an annotation; ``""`` without one. White space around it does not make it another command."""
    return context.plan.annotations.get(annotation, "").strip()


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
        editor = _editor(context)
        text = f"edited{editor}: {text}"
        edited = edited_fields(before, after, gates=not numbers)
        status = _noted(context, status, "Edit", reason="PlanEdited", message=text, by=editor.strip(), edited=edited)
    if before is not None:
        status = _approved_by_ceiling(context, status, before.ceiling)
    return status.evolve(spec_snapshot=after)


def note_refusals(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record refused commands in the ledger, each once."""
    status = _without_removed(context, status)
    for refusal in refused(context, status):
        status = _note_refusal(context, status, refusal)
    return status


def refuse_forward(context: Context, status: MigrationPlanStatus, why: str) -> MigrationPlanStatus:
    """Refuse the command to send all traffic to EKS, for a reason that was observed."""
    text = context.plan.annotations[FORWARD_ANNOTATION]
    return _note_refusal(context, status, Refusal(FORWARD_ANNOTATION, quote(text), why))


def _note_refusal(context: Context, status: MigrationPlanStatus, refusal: Refusal) -> MigrationPlanStatus:
    """Record a refused command, once. A refused forward is void: it must not act at another time, unasked."""
    if refusal.annotation == FORWARD_ANNOTATION and _command(context, FORWARD_ANNOTATION) is not None:
        if _void(context, status, FORWARD_ANNOTATION):
            return status
        void = {**(status.void or {}), FORWARD_ANNOTATION: _given(context, FORWARD_ANNOTATION)}
        status = status.evolve(void=void)
    elif any((entry.decision, entry.subject) == ("Refuse", refusal.subject) for entry in status.ledger):
        return status
    subject = refusal.subject
    return _noted(context, status, "Refuse", reason=refusal.reason, message=str(refusal), subject=subject)


def _without_removed(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Forget void annotations that were removed or changed: what is given anew counts."""
    if not status.void:
        return status
    void = {name: text for name, text in status.void.items() if _given(context, name) == text}
    return status if void == status.void else status.evolve(void=void or None)


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
        status = _noted(context, status, "Skip", reason=reason, message=text, by=command.who)
        events.append(Event("Normal", "Skip", text))
    return status, tuple(events)


def tell_refusals(context: Context, outcome: Outcome) -> Outcome:
    """Add an Event for each command that this reconcile refused."""
    now, before = context.time, context.plan.status.ledger
    events = tuple(
        Event("Warning", "Refuse", entry.message)
        for entry in outcome.status.ledger
        if entry.decision == "Refuse"
        and entry.at == now
        # A reconcile at the same moment may have told of it.
        and not any((old.decision, old.at, old.reason) == ("Refuse", now, entry.reason) for old in before)
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
    by: str = "",
    edited: tuple[str, ...] = (),
) -> MigrationPlanStatus:
    """Add a ledger entry for what moves no weight. The gates' numbers are left out, as they did not decide it."""
    without_gates, weight = status.evolve(gates=()), status.weight or 0
    ledger = note(
        without_gates,
        decision,
        to=weight,
        reason=reason,
        message=message,
        subject=subject,
        by=by,
        now=context.time,
        edited=edited,
    )
    return status.evolve(ledger=ledger)
