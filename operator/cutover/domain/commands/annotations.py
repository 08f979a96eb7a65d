"""The grammar of operator commands in annotations. Only this module reads and writes it.

A command is for one attempt and, unless it moves all traffic at once (rollback, forward), for the step that it lets begin:
``a1-w25`` is the step at 25 % of attempt 1. It may add who asks, and when: ``a1-w25 by jane@example.com at 2027-01-11T10:00:00Z``. Without a name, the field
manager that wrote the annotation is named, if the API server knows it. Both are claims; the API server's audit log has the
proof.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from cutover.api.v1alpha1 import GROUP, LONGEST_REQUEST
from cutover.domain.holds import HoldReason
from cutover.domain.texts import fitted, plain, shorten

#: Command to roll back, for one attempt: ``a1``.
ROLLBACK_ANNOTATION = f"{GROUP}/rollback"
#: Command to send all traffic to EKS while Heroku is down, for one attempt: ``a1``.
FORWARD_ANNOTATION = f"{GROUP}/forward"
#: Approval of a step with ``approval: Manual``: ``a1-w25``.
APPROVE_ANNOTATION = f"{GROUP}/approve"
#: Command to begin a step in spite of a hold: ``a1-w25/OutsideWindow``.
SKIP_ANNOTATION = f"{GROUP}/skip-hold"
#: Command to begin a step in place of evidence that its traffic does not bring: ``a1-w25``.
PROCEED_ANNOTATION = f"{GROUP}/proceed"
#: Asks for the audits to be run again now, and for both legs' answers to be compared, by any new value: it moves nothing, and
#: is no command.
AUDIT_ANNOTATION = f"{GROUP}/audit"
ANNOTATIONS = (ROLLBACK_ANNOTATION, FORWARD_ANNOTATION, APPROVE_ANNOTATION, SKIP_ANNOTATION, PROCEED_ANNOTATION)
#: Commands that name no step.
_WITHOUT_STEP = (ROLLBACK_ANNOTATION, FORWARD_ANNOTATION)

#: Characters of a whole command, of a name in it, and of the quote of a command that cannot be read.
LONGEST_COMMAND, LONGEST_NAME, LONGEST_QUOTE = 250, 100, 60


class Skippable(StrEnum):
    """Holds that a command may skip: the calendar's, the least time at a weight, a record of Heroku that is too short, and
    differences that are no harm.

    All others are about harm, or about evidence.
    """

    OUTSIDE_WINDOW = HoldReason.OUTSIDE_WINDOW
    FROZEN = HoldReason.FROZEN
    HOLD_TIME = "HoldTime"
    ANSWERS_DIFFER = HoldReason.ANSWERS_DIFFER
    SESSIONS_NOT_SHARED = HoldReason.SESSIONS_NOT_SHARED
    BASELINE_INCOMPLETE = HoldReason.BASELINE_INCOMPLETE
    TAKEOVER_DIFFERS = HoldReason.TAKEOVER_DIFFERS
    LEGS_DIFFER = HoldReason.LEGS_DIFFER


_NAME = r"\w(?:[\w .@+:/=,#'-]*?[\w.])??"
_TIME = r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
_COMMAND = re.compile(
    r"a(?P<attempt>[0-9]{1,5})(?:-w(?P<weight>[0-9]{1,3})(?:/(?P<holds>[A-Za-z]+(?:,[A-Za-z]+)*))?)?"
    rf"(?: by (?P<name>{_NAME}))?(?: at (?P<at>{_TIME}))?"
)
#: Characters that neither a name nor a quote may have: markup, line ends and invisible characters.
_ODD = re.compile(r"[^\w .@+:/=,#'-]")


@dataclass(frozen=True, slots=True)
class Writer:
    """The field manager that wrote a field.

    Parameters
    ----------
    manager
        Field manager, such as ``kubectl-annotate`` or ``kustomize-controller``.
    at
        When it wrote last, as the API server writes times; ``""`` if unknown.
    """

    manager: str
    at: str = ""

    def __str__(self) -> str:
        """Return the field manager as part of a sentence."""
        return f"by the field manager {quote(self.manager)}" + (f" at {quote(self.at)}" if self.at else "")


@dataclass(frozen=True, slots=True)
class Command:
    """An operator command.

    Parameters
    ----------
    annotation
        Name of the annotation.
    attempt
        The attempt that the command is for.
    weight
        Weight of the step that the command lets begin; ``None`` for a rollback or a forward.
    holds
        Holds that the command skips.
    name
        Who asks, as written in the annotation; ``""`` if there is no name.
    at
        When it was asked, as written in the annotation.
    writer
        The field manager that wrote the annotation; not part of its text.
    """

    annotation: str
    attempt: int
    weight: int | None = None
    holds: frozenset[str] = frozenset()
    name: str = ""
    at: datetime | None = None
    writer: Writer | None = field(default=None, compare=False)

    @property
    def who(self) -> str:
        """Who asks and when, as part of a sentence: ``by jane@example.com at 2027-01-11T10:00:00Z``."""
        claimed = _time(self.at, "seconds") if self.at is not None else ""
        if self.name:
            at = claimed or (quote(self.writer.at) if self.writer is not None else "")
            return f"by {self.name}" + (f" at {at}" if at else "")
        if self.writer is not None:
            return str(Writer(self.writer.manager, claimed or self.writer.at))
        return "by an unknown author" + (f" at {claimed}" if claimed else "")


def read(annotation: str, text: str, writer: Writer | None = None) -> Command | None:
    """Read the command in an annotation; ``None`` if the text is not a command for this annotation."""
    text = text.strip()
    match = _COMMAND.fullmatch(text) if len(text) <= LONGEST_COMMAND else None
    if match is None:
        return None
    name, at = match["name"] or "", match["at"] or ""
    step, holds = match["weight"] is not None, match["holds"] or ""
    if (
        (step, bool(holds)) != (annotation not in _WITHOUT_STEP, annotation == SKIP_ANNOTATION)
        or len(name) > LONGEST_NAME
        # An invalid time was read as part of the name.
        or " at " in name
    ):
        return None
    try:
        time = datetime.fromisoformat(at).astimezone(UTC) if at else None
    except ValueError:
        return None
    return Command(
        annotation=annotation,
        attempt=int(match["attempt"]),
        weight=int(match["weight"]) if step else None,
        holds=frozenset(holds.split(",")) if holds else frozenset(),
        name=name,
        at=time,
        writer=writer,
    )


def write(command: Command) -> str:
    """Return the annotation's value for a command; :func:`read` returns the same command for it.

    Raises
    ------
    ValueError
        If no value can express the command, such as a name with a line end in it.
    """
    text = f"a{command.attempt}"
    if command.weight is not None:
        text += f"-w{command.weight}"
    if command.holds:
        text += f"/{','.join(sorted(command.holds))}"
    if command.name:
        text += f" by {command.name}"
    if command.at is not None:
        text += f" at {_time(command.at)}"
    if read(command.annotation, text) != command:
        raise ValueError(f"an annotation cannot say {command}")
    return text


def assignment(command: Command) -> str:
    """Return the command as ``kubectl annotate`` takes it: ``cutover.dev/rollback=a1``.

    Raises
    ------
    ValueError
        As :func:`write` does.
    """
    return f"{command.annotation}={write(command)}"


def rollback(attempt: int) -> Command:
    """Return the command to roll back."""
    return Command(ROLLBACK_ANNOTATION, attempt)


def forward(attempt: int) -> Command:
    """Return the command to send all traffic to EKS while Heroku is down."""
    return Command(FORWARD_ANNOTATION, attempt)


def proceed(attempt: int, weight: int) -> Command:
    """Return the command that lets a step begin in place of evidence."""
    return Command(PROCEED_ANNOTATION, attempt, weight)


def approve(attempt: int, weight: int) -> Command:
    """Return the command that approves a step."""
    return Command(APPROVE_ANNOTATION, attempt, weight)


def skip_hold(attempt: int, weight: int, *holds: Skippable) -> Command:
    """Return the command that lets a step begin in spite of holds."""
    return Command(SKIP_ANNOTATION, attempt, weight, frozenset(holds))


def audit_request(text: str) -> str:
    """Return what the status keeps of a request for audits: the same for the same text, and safe to show."""
    return fitted(plain(text.strip()), LONGEST_REQUEST)


def quote(text: str) -> str:
    """Return a foreign text that is safe to show anywhere: short, one line, no markup."""
    return shorten(_ODD.sub("?", text), LONGEST_QUOTE)


def _time(at: datetime, precision: str = "auto") -> str:
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
