"""Operator commands that are refused, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cutover.api.v1alpha1 import InsufficientTraffic, MigrationPlanSpec, MigrationPlanStatus, Phase
from cutover.domain.commands.annotations import (
    ANNOTATIONS,
    APPROVE_ANNOTATION,
    FORWARD_ANNOTATION,
    PROCEED_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    Skippable,
    approve,
    forward,
    proceed,
    quote,
    read,
    rollback,
    skip_hold,
    write,
)
from cutover.domain.holds import HoldReason
from cutover.domain.steps import next_step

_REASONS = {
    ROLLBACK_ANNOTATION: "Rollback",
    FORWARD_ANNOTATION: "Forward",
    APPROVE_ANNOTATION: "Approval",
    SKIP_ANNOTATION: "SkipHold",
    PROCEED_ANNOTATION: "Proceed",
}
#: Phases in which a command to send all traffic to EKS is over: it was done, or the way back was taken since.
_FORWARD_IS_OVER = (Phase.SOAKING, Phase.COMPLETED, Phase.ROLLING_BACK, Phase.ROLLED_BACK)

#: What to do about a hold that cannot be skipped.
_INSTEAD: Mapping[str, str] = {
    HoldReason.AWAITING_APPROVAL: f"approve the step by {APPROVE_ANNOTATION}",
    HoldReason.CEILING: "raise spec.ceiling",
    HoldReason.SUSPENDED: "set spec.suspend to false",
    HoldReason.AWAITING_DECISION: f"decide by {PROCEED_ANNOTATION}",
    HoldReason.INSUFFICIENT_TRAFFIC: "only evidence moves weight up; wait for traffic, or edit the gates in Git, such as"
    " gates.insufficientTraffic",
    HoldReason.UNDECIDED: "only evidence moves weight up; mend EKS, or edit the gates in Git",
    HoldReason.STEP_TIMEOUT: "only evidence moves weight up; it goes on once the step has passed",
}
#: What to do about a command that does not count any more.
_ANEW = "remove it, then give it anew"
#: Holds that there are before the first step only.
FIRST_STEP_HOLDS = frozenset({Skippable.BASELINE_INCOMPLETE, Skippable.TAKEOVER_DIFFERS})
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

    @property
    def beforehand(self) -> str:
        """Why it would be refused, and what to do, for somebody who has not written it yet."""
        return self.why.replace(_ANEW, "ask again")

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
    if annotation == FORWARD_ANNOTATION:
        return forward(attempt)
    if annotation == APPROVE_ANNOTATION:
        return approve(attempt, step)
    if annotation == PROCEED_ANNOTATION:
        return proceed(attempt, step)
    return skip_hold(attempt, step, Skippable.OUTSIDE_WINDOW)


def _why_not(command: Command, text: str, right: str, spec: MigrationPlanSpec, status: MigrationPlanStatus) -> str:
    """Return why a command of this attempt is refused; ``""`` if it is accepted, or is over."""
    if unknown := sorted(command.holds - set(Skippable)):
        return _why_not_skipped(unknown[0])
    first = spec.steps[0].weight
    if (early := sorted(command.holds & FIRST_STEP_HOLDS)) and command.weight != first:
        return f"{early[0]} is a hold of the first step; write {write(replace(command, weight=first))}"
    void = (status.void or {}).get(command.annotation) == text.strip()
    if command.annotation == FORWARD_ANNOTATION:
        return _why_not_forward(spec, status, void=void)
    if command.weight is None or command.weight <= (status.weight or 0):
        return ""
    if all(step.weight != command.weight for step in spec.steps):
        return f"there is no step at {command.weight} %; write {right}"
    if void:
        return f"that was given before the weight was lowered; {_ANEW}"
    few = spec.gates.insufficient_traffic
    if command.annotation == PROCEED_ANNOTATION and few is not InsufficientTraffic.ASK_PEOPLE:
        return (
            f"gates.insufficientTraffic is {few}, so that only evidence moves weight up; wait for traffic, or set it to"
            " AskPeople in Git"
        )
    return ""


def _why_not_forward(spec: MigrationPlanSpec, status: MigrationPlanStatus, *, void: bool) -> str:
    """Return why all traffic is not sent to EKS, as far as spec and status tell; ``""`` if nothing there is against it.

    Such a command is for the present moment: what was refused does not count later, when nobody thinks of it.
    """
    if status.phase in _FORWARD_IS_OVER or status.weight == 100:
        return ""
    if not status.weight:
        return f"no traffic is on EKS, so it is not known whether EKS answers users; with traffic on EKS {_ANEW}"
    if spec.suspend:
        return f"spec.suspend is set; set it to false, then {_ANEW}"
    if spec.ceiling < 100:
        return f"spec.ceiling is {spec.ceiling}; raise it to 100, then {_ANEW}"
    return f"it counts no more; {_ANEW}" if void else ""


def _why_not_skipped(hold: str) -> str:
    skippable = ", ".join(Skippable)
    if hold not in HoldReason.__members__.values():
        return f"there is no hold {quote(hold)}; write one of {skippable}"
    return f"{hold} cannot be skipped: {_INSTEAD.get(hold, _NEVER)}"
