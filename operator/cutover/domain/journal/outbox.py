"""The queue of notices for one receiver: order, digests, throttling and retries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus
from cutover.domain.journal.notifications import Notice, Severity, Wanted, key_of
from cutover.domain.journal.reports import NO_LINKS, ReportLinks, report_name

#: Most notices that wait for one receiver. More are dropped, and the next message says how many.
LONGEST_QUEUE = 500
#: Most notices in one message.
LONGEST_DIGEST = 100
#: Seconds for which sending a notice is tried: about a night.
PATIENCE_SECONDS = 12 * 3600.0
#: Seconds until the first retry, doubled for each further retry, and the longest wait.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 300.0
#: Longest time in seconds that a receiver may ask to wait (``Retry-After``).
LONGEST_REST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of one request.

    Parameters
    ----------
    notices
        The notices, in order.
    lost
        Notices that were dropped unsent since the last successful request, by severity.
    """

    notices: tuple[Notice, ...]
    lost: Mapping[Severity, int] = field(default_factory=dict)


class Cause(StrEnum):
    """Why a notice was dropped."""

    REFUSED = "refused"
    FULL = "full"
    EXPIRED = "expired"
    UNSENDABLE = "unsendable"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Rate limit of a receiver: ``burst`` messages at once, then one message every ``every`` seconds."""

    burst: int = 5
    every: float = 10.0


@dataclass(slots=True, eq=False)
class _Track:
    """Which ledger entries of one plan a receiver has got.

    Parameters
    ----------
    told
        Key of the last entry up to which all is settled; empty for none.
    line
        Later keys, in order: of open entries, and of the last entry that was seen.
    open
        Keys in ``line`` whose entries are still to be sent.
    owed_since
        Seconds at which an entry was settled that the plan's status does not have yet; ``None`` if there is none.
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
    """The queue of notices for one receiver. It has no clock: ``now`` may come from any monotonic clock.

    All notices are in one queue, which keeps the order of each plan's notices; one request is under way at a time.

    Parameters
    ----------
    wanted
        Which notices the receiver wants.
    throttle
        Rate limit of the receiver.
    digests
        Whether one message may have many notices. Messages for programs are only throttled.
    longest
        Most notices that wait.
    first_retry
        Seconds until the first retry of a failed request.
    reports
        Where the reports of plans that end are kept, so that a notice names them.

    Attributes
    ----------
    sent, dropped
        Counts of notices.
    failures
        Requests that failed.
    """

    wanted: Wanted = field(default_factory=Wanted)
    throttle: Throttle = Throttle()
    digests: bool = True
    longest: int = LONGEST_QUEUE
    first_retry: float = FIRST_RETRY_SECONDS
    reports: ReportLinks = NO_LINKS
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

    @property
    def under_way(self) -> int:
        """Notices of the batch that is being sent."""
        return self._under_way

    def tell(
        self, uid: str, namespace: str, plan: str, status: MigrationPlanStatus, told: str | None, now: float
    ) -> None:
        """Ingest the ledger entries of a plan that were not seen yet.

        Parameters
        ----------
        uid, namespace, plan
            The plan.
        status
            The stored status; a decision that is not stored may still change.
        told
            Key of the last entry that was sent, from the status: ``""`` for none. ``None`` means that the receiver is
            new; then all entries so far are history.
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
        # If the last entry has left the ledger, all entries in it are newer.
        news = keys[keys.index(track.last) + 1 :] if track.last in entries else keys
        for key in news:
            if key in track.open:
                continue
            wanted = self.wanted.entry(entries[key])
            track.see(key, wanted=wanted)
            if wanted:
                self._waiting.append(_Waiting(self._notice(uid, namespace, plan, entries[key]), now))
        while len(self._waiting) > max(self.longest, self._under_way):
            self._drop(self._least(), Cause.FULL, now)

    def _notice(self, uid: str, namespace: str, plan: str, entry: LedgerEntry) -> Notice:
        name = report_name(uid, plan, entry)
        page = self.reports.page(namespace, name)
        return Notice(uid, namespace, plan, entry, name if self.reports.config_maps else "", page)

    def told(self, uid: str) -> str | None:
        """Return the key up to which all entries of a plan are settled; ``None`` if the receiver does not follow the plan."""
        track = self._tracks.get(uid)
        return track.told if track is not None else None

    def owed_since(self, uid: str, stored: str | None) -> float | None:
        """Return when an entry was sent that the status does not have yet; ``None`` if there is none.

        Entries that the receiver did not want are not counted; they are stored with the next write of the status.
        """
        track = self._tracks.get(uid)
        if track is None:
            return None
        if stored == track.told:
            track.owed_since = None
        return track.owed_since

    def forget(self, uid: str) -> None:
        """Forget a deleted plan, once all its notices are sent or dropped."""
        track = self._tracks.get(uid)
        if track is not None:
            track.gone = True
            self._let_go(uid, track)

    def next(self, now: float) -> Batch | float | None:
        """Return what to send now, or the seconds to wait; ``None`` if there is nothing to send.

        A batch is under way until :meth:`taken`, :meth:`later` or :meth:`refused` is called.
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
        return Batch(tuple(waiting.notice for waiting in self._waiting[: self._under_way]), dict(self._lost))

    def taken(self, batch: Batch, now: float) -> None:
        """Note that the receiver has accepted the batch."""
        self.sent += self._under_way
        self._lost.subtract(batch.lost)
        self._lost = +self._lost
        self._done(now)

    def refused(self, now: float) -> None:
        """Note that the receiver has refused the batch for good."""
        self.failures += 1
        self.dropped[Cause.REFUSED] += self._under_way
        self._done(now)

    def unsendable(self, numbers: Collection[int], now: float) -> None:
        """Drop notices of the batch that is under way, by their index in it, as no message can be made of them.

        The others are sent again. The next message says how many were dropped.
        """
        self.failures += 1
        self._under_way = 0
        for number in sorted(numbers, reverse=True):
            self._drop(number, Cause.UNSENDABLE, now)

    def later(self, now: float, jitter: float, rest: float | None = None) -> None:
        """Note that the request failed, and is tried again.

        Parameters
        ----------
        now
            Seconds.
        jitter
            A random number between 0 and 1, so that retries after an outage do not come at the same time.
        rest
            Seconds that the receiver asked to wait, if it did.
        """
        self.failures += 1
        self._failed += 1
        pause = min(LONGEST_RETRY_SECONDS, self.first_retry * 2.0 ** min(self._failed - 1, 16))
        pause *= 0.5 + 0.5 * jitter
        self._not_before = now + max(pause, min(rest or 0.0, LONGEST_REST_SECONDS))
        self._under_way = 0

    def _done(self, now: float) -> None:
        for waiting in self._waiting[: self._under_way]:
            self._settle(waiting.notice, now)
        del self._waiting[: self._under_way]
        self._under_way, self._failed, self._not_before = 0, 0, None

    def _drop(self, number: int, cause: Cause, now: float) -> None:
        notice = self._waiting.pop(number).notice
        self.dropped[cause] += 1
        self._lost[notice.severity] += 1
        self._settle(notice, now)

    def _least(self) -> int:
        """Return the index of the oldest notice of the lowest severity that is not under way."""
        numbers = range(self._under_way, len(self._waiting))
        return min(numbers, key=lambda number: (self._waiting[number].notice.severity.rank, number))

    def _settle(self, notice: Notice, now: float) -> None:
        track = self._tracks[notice.uid]
        track.settle(key_of(notice.entry), now)
        self._let_go(notice.uid, track)

    def _let_go(self, uid: str, track: _Track) -> None:
        if track.gone and not track.open:
            del self._tracks[uid]
