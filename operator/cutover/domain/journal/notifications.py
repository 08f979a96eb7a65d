"""What people are told of a plan: which lines of its ledger, how much they matter, who wants them, and in which words.

The ledger is the only source: what it has is in ``.status`` before anybody is told, and survives any crash. Which entry
was told last is remembered there as well, for each receiver; what a crash leaves in doubt is told again, under the same
identifier. What is still to be sent is in :mod:`cutover.domain.journal.outbox`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum
from fnmatch import fnmatchcase

from cutover.api.v1alpha1 import LedgerEntry
from cutover.domain.evidence.sentences import sentence
from cutover.domain.holds import ALARMING, HoldReason

# ------------------------------------------------------------------------------------------------- what is worth telling


class Severity(StrEnum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Place in the order of what matters: the more, the higher."""
        return list(Severity).index(self)


#: Users may be hurt, and the operator cannot help: there is no way back, or it is not seen to work.
CRITICAL_HOLDS = frozenset(
    {
        HoldReason.BOTH_LEGS_UNHEALTHY,
        HoldReason.HEROKU_CANNOT_TAKE_BACK,
        HoldReason.SHARE_NOT_OBSERVED,
        HoldReason.ROUTE_NOT_WRITTEN,
        HoldReason.BREACH,
    }
)

#: Of decisions that are no holds. A rollback is a warning: once it is told, users are safe.
DECISIONS: Mapping[str, Severity] = {
    "TakeOver": Severity.INFO,
    "Advance": Severity.INFO,
    "Complete": Severity.INFO,
    "Retry": Severity.INFO,
    "Lower": Severity.INFO,
    "Gates": Severity.INFO,
    "Edit": Severity.INFO,
    "RollBack": Severity.WARNING,
    "RolledBack": Severity.WARNING,
    "Withdraw": Severity.WARNING,
    "Repair": Severity.WARNING,
    "Skip": Severity.WARNING,
    "Refuse": Severity.WARNING,
}


def severity_of(decision: str, reason: str) -> Severity:
    """Return how much a line of the ledger matters; of one that is not known, that somebody should read it."""
    if decision != "Hold":
        return DECISIONS.get(decision, Severity.WARNING)
    if reason in CRITICAL_HOLDS:
        return Severity.CRITICAL
    known = reason in HoldReason.__members__.values()
    return Severity.WARNING if reason in ALARMING or not known else Severity.INFO


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of a plan's ledger, to be told."""

    uid: str
    namespace: str
    plan: str
    entry: LedgerEntry

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return severity_of(self.entry.decision, self.entry.reason)

    @property
    def id(self) -> str:
        """Return what is the same whenever the same decision is told, and different for all others."""
        return f"{self.uid}/{key_of(self.entry)}"


def key_of(entry: LedgerEntry) -> str:
    """Return what a decision is remembered by within its plan.

    None of what :mod:`cutover.domain.journal.ledger` may cut later is part of it. Two equal decisions for the same reason within
    one second are one.
    """
    return f"a{entry.attempt}/{_time(entry)}/{entry.decision}/{entry.reason}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which notices a receiver wants; what is empty stands for all.

    Parameters
    ----------
    namespaces
        Patterns with ``*`` and ``?``.
    severities
        Severities.
    reasons
        Patterns of decisions or their reasons, such as ``RollBack`` or ``Awaiting*``.
    """

    namespaces: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    reasons: tuple[str, ...] = ()

    def namespace(self, name: str) -> bool:
        """Tell whether plans of a namespace concern the receiver at all."""
        return not self.namespaces or any(fnmatchcase(name, pattern) for pattern in self.namespaces)

    def entry(self, entry: LedgerEntry) -> bool:
        """Tell whether a line of such a plan's ledger is wanted."""
        if self.severities and severity_of(entry.decision, entry.reason) not in self.severities:
            return False
        words = (entry.decision, entry.reason)
        return not self.reasons or any(fnmatchcase(word, one) for word in words for one in self.reasons)


# ------------------------------------------------------------------------------------------------------ how it is written


class TemplateError(ValueError):
    """A template that cannot be filled in; the text says what to do, and quotes nothing of it."""


_PLACE = re.compile(r"\{\{\s*(\w*)\s*\}\}")

_VALUES: Mapping[str, Callable[[Notice], str]] = {
    "severity": lambda notice: notice.severity,
    "namespace": lambda notice: notice.namespace,
    "plan": lambda notice: notice.plan,
    "attempt": lambda notice: str(notice.entry.attempt),
    "decision": lambda notice: notice.entry.decision,
    "reason": lambda notice: notice.entry.reason,
    "message": lambda notice: notice.entry.message,
    "from": lambda notice: str(notice.entry.from_weight),
    "to": lambda notice: str(notice.entry.to_weight),
    "weight": lambda notice: _weight(notice.entry),
    "gates": lambda notice: "\n".join(f"{gate.name}: {sentence(gate)}" for gate in notice.entry.gates),
    "at": lambda notice: _time(notice.entry),
    "id": lambda notice: notice.id,
}
#: What a template may name.
PLACEHOLDERS = tuple(_VALUES)

DEFAULT_TEMPLATE = (
    "*{{ severity }}* {{ namespace }}/{{ plan }}: {{ decision }}, {{ reason }} ({{ weight }}, attempt {{ attempt }})\n"
    "{{ message }}"
)


def check_template(text: str) -> str:
    """Return the template. Raises TemplateError where it has a placeholder that is not known, or half of one."""
    if not set(_PLACE.findall(text)) <= set(_VALUES):
        raise TemplateError(f"it has a placeholder that is not known; there are {', '.join(PLACEHOLDERS)}")
    if re.search(r"\{\{|\}\}", _PLACE.sub("", text)):
        raise TemplateError("it has half a placeholder; write {{ name }}")
    return text


def fill(template: str, notice: Notice, escape: Callable[[str], str] = str) -> str:
    """Fill in a template. Values are put in once, escaped, whatever they look like."""
    return _PLACE.sub(lambda place: escape(_VALUES[place[1]](notice)), template)


def _time(entry: LedgerEntry) -> str:
    """Return when it was decided, in whole seconds, as the API server has it."""
    return entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _weight(entry: LedgerEntry) -> str:
    if entry.from_weight == entry.to_weight:
        return f"{entry.to_weight} %"
    return f"{entry.from_weight} % → {entry.to_weight} %"
