"""Notifications about a plan: their severity, which receivers want them, and their text.

The ledger is the only source: a decision is in ``.status`` before a notification is sent, and survives any crash. The
status also has the last entry that was sent to each receiver; what a crash leaves in doubt is sent again, with the same
identifier. The queue of notices is in :mod:`cutover.domain.journal.outbox`.
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
        """Place in the order of severities; a higher rank matters more."""
        return list(Severity).index(self)


#: Holds in which users may be harmed and the operator cannot help: it cannot roll back, or cannot confirm a rollback.
CRITICAL_HOLDS = frozenset(
    {
        HoldReason.BOTH_LEGS_UNHEALTHY,
        HoldReason.HARM_UNCONFIRMED,
        HoldReason.HEROKU_CANNOT_TAKE_BACK,
        HoldReason.SHARE_NOT_OBSERVED,
        HoldReason.ROUTE_NOT_WRITTEN,
        HoldReason.BREACH,
    }
)

#: Severities of decisions other than holds. A rollback is a warning: when it is sent, users are safe.
DECISIONS: Mapping[str, Severity] = {
    "TakeOver": Severity.INFO,
    "Advance": Severity.INFO,
    "Forward": Severity.WARNING,
    "Complete": Severity.INFO,
    "Retry": Severity.INFO,
    "Lower": Severity.INFO,
    "Gates": Severity.INFO,
    "Edit": Severity.INFO,
    "Change": Severity.INFO,
    "RollBack": Severity.WARNING,
    "RolledBack": Severity.WARNING,
    "Withdraw": Severity.WARNING,
    "Repair": Severity.WARNING,
    "Skip": Severity.WARNING,
    "Refuse": Severity.WARNING,
    "Audit": Severity.WARNING,
}


def severity_of(decision: str, reason: str) -> Severity:
    """Return the severity of a ledger entry; an unknown decision or reason is a warning."""
    if decision != "Hold":
        return DECISIONS.get(decision, Severity.WARNING)
    if reason in CRITICAL_HOLDS:
        return Severity.CRITICAL
    known = reason in HoldReason.__members__.values()
    return Severity.WARNING if reason in ALARMING or not known else Severity.INFO


@dataclass(frozen=True, slots=True)
class Notice:
    """A ledger entry of a plan that is to be sent.

    ``report`` is the name of the ConfigMap that keeps the plan's report, and ``report_url`` the address of its page; both are
    empty where this entry does not end the plan, and where reports are not kept so.
    """

    uid: str
    namespace: str
    plan: str
    entry: LedgerEntry
    report: str = ""
    report_url: str = ""

    @property
    def severity(self) -> Severity:
        """Severity of the entry."""
        return severity_of(self.entry.decision, self.entry.reason)

    @property
    def id(self) -> str:
        """Identifier of the decision: the same each time it is sent, and different for all other decisions."""
        return f"{self.uid}/{key_of(self.entry)}"


def key_of(entry: LedgerEntry) -> str:
    """Return the key of a decision within its plan.

    It has no field that :mod:`cutover.domain.journal.ledger` may cut later. Two equal decisions for the same reason within
    one second have the same key.
    """
    return f"a{entry.attempt}/{_time(entry)}/{entry.decision}/{entry.reason}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filter: which notices a receiver wants. An empty field stands for all.

    Parameters
    ----------
    namespaces
        Patterns of namespaces, with ``*`` and ``?``.
    severities
        Severities that are wanted.
    reasons
        Patterns of decisions or their reasons, such as ``RollBack`` or ``Awaiting*``.
    """

    namespaces: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    reasons: tuple[str, ...] = ()

    def namespace(self, name: str) -> bool:
        """Tell whether the receiver wants notices about plans of a namespace."""
        return not self.namespaces or any(fnmatchcase(name, pattern) for pattern in self.namespaces)

    def entry(self, entry: LedgerEntry) -> bool:
        """Tell whether the receiver wants a ledger entry of such a plan."""
        if self.severities and severity_of(entry.decision, entry.reason) not in self.severities:
            return False
        words = (entry.decision, entry.reason)
        return not self.reasons or any(fnmatchcase(word, pattern) for word in words for pattern in self.reasons)


# ------------------------------------------------------------------------------------------------------ how it is written


class MessageTemplateError(ValueError):
    """A message template cannot be filled in. The text says what to do, and quotes nothing, as templates may be secret."""


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
    "report": lambda notice: _report(notice),
}
#: Placeholders whose values hold nothing that others wrote, so that a link in them may work.
_OWN = frozenset({"report"})
#: Names of placeholders in a message template.
PLACEHOLDERS = tuple(_VALUES)

DEFAULT_TEMPLATE = (
    "*{{ severity }}* {{ namespace }}/{{ plan }}: {{ decision }}, {{ reason }} ({{ weight }}, attempt {{ attempt }})\n"
    "{{ message }}\n"
    "{{ report }}"
)


def check_template(text: str) -> str:
    """Return a message template. Raises MessageTemplateError if it has an unknown or an incomplete placeholder."""
    if not set(_PLACE.findall(text)) <= set(_VALUES):
        raise MessageTemplateError(f"it has a placeholder that is not known; there are {', '.join(PLACEHOLDERS)}")
    if re.search(r"\{\{|\}\}", _PLACE.sub("", text)):
        raise MessageTemplateError("it has half a placeholder; write {{ name }}")
    return text


def fill(template: str, notice: Notice, escape: Callable[[str], str] = str) -> str:
    """Fill in a message template. Values are inserted once; a value that looks like a placeholder stays as it is.

    Values that others wrote are escaped. Line ends after the last text are cut, as the last values may be empty.
    """

    def value(place: re.Match[str]) -> str:
        text = _VALUES[place[1]](notice)
        return text if place[1] in _OWN else escape(text)

    return _PLACE.sub(value, template).rstrip("\n")


def _report(notice: Notice) -> str:
    """Return where the plan's report is: the address where there is one, as people can open that at once."""
    if notice.report_url:
        return f"Report: {notice.report_url}"
    return f"Report: ConfigMap {notice.report}" if notice.report else ""


def _time(entry: LedgerEntry) -> str:
    """Return the time of a decision in whole seconds, as the API server has it."""
    return entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _weight(entry: LedgerEntry) -> str:
    if entry.from_weight == entry.to_weight:
        return f"{entry.to_weight} %"
    return f"{entry.from_weight} % → {entry.to_weight} %"
