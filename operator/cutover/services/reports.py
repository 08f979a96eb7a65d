"""Writes the report of each plan that ends into one or more stores, beside the plans' loops.

No decision waits for it. What cannot be written is told once, and the plan is as it would be without.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from cutover.domain.journal.reports import ended_by, report_name
from cutover.domain.plan import Plan
from cutover.ports.clock import Clock
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.ports.plans import Plans
from cutover.ports.reports import ReportStore
from cutover.report.documents import documents
from cutover.report.record import Record

log = structlog.get_logger("cutover")

#: A plan that ended longer ago had its report already, or its process ended; then people make it themselves. In seconds.
RECENT_SECONDS = 3600.0
#: Seconds for which a report waits, so that Prometheus has the last samples.
SETTLE_SECONDS = 30.0
#: Seconds before each further try.
PAUSES = (5.0, 60.0)
#: Seconds that Prometheus may take in all; a report is made without it, then.
HISTORY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A report that waits; ``due`` is a time of the monotonic clock, in seconds."""

    plan: Plan
    name: str
    due: float


class ReportWriter:
    """:class:`cutover.ports.reports.Reports` in stores.

    Parameters
    ----------
    stores
        Where each report is kept.
    plans
        Takes Events.
    history
        Adds to a record what Prometheus has.
    clock
        The wall clock.
    settle, pauses
        As :data:`SETTLE_SECONDS` and :data:`PAUSES`.

    Attributes
    ----------
    written, failed
        Reports that this process has written, and those that it could not write, by the kind of the store.
    """

    def __init__(
        self,
        stores: Sequence[ReportStore],
        plans: Plans,
        history: Callable[[Record], Awaitable[Record]],
        clock: Clock,
        *,
        settle: float = SETTLE_SECONDS,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._stores = tuple(stores)
        self._plans = plans
        self._history = history
        self._clock = clock
        self._settle = settle
        self._pauses = pauses
        self._seen: dict[str, object] = {}
        self._names: dict[str, str] = {}
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.written: Counter[str] = Counter({store.kind: 0 for store in self._stores})
        self.failed: Counter[str] = Counter({store.kind: 0 for store in self._stores})

    def tell(self, plan: Plan) -> None:
        """Note a stored status: a plan that has just ended waits for its report from now on."""
        ledger = plan.status.ledger
        if self._seen.get(plan.uid) is ledger:
            return
        self._seen[plan.uid] = ledger
        entry = ended_by(plan.status)
        if entry is None or not plan.has_spec or self._clock.now() - entry.at.timestamp() > RECENT_SECONDS:
            return
        name = report_name(plan.uid, plan.name, entry)
        if self._names.get(plan.uid) != name:
            self._names[plan.uid] = name
            self._waiting.put_nowait(_Waiting(plan, name, time.monotonic() + self._settle))

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; a report that waits is still written."""
        self._seen.pop(uid, None)
        self._names.pop(uid, None)

    async def run(self) -> None:
        """Write reports, one after the other. Never returns."""
        while True:
            one = await self._waiting.get()
            await asyncio.sleep(one.due - time.monotonic())  # those that waited behind others are due
            try:
                await self._write(one)
            except Exception as fault:  # a bug: no plan may wait for it, and the next report may be made all the same
                log.exception("report not written", plan=one.plan.key)
                for store in self._stores:
                    await self._say(store, one, _fault(fault))
            finally:
                self._waiting.task_done()

    async def _write(self, one: _Waiting) -> None:
        record = Record(one.plan, datetime.fromtimestamp(self._clock.now(), UTC))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HISTORY_SECONDS):
                record = await self._history(record)
        # It takes some hundredths of a second, for which no plan's loop should wait.
        texts = await asyncio.to_thread(documents, record)
        # Beside each other: one that is away keeps no other waiting.
        await asyncio.gather(*(self._keep(store, one, texts) for store in self._stores))

    async def _keep(self, store: ReportStore, one: _Waiting, texts: Mapping[str, str]) -> None:
        plan = one.plan
        problem = ""
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            try:
                await store.keep(plan, one.name, texts)
            except Conflict:
                return  # an earlier process has written it, or this one, and the answer was lost
            except Gone as gone:
                problem = str(gone)
                break
            except Unavailable as outage:
                problem = str(outage)
            except Exception as fault:  # a bug: the other stores may take the report all the same
                log.exception("report not written", plan=plan.key, store=store.kind)
                problem = _fault(fault)
                break
            else:
                self.written[store.kind] += 1
                log.info("report written", plan=plan.key, store=store.kind, report=one.name)
                await self._plans.event(plan, "Normal", "Report", f"the report is in {store.place(plan, one.name)}")
                return
        await self._say(store, one, problem)

    async def _say(self, store: ReportStore, one: _Waiting, problem: str) -> None:
        self.failed[store.kind] += 1
        log.warning("report not written", plan=one.plan.key, store=store.kind, report=one.name, problem=problem)
        place = store.place(one.plan, one.name)
        message = f"the report is not in {place}: {problem}; kubectl cutover report {one.plan.name} makes it"
        await self._plans.event(one.plan, "Warning", "ReportNotWritten", message)


def _fault(fault: Exception) -> str:
    return f"a fault of the operator's: {type(fault).__name__}"
