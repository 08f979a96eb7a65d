"""Sends notifications beside the plans' loops: a queue and a task for each receiver, with retries.

A receiver that is slow, hangs or fails delays neither a decision nor another receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, assert_never

import structlog

from cutover.adapters.notify.cloudevents import CloudEventsFormat
from cutover.adapters.notify.slack import SlackFormat
from cutover.adapters.notify.transport import Answer, Message, NotSentError, Transport, answer_of
from cutover.domain.journal.notifications import Notice, Wanted
from cutover.domain.journal.outbox import FIRST_RETRY_SECONDS, Batch, Outbox, Throttle
from cutover.domain.journal.reports import NO_LINKS, ReportLinks
from cutover.domain.plan import Plan
from cutover.settings import Receiver, ReceiverKind

#: Seconds after which delivered notifications are written into the status, if no other write came.
REMEMBER_SECONDS = 60.0
#: Seconds for which a sender pauses after a bug raised an exception.
FAULT_PAUSE_SECONDS = 30.0
#: Faults in a row after which the notices that were to be sent are dropped, as they may be what causes them.
MOST_FAULTS = 3

log = structlog.get_logger("cutover")


class Format(Protocol):
    """The message format of one kind of receiver."""

    @property
    def digests(self) -> bool:
        """Whether one message may cover many notices."""

    def write(self, batch: Batch) -> Message:
        """Return the message for a batch."""

    def reason(self, said: str) -> str:
        """Return the part of an error's body that may be logged; ``""`` for none."""


def format_of(receiver: Receiver) -> Format:
    """Return the message format of a receiver."""
    match receiver.kind:
        case ReceiverKind.SLACK:
            return SlackFormat(receiver.template)
        case ReceiverKind.CLOUD_EVENTS:
            return CloudEventsFormat(receiver.mode, receiver.source)
        case _:
            assert_never(receiver.kind)


class HttpNotifier:
    """:class:`cutover.ports.notifier.Notifier` over HTTP.

    Parameters
    ----------
    receivers
        Receivers from the settings; may be empty.
    first_retry
        Seconds until a failed request is first repeated.
    reports
        Where the reports of plans that end are kept, which notifications then name.
    """

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        first_retry: float = FIRST_RETRY_SECONDS,
        reports: ReportLinks = NO_LINKS,
    ) -> None:
        self._senders = [_Sender(one, first_retry, reports) for one in receivers]
        self._seen: dict[str, object] = {}

    @property
    def senders(self) -> Mapping[str, Outbox]:
        """The queues by the receiver's name."""
        return {sender.name: sender.outbox for sender in self._senders}

    def tell(self, plan: Plan, told: Mapping[str, str]) -> None:
        """Queue the ledger's new entries; cheap where it has none."""
        ledger = plan.status.ledger
        if not self._senders or self._seen.get(plan.uid) is ledger:
            return
        self._seen[plan.uid] = ledger
        for sender in self._senders:
            known = told.get(sender.name)
            sender.outbox.tell(plan.uid, plan.namespace, plan.name, plan.status, known, time.monotonic())
            sender.wake()

    def told(self, uid: str) -> dict[str, str]:
        """Return the last entry of a plan that each receiver got, by the receiver's name."""
        keys = {sender.name: sender.outbox.told(uid) for sender in self._senders}
        return {name: key for name, key in keys.items() if key is not None}

    def overdue(self, uid: str, told: Mapping[str, str]) -> float | None:
        """Return the seconds until the status should remember it; ``None`` where it remembers all."""
        since = [sender.outbox.owed_since(uid, told.get(sender.name)) for sender in self._senders]
        owed = [one for one in since if one is not None]
        return max(min(owed) + REMEMBER_SECONDS - time.monotonic(), 0.0) if owed else None

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; queued notifications are still sent."""
        self._seen.pop(uid, None)
        for sender in self._senders:
            sender.outbox.forget(uid)

    def start(self) -> None:
        """Start sending."""
        for sender in self._senders:
            sender.start()

    async def close(self) -> None:
        """Stop at once. The next process sends the rest, which it finds in the plans' ledgers."""
        for sender in self._senders:
            await sender.close()


class _Sender:
    """Sends to one receiver, one request at a time."""

    def __init__(self, receiver: Receiver, first_retry: float, reports: ReportLinks) -> None:
        self.name = receiver.name
        self._format = format_of(receiver)
        self._transport = Transport(receiver)
        self.outbox = Outbox(
            Wanted(receiver.namespaces, receiver.severities, receiver.reasons),
            Throttle(receiver.throttle.burst, receiver.throttle.every),
            digests=self._format.digests,
            first_retry=first_retry,
            reports=reports,
        )
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._faults = 0

    def wake(self) -> None:
        self._news.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"notify-{self.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._transport.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception as fault:  # noqa: BLE001
                # A bug. Its text and its trace are not logged: either may quote an address.
                self._say(f"a fault of the operator's: {type(fault).__name__}")
                self._faults += 1
                if self._faults < MOST_FAULTS:
                    self.outbox.later(time.monotonic(), random.random())
                else:
                    self._faults = 0
                    self.outbox.unsendable(range(self.outbox.under_way), time.monotonic())
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _turn(self) -> None:
        self._news.clear()
        todo = self.outbox.next(time.monotonic())
        if not isinstance(todo, Batch):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), todo)
            return
        message = self._written(todo)
        if message is None:
            return
        answer, rest, problem = await self._send(message)
        self._faults = 0
        now = time.monotonic()
        match answer:
            case Answer.TAKEN:
                self.outbox.taken(todo, now)
                self._say("")
            case Answer.REFUSED:
                self.outbox.refused(now)
                self._say(f"{problem}; what it refuses is not sent again")
            case Answer.LATER:
                self.outbox.later(now, random.random(), rest)
                self._say(f"{problem}; it is tried again")

    def _written(self, batch: Batch) -> Message | None:
        """Return the message for a batch; ``None`` if there is none. Then the notices that are to blame are dropped.

        What stands in one plan's notice must not hold up the notices of all others.
        """
        try:
            return self._format.write(batch)
        except Exception as fault:
            reason = type(fault).__name__  # the text may quote what is to be sent
            blamed = [number for number, notice in enumerate(batch.notices) if not self._can_write(notice)]
            if not blamed:
                raise
        plans = sorted({f"{batch.notices[number].namespace}/{batch.notices[number].plan}" for number in blamed})
        log.error("notices dropped: no message can be made of them", receiver=self.name, plans=plans, reason=reason)
        self.outbox.unsendable(blamed, time.monotonic())
        return None

    def _can_write(self, notice: Notice) -> bool:
        try:
            self._format.write(Batch((notice,)))
        except Exception:  # noqa: BLE001
            return False
        return True

    async def _send(self, message: Message) -> tuple[Answer, float | None, str]:
        """Send one request; return the result, the pause that the receiver asks for in seconds, and the problem in words."""
        try:
            response = await self._transport.post(message)
        except NotSentError as error:
            return Answer.LATER, None, str(error)
        reason = self._format.reason(response.said)
        problem = f"it answered HTTP {response.status}" + (f": {reason}" if reason else "")
        return answer_of(response.status), response.rest, problem

    def _say(self, problem: str) -> None:
        """Log changes, not every attempt."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            log.warning("not notified", receiver=self.name, problem=problem, waiting=self.outbox.waiting)
        else:
            log.info("notified again", receiver=self.name, waiting=self.outbox.waiting)
