"""Takes the frames of Logplex: counts each once, and says what is lost to the record.

Logplex sends a frame again where it saw no answer, under the same id and maybe with other losses in its first message (L10 is
made anew at each try). A frame is marked as seen once it is counted; so it may come again whatever happened to the first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from cutover.drain.counts import AppCounts
from cutover.drain.faults import place_of
from cutover.drain.framing import BrokenFrame, messages
from cutover.drain.messages import LOGPLEX, count_message, told_loss, written_at
from cutover.drain.otlp_points import Counted, Names, Totals, count_export

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

#: Frames that are remembered, for all apps. Retries follow at once; at a thousand frames a second this is half a minute.
MOST_SEEN = 32_768
#: Messages that are believed to be in a frame that was not read; Logplex buffers 1,024.
MOST_BELIEVED = 2048
#: Messages of a frame that are read, with room to spare; empty ones of three bytes each would take seconds of all apps' time.
MOST_READ = 4096
#: Seconds after which a message counts as late.
LATE_SECONDS = 60.0
#: Reasons for which messages are not counted, besides Logplex' L10 to L13, UNREADABLE, and those of a refusal.
BROKEN, FAULT = "broken", "fault"
OVERFLOW = "L10"

log = structlog.get_logger("cutover.drain")


class Refusal(StrEnum):
    """Why a request is not taken, as the metrics name it."""

    CREDENTIALS = "credentials"
    DRAIN_TOKEN = "drain_token"
    CONTENT = "content"
    TOO_LARGE = "too_large"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Frame:
    """A request of Logplex.

    Parameters
    ----------
    identity
        ``Logplex-Frame-Id``; a frame with ``""`` is counted whenever it comes.
    count
        ``Logplex-Msg-Count``; ``None`` where it does not say.
    body
        The messages.
    """

    identity: str
    count: int | None
    body: bytes


class Record:
    """The counts of all apps.

    Parameters
    ----------
    now, monotonic
        The time in Unix seconds, and seconds of a clock that nobody sets.

    Attributes
    ----------
    apps
        Counts by the app's name; ``""`` has what belongs to no known app.
    refused
        Requests that were refused, by the reason.
    monotonic
        The second clock, by which samples grow old.
    """

    def __init__(self, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._now = now
        self.monotonic = monotonic
        self.apps: dict[str, AppCounts] = {}
        self.refused: dict[Refusal, int] = dict.fromkeys(Refusal, 0)
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()  # the losses that a frame told of
        self._began = int(now() * 1e9)
        self._totals: dict[str, Totals] = {}

    def of(self, app: str) -> AppCounts:
        """Return the counts of an app."""
        counts = self.apps.get(app)
        if counts is None:
            counts = self.apps[app] = AppCounts()
        return counts

    def refuse(self, app: str, reason: Refusal, count: int | None) -> None:
        """Count a request that was refused, and the messages that it said to have.

        Parameters
        ----------
        app
            The app whose drain token it has; ``""`` for none.
        reason
            Why it was refused.
        count
            Its ``Logplex-Msg-Count``.
        """
        self.refused[reason] += 1
        self.of(app).add_dropped(reason, min(count or 0, MOST_BELIEVED))

    def take(self, app: str, frame: Frame) -> None:
        """Count a frame, unless it was counted before. It does not fail, whatever the body is."""
        counts = self.of(app)
        key = (app, frame.identity)
        if frame.identity and key in self._seen:
            counts.frames["duplicate"] += 1
            overflow = _overflow(frame.body)
            if overflow > self._seen[key]:
                counts.add_dropped(OVERFLOW, overflow - self._seen[key])
                self._seen[key] = overflow
            return
        self._count(app, counts, frame)
        counts.frames["counted"] += 1
        if frame.identity:
            self._remember(key, _overflow(frame.body))

    def take_export(self, app: str, body: bytes, export: ExportMetricsServiceRequest, names: Names) -> int:
        """Count an export of OTLP, unless it was counted before: its sender sends the same bytes again without an answer.

        It does not fail, whatever the export is.

        Parameters
        ----------
        app
            The app whose drain token it has.
        body, export
            Its bytes, and what they say.
        names
            Names of the router's metrics.

        Returns
        -------
        int
            Points that are not counted.
        """
        counts = self.of(app)
        key = (app, "otlp:" + hashlib.blake2b(body, digest_size=16).hexdigest())
        if key in self._seen:
            counts.frames["duplicate"] += 1
            return 0
        totals = self._totals.setdefault(app, Totals(self._began))
        found = Counted(refused=1)
        try:
            found = count_export(export, names, counts, totals, self.monotonic())
        except Exception as error:  # noqa: BLE001  # as for a frame
            log.error("an export cannot be counted", fault=place_of(error), app=app)  # noqa: TRY400
            counts.add_dropped(FAULT, 1)
        counts.frames["counted"] += 1
        counts.size += len(body)
        if found.points and self._now() - found.newest / 1e9 > LATE_SECONDS:
            counts.late += found.points
        self._remember(key, 0)
        return found.refused

    def _remember(self, key: tuple[str, str], overflow: int) -> None:
        self._seen[key] = overflow
        if len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)

    def _count(self, app: str, counts: AppCounts, frame: Frame) -> None:
        at, read, reason = self.monotonic(), 0, ""
        oldest: float | None = None
        counts.size += len(frame.body)
        try:
            for message in messages(frame.body):
                if read == MOST_READ:
                    reason = BROKEN
                    break
                kind = count_message(message, counts, at)
                read += 1
                if oldest is None and kind is not LOGPLEX:
                    oldest = written_at(message)
        except BrokenFrame:
            reason = BROKEN
        except Exception as error:  # noqa: BLE001
            # A fault of this program. Logplex would send the frame twice more and then drop it, so it is told as lost.
            log.error("a frame cannot be counted", fault=place_of(error), app=app)  # noqa: TRY400
            reason = FAULT
        missing = min(frame.count or 0, MOST_BELIEVED) - read
        # Where something was not read, at least one message is lost, whatever the frame's count says.
        counts.add_dropped(reason or BROKEN, max(1, missing) if reason else missing)
        if oldest is not None and self._now() - oldest > LATE_SECONDS:
            counts.late += read


def _overflow(body: bytes) -> int:
    """Return how many messages Logplex has dropped by a frame's first message (L10)."""
    try:
        first = next(messages(body), b"")
    except BrokenFrame:
        return 0
    loss = told_loss(first)
    return loss[1] if loss is not None and loss[0] == OVERFLOW else 0
