"""The load's own record of every request, and queries on it."""

from __future__ import annotations

import hashlib
import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.json import Decoder, encode

#: Reasons of requests that say nothing about the service: `shed` ones were
#: never sent, as too many were in flight, and `stopped` ones were given up
#: because the load ended.
NOT_JUDGED = ("shed", "stopped")

#: Headers of an answer, by the start of their names, that differ from one
#: request to the next, or say who answered and which way it came.
_INCIDENTAL = (
    "connection",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "via",
    "x-app",
    "x-cutover-",
    "x-envoy-",
    "x-leg",
    "x-request-id",
    "x-seen-",
)

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Record:
    """One request.

    Attributes
    ----------
    at
        When it was due, in unix seconds.
    host
        Host header it carried.
    leg
        Leg that answered, ``"none"`` if the answer does not name it.
    revision
        Value of `x-cutover-revision` in the answer, or empty.
    status
        Status code, 0 if there was no answer.
    reason
        Why there was none: ``"timeout"``, ``"connect"``, ``"disconnected"``,
        ``"shed"``, ``"stopped"`` or a class of error; else empty.
    latency
        Seconds from when it was *due* to the last byte, or to giving up.
    sent_latency
        The same from when it was really sent.
    answer
        What its user got, as a digest of status, headers and body (see
        `digest_of`); empty if there was no whole answer.

    """

    at: float
    host: str
    leg: str
    revision: str
    status: int
    reason: str
    latency: float
    sent_latency: float
    answer: str = ""

    @property
    def judged(self) -> bool:
        """Whether it says anything about the service."""
        return self.reason not in NOT_JUDGED

    @property
    def failed(self) -> bool:
        """Whether its user got no proper answer: none at all, or 400 and above."""
        return self.judged and not 200 <= self.status < 400

    def to_json(self) -> str:
        """Return the line that stands for it in a record file."""
        return encode(self).decode()


#: Three hundred lines a second are read and written: `dataclasses.asdict` alone took an eighth of the load's computing.
_read = Decoder(Record).decode


def digest_of(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> str:
    """Return a digest of what the user of a request got, by which equal answers of both legs are known.

    Parameters
    ----------
    headers
        The answer's headers; those that cannot be equal are left out.

    """
    told = sorted(f"{name.lower()}: {value}" for name, value in headers if not name.lower().startswith(_INCIDENTAL))
    text = "\n".join([str(status), *told, hashlib.sha256(body).hexdigest()])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of some requests.

    Attributes
    ----------
    requests
        How many.
    failed
        How many of them got no proper answer (see `Record.failed`).
    slow
        Number of proper answers that took longer than the limit.
    statuses
        Number of requests by status code; 0 is no answer.
    reasons
        Number of unanswered requests by reason.
    quantiles
        Latency in seconds by quantile, of answered requests (1.0 the slowest).
        Requests without an answer are in `failed`, not here.

    """

    requests: int = 0
    failed: int = 0
    slow: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    quantiles: Mapping[float, float] = field(default_factory=dict)

    @property
    def error_ratio(self) -> float:
        """Fraction that failed; 0 of nothing."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def harmed(self) -> int:
        """Requests whose user had something to complain about: failed or slow."""
        return self.failed + self.slow


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the requests of one host in a span of time.

    Attributes
    ----------
    host
        The host, or None for all.
    since, until
        The span, in unix seconds of when requests were due.
    total
        All requests that say anything about the service.
    legs
        The same by leg; ``"none"`` where the answer does not name it.
    revisions
        Number of requests by `x-cutover-revision`.
    shed
        Requests not sent because too many were in flight.
    stopped
        Requests given up because the load ended.

    """

    host: str | None
    since: float
    until: float
    total: Tally
    legs: Mapping[str, Tally]
    revisions: Mapping[str, int]
    shed: int
    stopped: int

    def leg(self, name: str) -> Tally:
        """Return the counts of one leg, zeros if it has answered nothing."""
        return self.legs.get(name, Tally())

    @property
    def eks_share(self) -> float | None:
        """EKS's fraction of requests whose leg is known; None without any."""
        eks, heroku = self.leg("eks").requests, self.leg("heroku").requests
        return eks / (eks + heroku) if eks + heroku else None


class RecordLog:
    """The record of a load, read from its file as it grows. Safe for threads.

    Parameters
    ----------
    path
        The record file; it need not be there yet.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._offset = 0
        self._columns: dict[str, _Columns] = {}

    def records(self, host: str | None = None, since: float = -math.inf, until: float = math.inf) -> list[Record]:
        """Return finished requests that were due in ``[since, until)``, in that order.

        Parameters
        ----------
        host
            Only those to this host.
        since, until
            Span in unix seconds.

        """
        with self._lock:
            self._read_on()
            if host is None:
                chosen: Iterable[_Columns] = self._columns.values()
            else:
                chosen = filter(None, [self._columns.get(host)])
            found = [record for columns in chosen for record in columns.due(since, until)]
        found.sort(key=lambda record: record.at)
        return found

    def summary(
        self,
        host: str | None = None,
        since: float = -math.inf,
        until: float = math.inf,
        *,
        slow_s: float = math.inf,
    ) -> Summary:
        """Count finished requests that were due in ``[since, until)``.

        Parameters
        ----------
        host
            Only those to this host.
        since, until
            Span in unix seconds.
        slow_s
            Latency in seconds above which an answer counts as slow.

        """
        records = self.records(host, since, until)
        judged = [record for record in records if record.judged]
        legs: dict[str, list[Record]] = {}
        for record in judged:
            legs.setdefault(record.leg, []).append(record)
        return Summary(
            host=host,
            since=since,
            until=until,
            total=_tally(judged, slow_s),
            legs={leg: _tally(of_leg, slow_s) for leg, of_leg in sorted(legs.items())},
            revisions=dict(Counter(record.revision for record in judged if record.revision)),
            shed=sum(record.reason == "shed" for record in records),
            stopped=sum(record.reason == "stopped" for record in records),
        )

    def _read_on(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        # The last line may still be in the writing.
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            record = _read(line)
            self._columns.setdefault(record.host, _Columns(record.host)).add(record)


class _Columns:
    """Records of one host as arrays, in the order of their ends."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._at = array("d")
        self._end = array("d")
        self._latency = array("d")
        self._sent_latency = array("d")
        self._status = array("H")
        self._words = array("I")
        self._known: dict[tuple[str, str, str, str], int] = {}
        self._longest = 0.0

    def add(self, record: Record) -> None:
        words = (record.leg, record.revision, record.reason, record.answer)
        self._at.append(record.at)
        # Written in the order of their ends; rounding must not spoil it.
        end = record.at + record.latency
        self._end.append(max(end, self._end[-1]) if self._end else end)
        self._latency.append(record.latency)
        self._sent_latency.append(record.sent_latency)
        self._status.append(record.status)
        self._words.append(self._known.setdefault(words, len(self._known)))
        self._longest = max(self._longest, record.latency)

    def due(self, since: float, until: float) -> Iterator[Record]:
        known = list(self._known)
        first = bisect_left(self._end, since)
        last = bisect_right(self._end, until + self._longest + 0.001)
        for index in range(first, last):
            if since <= self._at[index] < until:
                leg, revision, reason, answer = known[self._words[index]]
                yield Record(
                    at=self._at[index],
                    host=self._host,
                    leg=leg,
                    revision=revision,
                    status=self._status[index],
                    reason=reason,
                    latency=self._latency[index],
                    sent_latency=self._sent_latency[index],
                    answer=answer,
                )


def _tally(records: Sequence[Record], slow_s: float) -> Tally:
    latencies = sorted(record.latency for record in records if record.status)
    return Tally(
        requests=len(records),
        failed=sum(record.failed for record in records),
        slow=sum(record.latency > slow_s and not record.failed for record in records),
        statuses=dict(sorted(Counter(record.status for record in records).items())),
        reasons=dict(Counter(record.reason for record in records if record.reason)),
        quantiles={q: _quantile(latencies, q) for q in (*QUANTILES, 1.0)} if latencies else {},
    )


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Return the smallest value that at least a fraction `q` does not exceed."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]
