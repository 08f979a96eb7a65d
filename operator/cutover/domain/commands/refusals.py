"""Operator commands that are refused, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus
from cutover.domain.commands.annotations import (
    ANNOTATIONS,
    APPROVE_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    Skippable,
    approve,
    quote,
    read,
    rollback,
    skip_hold,
    write,
)
from cutover.domain.holds import HoldReason
from cutover.domain.steps import next_step

_REASONS = {ROLLBACK_ANNOTATION: "Rollback", APPROVE_ANNOTATION: "Approval", SKIP_ANNOTATION: "SkipHold"}

#: What to do about a hold that cannot be skipped.
_INSTEAD: Mapping[str, str] = {
    HoldReason.AWAITING_APPROVAL: f"approve the step by {APPROVE_ANNOTATION}",
    HoldReason.CEILING: "raise spec.ceiling",
    HoldReason.SUSPENDED: "set spec.suspend to false",
    HoldReason.INSUFFICIENT_TRAFFIC: "only evidence moves weight up; wait for traffic, or edit the gates in Git",
    HoldReason.UNDECIDED: "only evidence moves weight up; mend EKS, or edit the gates in Git",
    HoldReason.STEP_TIMEOUT: "only evidence moves weight up; it goes on once the step has passed",
}
_NEVER = "it means that users may be harmed, or that harm could not be seen; mend its cause"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused command.

    Parameters
    ----------
    annotation
        Name of the annotation.
    value
        Its value, safe to show.
    why
        Why it is refused, and what to do.
    """

    annotation: str
    value: str
    why: str

    @property
    def reason(self) -> str:
        """The kind of command, in one word for the ledger."""
        return _REASONS[self.annotation]

    @property
    def subject(self) -> str:
        """Annotation and value: the same refusal is recorded once."""
        return f"{self.annotation}={self.value}"

    def __str__(self) -> str:
        """Return the refusal as a sentence."""
        return f"{self.annotation} says '{self.value}': {self.why}"


def refusals(
    annotations: Mapping[str, str], *, spec: MigrationPlanSpec, status: MigrationPlanStatus
) -> Iterator[Refusal]:
    """Return the refused commands. Commands for earlier attempts and steps are over, and are not refused."""
    attempt, weight = status.attempt or spec.attempt, status.weight or 0
    for annotation in ANNOTATIONS:
        text = annotations.get(annotation)
        if text is None:
            continue
        right = write(_right(annotation, attempt, spec, weight))
        why = ""
        command = read(annotation, text)
        if command is None:
            why = f"that is not understood; write {right}, or {right} by jane@example.com"
        elif command.attempt > attempt:
            why = f"this is attempt {attempt}; write {right}"
        elif command.attempt == attempt:
            why = _why_not(command, text, right, spec, status)
        if why:
            yield Refusal(annotation, quote(text), why)


def _right(annotation: str, attempt: int, spec: MigrationPlanSpec, weight: int) -> Command:
    """Return the command that would be accepted."""
    upcoming = next_step(spec, weight)
    step = upcoming.weight if upcoming else 100
    if annotation == ROLLBACK_ANNOTATION:
        return rollback(attempt)
    if annotation == APPROVE_ANNOTATION:
        return approve(attempt, step)
    return skip_hold(attempt, step, Skippable.OUTSIDE_WINDOW)


def _why_not(command: Command, text: str, right: str, spec: MigrationPlanSpec, status: MigrationPlanStatus) -> str:
    """Return why a command of this attempt is refused; ``""`` if it is accepted, or is over."""
    if unknown := sorted(command.holds - set(Skippable)):
        return _why_not_skipped(unknown[0])
    if command.weight is None or command.weight <= (status.weight or 0):
        return ""
    if all(step.weight != command.weight for step in spec.steps):
        return f"there is no step at {command.weight} %; write {right}"
    if (status.void or {}).get(command.annotation) == text:
        return "that was given before the weight was lowered; remove it, then give it anew"
    return ""


def _why_not_skipped(hold: str) -> str:
    skippable = ", ".join(Skippable)
    if hold not in HoldReason.__members__.values():
        return f"there is no hold {quote(hold)}; write one of {skippable}"
    return f"{hold} cannot be skipped: {_INSTEAD.get(hold, _NEVER)}"
