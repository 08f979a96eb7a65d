"""Writes the report of each plan that ends into a ConfigMap, beside the plans' loops.

No decision waits for it. What cannot be written is told once, and the plan is as it would be without.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from cutover.domain.journal.reports import ended_by, report_name
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.ports.clock import Clock
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.ports.plans import Plans
from cutover.report.config_map import config_map
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
    plan: Plan
    name: str


class ReportWriter:
    """:class:`cutover.ports.reports.Reports` in ConfigMaps.

    Parameters
    ----------
    create
        Creates an object. Raises Conflict where it exists, Gone where its namespace does not, Unavailable.
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
        Reports that this process has written, and those that it could not write.
    """

    def __init__(
        self,
        create: Callable[[Json], Awaitable[object]],
        plans: Plans,
        history: Callable[[Record], Awaitable[Record]],
        clock: Clock,
        *,
        settle: float = SETTLE_SECONDS,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._create = create
        self._plans = plans
        self._history = history
        self._clock = clock
        self._settle = settle
        self._pauses = pauses
        self._seen: dict[str, object] = {}
        self._names: dict[str, str] = {}
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self.written = 0
        self.failed = 0

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
            self._waiting.put_nowait(_Waiting(plan, name))

    def forget(self, uid: str) -> None:
        """Forget a plan that was deleted; a report that waits is still written."""
        self._seen.pop(uid, None)
        self._names.pop(uid, None)

    async def run(self) -> None:
        """Write reports, one after the other. Never returns."""
        while True:
            one = await self._waiting.get()
            await asyncio.sleep(self._settle)
            try:
                await self._write(one)
            except Exception as fault:  # a bug: no plan may wait for it, and the next report may be made all the same
                log.exception("report not written", plan=one.plan.key)
                await self._say(one, f"a fault of the operator's: {type(fault).__name__}")
            finally:
                self._waiting.task_done()

    async def _write(self, one: _Waiting) -> None:
        plan = one.plan
        record = Record(plan, datetime.fromtimestamp(self._clock.now(), UTC))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HISTORY_SECONDS):
                record = await self._history(record)
        # It takes some hundredths of a second, for which no plan's loop should wait.
        texts = await asyncio.to_thread(documents, record)
        body = config_map(one.name, texts, plan=plan.name, namespace=plan.namespace, uid=plan.uid)
        problem = ""
        for pause in (0.0, *self._pauses):
            await asyncio.sleep(pause)
            try:
                await self._create(body)
            except Conflict:
                return  # an earlier process has written it, or this one, and the answer was lost
            except Gone:
                problem = f"the namespace {plan.namespace} does not exist any more"
                break
            except Unavailable as outage:
                problem = str(outage)
            else:
                self.written += 1
                log.info("report written", plan=plan.key, config_map=one.name)
                await self._plans.event(plan, "Normal", "Report", f"the report is in ConfigMap {one.name}")
                return
        await self._say(one, problem)

    async def _say(self, one: _Waiting, problem: str) -> None:
        self.failed += 1
        log.warning("report not written", plan=one.plan.key, config_map=one.name, problem=problem)
        message = (
            f"the report is not in ConfigMap {one.name}: {problem}; kubectl cutover report {one.plan.name} makes it"
        )
        await self._plans.event(one.plan, "Warning", "ReportNotWritten", message)
