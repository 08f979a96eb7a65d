"""What was counted of one app since the process began.

Whatever a log says, the number of series that it becomes is bounded: what is beyond the bounds is counted as ``other``, and
has no gauges.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from cutover.drain.router_lines import Request

#: Upper bounds of the histograms in milliseconds: those of the mesh.
BOUNDS = (
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000
)  # fmt: skip
MOST_CODES = 300
MOST_DYNOS = 200
MOST_DYNO_EVENTS = 2000
MOST_ADD_ONS = 32
OTHER = "other"
#: Seconds after which a sample is no longer exported: its dyno or add-on is gone, or another replica gets its samples.
SAMPLE_SECONDS = 300.0
#: Codes whose time is not the app's: a connection's whole life, and a client that went away.
_UNTIMED = frozenset({"101", "499"})


class Times:
    """A histogram of milliseconds."""

    __slots__ = ("buckets", "shared", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        #: Places of the bounds up to which all is known; what was counted elsewhere may have had others.
        self.shared = frozenset(range(len(BOUNDS)))

    def add(self, milliseconds: int) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS, milliseconds)] += 1
        self.total += milliseconds

    def add_many(self, buckets: Iterable[tuple[int, int]], total: float, shared: frozenset[int]) -> None:
        """Count what was counted elsewhere: numbers by their place, their sum in milliseconds, and the bounds that both have."""
        for place, number in buckets:
            self.buckets[place] += number
        self.total += total
        self.shared &= shared


class Gauges:
    """The newest samples of an app's dynos, or of its add-ons of one kind."""

    __slots__ = ("_most", "_samples")

    def __init__(self, most: int) -> None:
        self._most = most
        self._samples: dict[str, dict[str, tuple[float, float]]] = {}

    def add(self, name: str, samples: Iterable[tuple[str, float]], at: float) -> None:
        """Keep samples, by their metrics, that came ``at`` seconds of a monotonic clock."""
        found = {metric: (value, at) for metric, value in samples}
        if name in self._samples:
            self._samples[name].update(found)
            return
        if len(self._samples) >= self._most:
            self._forget_old(at)
        if found and len(self._samples) < self._most:
            self._samples[name] = found

    def _forget_old(self, now: float) -> None:
        for name, samples in list(self._samples.items()):
            if all(now - at > SAMPLE_SECONDS for _, at in samples.values()):
                del self._samples[name]

    def current(self, now: float) -> list[tuple[str, str, float]]:
        """Return the name, the metric and the value of all samples that are not old."""
        return [
            (name, metric, value)
            for name, samples in list(self._samples.items())
            for metric, (value, at) in list(samples.items())
            if now - at <= SAMPLE_SECONDS
        ]


class AppCounts:
    """All counts of one app.

    Attributes
    ----------
    lines
        Messages, by what wrote them.
    size
        Bytes of the bodies.
    frames
        Requests of Logplex, by what became of them.
    dropped
        Messages that are not counted, by the reason; see :mod:`cutover.drain.frames`.
    late
        Messages that came more than a minute after they were written.
    requests
        Requests by code and error.
    answered
        Bytes of the answers.
    service, connect
        Times of requests.
    events
        Events of dynos, by dyno and event.
    releases
        Releases that were made, and the newest one's version.
    """

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self.size = 0
        self.frames: dict[str, int] = {"counted": 0, "duplicate": 0}
        self.dropped: dict[str, int] = {}
        self.late = 0
        self.requests: dict[tuple[str, str], int] = {}
        self.answered = 0
        self.service, self.connect = Times(), Times()
        self.dynos = Gauges(MOST_DYNOS)
        self.events: dict[tuple[str, str], int] = {}
        self.postgres, self.redis = Gauges(MOST_ADD_ONS), Gauges(MOST_ADD_ONS)
        self.releases = 0
        self.release_version = 0

    def add_request(self, request: Request) -> None:
        """Count a request."""
        code, error, connect, service, size = request
        self.count_requests(code, error, 1)
        self.answered += size
        if code in _UNTIMED:
            return
        if service is not None:
            self.service.add(service)
        if connect is not None:
            self.connect.add(connect)

    def count_requests(self, code: str, error: str, number: int) -> None:
        """Count requests of one status and error."""
        key = (code, error)
        if key not in self.requests and len(self.requests) >= MOST_CODES:
            key = (f"{code[0]}xx", OTHER)
        self.requests[key] = self.requests.get(key, 0) + number

    @staticmethod
    def is_timed(code: str) -> bool:
        """Tell whether the times of requests with a status say anything."""
        return code not in _UNTIMED

    def add_event(self, dyno: str, event: str) -> None:
        """Count an event of a dyno."""
        key = (dyno, event)
        if key not in self.events and len(self.events) >= MOST_DYNO_EVENTS:
            key = (OTHER, event)
        self.events[key] = self.events.get(key, 0) + 1

    def add_dropped(self, reason: str, number: int) -> None:
        """Count messages that are lost to the record."""
        if number > 0:
            self.dropped[reason] = self.dropped.get(reason, 0) + number
