"""What people ask of a plan by its annotations, and who asks.

A command counts for one attempt, and where it is about a step for the step that it lets begin: ``a1-w25`` is the step at
25 % of attempt 1. Behind that it may say who asks, and when: ``a1-w25 by jane@example.com at 2027-01-11T10:00:00Z``.
Where it does not, whoever wrote the annotation is named, as far as the API server knows. Both are what was claimed, not
what was proven; that is in the API server's audit log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cutover.api.v1alpha1 import GROUP, MigrationPlanSpec, MigrationPlanStatus
from cutover.domain.holds import HoldReason
from cutover.domain.journal.ledger import shorten
from cutover.domain.steps import next_step

#: A command to go back, for one attempt: ``a1``.
ROLLBACK_ANNOTATION = f"{GROUP}/rollback"
#: Leave to begin a step with manual approval: ``a1-w25``.
APPROVE_ANNOTATION = f"{GROUP}/approve"
#: Leave to begin a step in spite of a hold: ``a1-w25/OutsideWindow``.
SKIP_ANNOTATION = f"{GROUP}/skip-hold"
_REASONS = {ROLLBACK_ANNOTATION: "Rollback", APPROVE_ANNOTATION: "Approval", SKIP_ANNOTATION: "SkipHold"}
ANNOTATIONS = tuple(_REASONS)

#: Characters of a whole command, of a name in it, and of what is quoted of one that is not understood.
LONGEST_WISH, LONGEST_NAME, LONGEST_QUOTE = 250, 100, 60


class Skippable(StrEnum):
    """What a person may skip: the calendar's holds, and the least time at a weight. All others are about evidence."""

    OUTSIDE_WINDOW = HoldReason.OUTSIDE_WINDOW
    FROZEN = HoldReason.FROZEN
    HOLD_TIME = "HoldTime"


#: Why others cannot be skipped, where there is another way.
_INSTEAD: Mapping[str, str] = {
    HoldReason.AWAITING_APPROVAL: f"approve the step by {APPROVE_ANNOTATION}",
    HoldReason.CEILING: "raise spec.ceiling",
    HoldReason.SUSPENDED: "set spec.suspend to false",
    HoldReason.INSUFFICIENT_TRAFFIC: "only evidence moves weight up; wait for traffic, or edit the gates in Git",
    HoldReason.UNDECIDED: "only evidence moves weight up; mend EKS, or edit the gates in Git",
    HoldReason.STEP_TIMEOUT: "only evidence moves weight up; it goes on once the step has passed",
}
_NEVER = "it says that users may be harmed, or that nobody could see it; mend its cause"

_NAME = r"\w(?:[\w .@+:/=,#'-]*?[\w.])??"
_TIME = r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
_WISH = re.compile(
    r"a(?P<attempt>[0-9]{1,5})(?:-w(?P<weight>[0-9]{1,3})(?:/(?P<holds>[A-Za-z]+(?:,[A-Za-z]+)*))?)?"
    rf"(?: by (?P<name>{_NAME}))?(?: at (?P<at>{_TIME}))?"
)
#: What is no part of a name, nor of a text that may be quoted: no markup, no line ends, nothing that is not seen.
_ODD = re.compile(r"[^\w .@+:/=,#'-]")


@dataclass(frozen=True, slots=True)
class Writer:
    """Who wrote a field, by the API server's managed fields.

    Parameters
    ----------
    manager
        Field manager, such as ``kubectl-annotate`` or ``kustomize-controller``.
    at
        When it wrote last, as the API server says it; ``""`` if it does not.
    """

    manager: str
    at: str = ""

    def __str__(self) -> str:
        """Write it as part of a sentence."""
        return f"by the field manager {quote(self.manager)}" + (f" at {quote(self.at)}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was understood.

    Parameters
    ----------
    attempt
        The attempt that it is for.
    weight
        Percent of the step that it lets begin; ``None`` where it is about no step.
    holds
        What it skips.
    who
        Who asks, and when, as part of a sentence.
    """

    attempt: int
    weight: int | None
    holds: frozenset[str]
    who: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is not obeyed.

    Parameters
    ----------
    annotation
        Its name.
    what
        What was read.
    why
        Why that cannot be, and what to do.
    """

    annotation: str
    what: str
    why: str

    @property
    def reason(self) -> str:
        """The kind of command, in one word for the ledger."""
        return _REASONS[self.annotation]

    def __str__(self) -> str:
        """Write it as a sentence."""
        return f"{self.what}: {self.why}"


def quote(text: str) -> str:
    """Return a text of somebody else's as one may show it anywhere: short, one line, no markup."""
    return shorten(_ODD.sub("?", text), LONGEST_QUOTE)


def read(annotation: str, text: str, writer: Writer | None = None) -> Command | None:
    """Read an annotation; ``None`` where it does not have the form of one."""
    text = text.strip()
    match = _WISH.fullmatch(text) if len(text) <= LONGEST_WISH else None
    if match is None:
        return None
    name, at = match["name"] or "", match["at"] or ""
    step, holds = match["weight"] is not None, match["holds"] or ""
    if (
        (step, bool(holds)) != (annotation != ROLLBACK_ANNOTATION, annotation == SKIP_ANNOTATION)
        or len(name) > LONGEST_NAME
        # A time that is none became a part of the name.
        or " at " in name
    ):
        return None
    try:
        claimed = datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""
    except ValueError:
        return None
    if name:
        claimed = claimed or (quote(writer.at) if writer is not None else "")
        who = f"by {name}" + (f" at {claimed}" if claimed else "")
    elif writer is not None:
        who = str(Writer(writer.manager, claimed or writer.at))
    else:
        who = "by nobody who is named" + (f" at {claimed}" if claimed else "")
    return Command(
        attempt=int(match["attempt"]),
        weight=int(match["weight"]) if step else None,
        holds=frozenset(holds.split(",")) if holds else frozenset(),
        who=who,
    )


def refusals(
    annotations: Mapping[str, str], *, spec: MigrationPlanSpec, status: MigrationPlanStatus
) -> Iterator[Refusal]:
    """Return the commands that will not be obeyed; those of earlier attempts and steps are over, and nothing to tell."""
    attempt, weight = status.attempt or spec.attempt, status.weight or 0
    target = next_step(spec, weight)
    for annotation in ANNOTATIONS:
        text = annotations.get(annotation)
        if text is None:
            continue
        right = (
            f"a{attempt}" if annotation == ROLLBACK_ANNOTATION else f"a{attempt}-w{target.weight if target else 100}"
        )
        if annotation == SKIP_ANNOTATION:
            right += f"/{HoldReason.OUTSIDE_WINDOW}"
        what = f"{annotation} says '{quote(text)}'"
        command = read(annotation, text)
        if command is None:
            yield Refusal(annotation, what, f"that is not understood; write {right}, or {right} by jane@example.com")
        elif command.attempt > attempt:
            yield Refusal(annotation, what, f"this is attempt {attempt}; write {right}")
        elif command.attempt < attempt:
            continue
        elif unknown := sorted(command.holds - set(Skippable)):
            yield Refusal(annotation, what, _why_not(unknown[0]))
        elif command.weight is not None and command.weight > weight:
            if all(step.weight != command.weight for step in spec.steps):
                yield Refusal(annotation, what, f"there is no step at {command.weight} %; write {right}")
            elif (status.void or {}).get(annotation) == text:
                yield Refusal(
                    annotation, what, "that was given before the weight was lowered; remove it, then give it anew"
                )


def _why_not(hold: str) -> str:
    skippable = ", ".join(Skippable)
    if hold not in HoldReason.__members__.values():
        return f"there is no hold {quote(hold)}; write one of {skippable}"
    return f"{hold} cannot be skipped: {_INSTEAD.get(hold, _NEVER)}"
