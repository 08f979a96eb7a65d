"""What people are told of a plan, by whom it is wanted, how it is written, and what still has to be sent.

The ledger is the only source: what it has is in ``.status`` before anybody is told, and survives any crash. Which entry
was told last is remembered there as well, for each receiver; what a crash leaves in doubt is told again, under the same
identifier.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, assert_never

from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION, LedgerEntry, MigrationPlanStatus
from cutover.domain.evidence.sentences import sentence
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.texts import shorten

#: Notices that wait for one receiver; what is beyond is dropped, and said to be.
LONGEST_QUEUE = 500
#: Notices that one message may stand for, and those of them that it has in full.
LONGEST_DIGEST, SHOWN = 100, 5
#: Seconds for which a notice is tried: about a night.
PATIENCE_SECONDS = 12 * 3600.0
#: Seconds until a failed attempt is made again, doubled each time, up to the longest.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 300.0
#: Seconds for which a receiver's own command to be left alone is respected.
LONGEST_REST_SECONDS = 3600.0
#: Characters of a text; chats cut longer ones, or refuse them.
LONGEST_TEXT = 3500


# ------------------------------------------------------------------------------------------------- what is worth telling


class Severity(StrEnum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


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


def slack_escape(text: str) -> str:
    """Return a text that a chat shows as it is: no mention, no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent in one request.

    Parameters
    ----------
    notices
        In order.
    lost
        How many were dropped unsent since the last request that succeeded, by severity.
    """

    notices: tuple[Notice, ...]
    lost: Mapping[Severity, int] = field(default_factory=dict)


def slack_body(batch: Batch, template: str) -> bytes:
    """Return a message for what takes Slack's incoming webhooks; of many notices it has those that matter most."""
    notices = batch.notices
    ranked = sorted(range(len(notices)), key=lambda number: (-_rank(notices[number].severity), number))
    shown = sorted(ranked[:SHOWN])
    more = Counter(notices[number].severity for number in ranked[SHOWN:])
    longest = LONGEST_TEXT // len(shown)
    lines = [shorten(fill(template, notices[number], slack_escape), longest) for number in shown]
    if more:
        lines.append(f"and {more.total()} more ({_counts(more)}); see the plans' ledgers")
    if batch.lost:
        lines.append(f"{sum(batch.lost.values())} older ones were not told ({_counts(batch.lost)})")
    return json.dumps({"text": "\n".join(lines)}, ensure_ascii=False).encode()


def cloud_event(notice: Notice, lost: Mapping[Severity, int], source: str = "") -> dict[str, Any]:
    """Return a CloudEvent 1.0 as JSON-able data, with the whole line of the ledger.

    Parameters
    ----------
    notice
        What is told.
    lost
        How many notices before it were dropped, by severity.
    source
        What is put before the path of the plan, to tell clusters apart.
    """
    data = {
        "namespace": notice.namespace,
        "plan": notice.plan,
        "uid": notice.uid,
        "severity": notice.severity,
        **notice.entry.to_wire(),
    }
    if lost:
        data["notTold"] = dict(lost)
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"{source}/apis/{GROUP}/{VERSION}/namespaces/{notice.namespace}/{PLURAL}/{notice.plan}",
        "type": f"dev.cutover.migrationplan.{notice.entry.decision.lower()}",
        "subject": f"{notice.namespace}/{notice.plan}",
        "time": _time(notice.entry),
        "datacontenttype": "application/json",
        "severity": notice.severity,
        "data": data,
    }


def structured(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in HTTP's structured mode."""
    return {"Content-Type": "application/cloudevents+json; charset=UTF-8"}, _json(event)


def binary(event: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in HTTP's binary mode."""
    attributes = {name: value for name, value in event.items() if name not in ("data", "datacontenttype")}
    headers = {f"ce-{name}": _percent_encode(value) for name, value in attributes.items()}
    return {**headers, "Content-Type": str(event["datacontenttype"])}, _json(event["data"])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _percent_encode(text: str) -> str:
    """Encode what the HTTP binding of CloudEvents wants encoded, and nothing else."""
    return "".join(
        char if "!" <= char <= "~" and char not in '"%' else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in text
    )


def _rank(severity: Severity) -> int:
    match severity:
        case Severity.INFO:
            return 0
        case Severity.WARNING:
            return 1
        case Severity.CRITICAL:
            return 2
        case _:
            assert_never(severity)


def _counts(counts: Mapping[Severity, int]) -> str:
    return ", ".join(f"{counts[one]} {one}" for one in reversed(Severity) if counts.get(one))


def _time(entry: LedgerEntry) -> str:
    """Return when it was decided, in whole seconds, as the API server has it."""
    return entry.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _weight(entry: LedgerEntry) -> str:
    if entry.from_weight == entry.to_weight:
        return f"{entry.to_weight} %"
    return f"{entry.from_weight} % → {entry.to_weight} %"


# ------------------------------------------------------------------------------------------------- what is still to send


class Cause(StrEnum):
    """Why a notice was not told."""

    REFUSED = "refused"
    FULL = "full"
    EXPIRED = "expired"


class Answer(StrEnum):
    """What a receiver's answer means."""

    TAKEN = "taken"
    LATER = "later"
    REFUSED = "refused"


def answer_of(status: int) -> Answer:
    """Return what an HTTP status means. What a redirection leads to was not configured by anybody."""
    if 200 <= status < 300:
        return Answer.TAKEN
    return Answer.LATER if status in (408, 425, 429) or status >= 500 else Answer.REFUSED


@dataclass(frozen=True, slots=True)
class Throttle:
    """How much a receiver is told at most: so many messages at once, and then one every so many seconds."""

    burst: int = 5
    every: float = 10.0


@dataclass(slots=True, eq=False)
class _Track:
    """How far a receiver was told of one plan.

    Parameters
    ----------
    told
        Key of the last entry up to which nothing is open; empty for none.
    line
        Keys after it, in order: of entries that are open, and of the last one that was seen.
    open
        Those of them that are still to be sent.
    owed_since
        Since when something was told that the plan's status does not remember; ``None`` for nothing.
    gone
        Whether the plan does not exist any more.
    """

    told: str
    line: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    owed_since: float | None = None
    gone: bool = False

    @property
    def last(self) -> str:
        return self.line[-1] if self.line else self.told

    def see(self, key: str, *, wanted: bool) -> None:
        if self.line and self.line[-1] not in self.open:
            self.line.pop()
        self.line.append(key)
        if wanted:
            self.open.add(key)
        self.advance()

    def settle(self, key: str, now: float) -> None:
        self.open.discard(key)
        if self.line and self.line[0] == key and self.owed_since is None:
            self.owed_since = now
        self.advance()

    def advance(self) -> None:
        while self.line and self.line[0] not in self.open:
            self.told = self.line.pop(0)


@dataclass(slots=True, eq=False)
class _Waiting:
    notice: Notice
    since: float


@dataclass(slots=True, eq=False)
class Outbox:
    """What is to be sent to one receiver, and when. It knows no clock: ``now`` is any that only goes forward.

    All notices are in one line, so that the order of each plan's is kept; one request is under way at a time.

    Parameters
    ----------
    wanted
        What the receiver wants.
    throttle
        How much of it at most.
    digests
        Whether one message may stand for many notices. What programs read is paced only.
    longest
        Most notices that wait.
    first_retry
        Seconds until a failed request is made again, for the first time.

    Attributes
    ----------
    sent, dropped
        Counts of notices.
    failures
        Requests that failed.
    """

    wanted: Wanted = Wanted()
    throttle: Throttle = Throttle()
    digests: bool = True
    longest: int = LONGEST_QUEUE
    first_retry: float = FIRST_RETRY_SECONDS
    sent: int = 0
    failures: int = 0
    dropped: Counter[Cause] = field(default_factory=Counter)
    _waiting: list[_Waiting] = field(default_factory=list)
    _under_way: int = 0
    _tracks: dict[str, _Track] = field(default_factory=dict)
    _lost: Counter[Severity] = field(default_factory=Counter)
    _tokens: float | None = None
    _filled_at: float = 0.0
    _not_before: float | None = None
    _failed: int = 0

    @property
    def waiting(self) -> int:
        """Notices that are to be sent."""
        return len(self._waiting)

    def tell(
        self, uid: str, namespace: str, plan: str, status: MigrationPlanStatus, told: str | None, now: float
    ) -> None:
        """Take in what a plan's ledger has that was not seen yet.

        Parameters
        ----------
        uid, namespace, plan
            The plan.
        status
            Its status as it is stored; what is not stored may still be decided otherwise.
        told
            Key of the entry that was told last, as the status remembers it: ``""`` for none, and ``None`` where this
            receiver was not there yet; then all of the ledger is history.
        now
            Seconds.
        """
        if not self.wanted.namespace(namespace):
            return
        entries = {key_of(entry): entry for entry in status.ledger}
        keys = list(entries)
        track = self._tracks.get(uid)
        if track is None:
            if told is None:
                told = keys[-1] if keys else ""
            track = self._tracks[uid] = _Track(told)
        # Where the last one has left the ledger, all in it are newer.
        news = keys[keys.index(track.last) + 1 :] if track.last in entries else keys
        for key in news:
            if key in track.open:
                continue
            wanted = self.wanted.entry(entries[key])
            track.see(key, wanted=wanted)
            if wanted:
                self._waiting.append(_Waiting(Notice(uid, namespace, plan, entries[key]), now))
        while len(self._waiting) > max(self.longest, self._under_way):
            self._drop(self._least(), Cause.FULL, now)

    def told(self, uid: str) -> str | None:
        """Return the key up to which a plan was told; ``None`` where it is none of the receiver's."""
        track = self._tracks.get(uid)
        return track.told if track is not None else None

    def owed_since(self, uid: str, stored: str | None) -> float | None:
        """Return since when something was told that the status does not remember; ``None`` for nothing.

        What nobody wanted is passed over silently, and remembered with the next write that there is.
        """
        track = self._tracks.get(uid)
        if track is None:
            return None
        if stored == track.told:
            track.owed_since = None
        return track.owed_since

    def forget(self, uid: str) -> None:
        """Let go of a plan that does not exist any more, once all of it is told."""
        track = self._tracks.get(uid)
        if track is not None:
            track.gone = True
            self._let_go(uid, track)

    def next(self, now: float) -> Batch | float | None:
        """Return what to send now, the seconds to wait, or ``None`` where there is nothing to send.

        What is returned is under way until :meth:`taken`, :meth:`later` or :meth:`refused` is called.
        """
        while self._waiting and now - self._waiting[0].since > PATIENCE_SECONDS:
            self._drop(0, Cause.EXPIRED, now)
        if not self._waiting:
            return None
        burst = float(self.throttle.burst)
        tokens = self._tokens if self._tokens is not None else burst
        tokens = min(burst, tokens + (now - self._filled_at) / self.throttle.every)
        self._tokens, self._filled_at = tokens, now
        rest = self._not_before - now if self._not_before is not None else 0.0
        wait = max(rest, (1.0 - tokens) * self.throttle.every)
        if wait > 1e-6:  # less is rounding
            return wait
        self._tokens = max(tokens - 1.0, 0.0)
        many = self.digests and len(self._waiting) > int(tokens + 1e-6)
        self._under_way = min(len(self._waiting), LONGEST_DIGEST) if many else 1
        return Batch(tuple(one.notice for one in self._waiting[: self._under_way]), dict(self._lost))

    def taken(self, batch: Batch, now: float) -> None:
        """The receiver has it."""
        self.sent += self._under_way
        self._lost.subtract(batch.lost)
        self._lost = +self._lost
        self._done(now)

    def refused(self, now: float) -> None:
        """The receiver does not want it, and will not want it later."""
        self.failures += 1
        self.dropped[Cause.REFUSED] += self._under_way
        self._done(now)

    def later(self, now: float, jitter: float, rest: float | None = None) -> None:
        """It failed, and is tried again.

        Parameters
        ----------
        now
            Seconds.
        jitter
            Something random between 0 and 1, or all receivers of an outage would be asked again at the same time.
        rest
            Seconds for which the receiver wants to be left alone, if it said so.
        """
        self.failures += 1
        self._failed += 1
        pause = min(LONGEST_RETRY_SECONDS, self.first_retry * 2.0 ** min(self._failed - 1, 16))
        pause *= 0.5 + 0.5 * jitter
        self._not_before = now + max(pause, min(rest or 0.0, LONGEST_REST_SECONDS))
        self._under_way = 0

    def _done(self, now: float) -> None:
        for one in self._waiting[: self._under_way]:
            self._settle(one.notice, now)
        del self._waiting[: self._under_way]
        self._under_way, self._failed, self._not_before = 0, 0, None

    def _drop(self, number: int, cause: Cause, now: float) -> None:
        notice = self._waiting.pop(number).notice
        self.dropped[cause] += 1
        self._lost[notice.severity] += 1
        self._settle(notice, now)

    def _least(self) -> int:
        """Return the oldest of those that matter least and are not under way."""
        numbers = range(self._under_way, len(self._waiting))
        return min(numbers, key=lambda number: (_rank(self._waiting[number].notice.severity), number))

    def _settle(self, notice: Notice, now: float) -> None:
        track = self._tracks[notice.uid]
        track.settle(key_of(notice.entry), now)
        self._let_go(notice.uid, track)

    def _let_go(self, uid: str, track: _Track) -> None:
        if track.gone and not track.open:
            del self._tracks[uid]
